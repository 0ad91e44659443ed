"""One run of an experiment: one training of one configuration with one seed, resolved once.

`Study.runs` makes these objects; plan, check, tuning and verify read them. Nothing else derives a folder or a state.
"""

import glob
import inspect
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlclib import models
from mlclib.common import sources
from mlclib.common.errors import UserError
from mlclib.common.files import sha256, write_text
from mlclib.config import RunConfig
from mlclib.runs import store

RUN_CODE = ("mlclib.training.trainer", "mlclib.training.inputs", "mlclib.transforms")  # with its model's own file
MAPS_CODE = ("mlclib.training.features", "mlclib.transforms")  # what cached layer maps rest on
# No part of a run's result: scores are computed anew from its predictions, the configuration names its folder.
SCORED_LATER = ("mlclib.metrics.scores", "mlclib.config", "mlclib.config.schema", *sources.NO_RESULT)


@dataclass(frozen=True)
class Run:
    """A run that an experiment asks for. What it says of its state is read from the disk each time.

    name: "msrn layers 4 seed 0". model: the experiment's name for its model.
    """

    name: str
    model: str
    configuration: RunConfig
    seed: int
    folder: Path

    @property
    def code(self) -> dict[str, str]:
        """The code and the versions of packages that the result rests on: {file or package: digest or version}."""
        return run_code(self.configuration.model, self.configuration.backbone.frozen)

    @property
    def finished(self) -> bool:
        """Whether the run's manifest is there and the checksum of each of its files holds."""
        return store.finished(self.folder)

    @property
    def changes(self) -> list[str]:
        """What of the code changed since the run was trained or accepted; none where it is not finished."""
        if not self.finished:
            return []
        about = store.about(self.folder)
        accepted = (one["code"] == self.code for one in about.get("accepted", ()))
        return [] if any(accepted) else sources.changes(about["code"], self.code)

    @property
    def reasons(self) -> list[str]:
        """Why the run is to be trained; none where it is current."""
        return self.changes if self.finished else ["it is not trained"]

    def accept(self) -> list[str]:
        """Take the run as current although the code changed; the run says so. The changes that were accepted."""
        if changes := self.changes:
            before = store.about(self.folder).get("accepted", [])
            accepted = {"code": self.code, "reasons": changes, "when": store.now()}
            write_text(self.folder / store.ACCEPTED, json.dumps([*before, accepted], indent=1))
        return changes


@cache
def run_code(model: str, frozen: bool) -> dict[str, str]:
    """What the result of a run of this model rests on: {file or package: digest or version}.

    How scores are computed is not among it: they are computed anew from the predictions.
    """
    module = models.find(model).__module__
    code = sources.code_digests(*RUN_CODE, module, *(MAPS_CODE if frozen else ()), without=SCORED_LATER)
    if not module.startswith("mlclib."):  # a class of the user's own
        file = Path(inspect.getsourcefile(models.find(model)))
        code[file.name] = sources.digest(file.read_text(encoding="utf-8"))
    return code


def starts(pattern: str) -> list[Path]:
    """The finished runs that `training.init` names, as a folder or a pattern."""
    return [Path(path) for path in sorted(glob.glob(pattern)) if store.finished(Path(path))]


def start_of(pattern: str) -> Path:
    """The one finished run that `training.init` names. Raises UserError where there is none, or several."""
    folders = starts(pattern)
    if not folders:
        raise UserError(
            f"training.init {pattern!r} matches no finished run: train one first (make reproduce EXPERIMENT=NAME)"
        )
    if len(folders) > 1:
        listed = "; ".join(f"{folder} of experiment {store.about(folder)['experiment']}" for folder in folders)
        raise UserError(f"training.init {pattern!r} matches {len(folders)} finished runs, name one of them: {listed}")
    return folders[0]


def content(weights: str | None) -> str | None:
    """A file of weights by its content, a named source by its name."""
    return sha256(weights) if weights and Path(weights).is_file() else weights
