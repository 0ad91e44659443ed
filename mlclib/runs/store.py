"""Run folders: one training of one configuration with one seed, kept so that it proves itself whole.

A run folder holds run.yaml (what was run, on what, when), history.csv, weights.safetensors, predictions.npz,
metrics.json and, written last, manifest.json with the SHA-256 of each of them.  A run is finished when its
manifest verifies; until then checkpoints in the same folder let it go on where it stopped.
"""

import datetime
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mlclib.common.errors import UserError
from mlclib.common.files import sha256, sha256_once, write_text, written_whole
from mlclib.metrics import scores as metrics

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML was built with libyaml
ACCEPTED = "accepted.json"
CODE = "code.json"  # what the checkpoints of an unfinished run rest on
FILES = ("run.yaml", "history.csv", "weights.safetensors", "predictions.npz", "validation.npz", "metrics.json")


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, read back.

    logits float32 [N, C] by selection: "last" and, where kept, "best_val" (the epoch with the best validation mAP),
    "best_test" (with the best test mAP) and "ema" (averaged weights); targets int8 [N, C].
    about is run.yaml: configuration, seed, labels, provenance.
    """

    folder: Path
    about: dict[str, Any]
    names: list[str]
    logits: dict[str, np.ndarray]
    targets: np.ndarray

    @property
    def seed(self) -> int:
        return self.about["seed"]

    @property
    def labels(self) -> list[str]:
        return self.about["labels"]

    @property
    def history(self) -> pd.DataFrame:
        """history.csv: one row per epoch."""
        return pd.read_csv(self.folder / "history.csv")

    @property
    def validation(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Logits float32 [N, C] of the last epoch and targets of the validation images; None where there are none."""
        path = self.folder / "validation.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            return file["logits_last"], file["targets"]


def finished(folder: Path) -> bool:
    """Whether the run's manifest is there and the checksum of each of its files holds."""
    return not damaged(folder)


def damaged(folder: Path) -> list[str]:
    """The files of a run that are missing or do not have the checksum of its manifest; the manifest where it is not
    there.
    """
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["manifest.json"]
    paths = {folder / name: digest for name, digest in sums.items()}
    return [path.name for path, digest in paths.items() if not path.exists() or sha256_once(path) != digest]


def read(folder: str | Path, part: str = "predictions") -> FinishedRun:
    """A finished run. Raises UserError where the folder holds none, or one that is damaged.

    part: "predictions", those on the test images, or "validation"; the file of the other is not opened.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no run folder {folder}: those of this disk are results/runs/*/*/seed-*")
    if not finished(folder):
        raise UserError(
            f"{folder} holds no finished run (its manifest.json is missing or does not verify): train it again"
        )
    with np.load(folder / f"{part}.npz", allow_pickle=False) as file:
        logits = {key.removeprefix("logits_"): file[key] for key in file.files if key.startswith("logits_")}
        return FinishedRun(folder, about(folder), file["names"].tolist(), logits, file["targets"])


def about(folder: Path) -> dict[str, Any]:
    """What a finished run says of itself (run.yaml), and as which code's it was accepted since."""
    record = yaml.load((folder / "run.yaml").read_text(encoding="utf-8"), _Loader)
    if (folder / ACCEPTED).exists():
        record["accepted"] = json.loads((folder / ACCEPTED).read_text(encoding="utf-8"))
    return record


def provenance(run: FinishedRun) -> dict[str, Any]:
    """How the run was made: checksum of its manifest, seed, commit and whether files differed from it, checksums of the
    lock file (None in runs that did not record it) and of the data, device; of predictions from outside their file.
    """
    if "external" in run.about:
        return {"external": run.about["external"], "checksum": sha256(run.folder)}
    about = run.about
    commit, changed, _ = about["commit"].partition("+")
    return {
        "manifest": sha256(run.folder / "manifest.json"),
        "seed": about["seed"],
        "commit": commit,
        "changed": bool(changed),
        "lock": about.get("lock"),
        "data": about["data"]["checksum"],
        "device": device(about),
    }


def device(about: dict[str, Any]) -> str:
    """What a run (its run.yaml) was made on: its GPUs, else the processor."""
    hardware = about["hardware"]
    return ", ".join(hardware.get("gpus", ())) or hardware.get("processor") or hardware.get("machine", "unknown")


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def beside(folder: Path) -> Path:
    """Where a finished run is trained anew, which stays until the new one is whole."""
    return folder.with_name(f".{folder.name}.new")


def begin(folder: Path, code: dict[str, str]) -> None:
    """Create the folder of a run that is to be trained, and delete checkpoints there that other code wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / CODE
    if not note.exists() or json.loads(note.read_text(encoding="utf-8")) != code:
        for checkpoint in folder.glob("checkpoint-*"):
            checkpoint.unlink()
        write_text(note, json.dumps(code))


def replace(folder: Path) -> None:
    """Put the run trained beside `folder` in its place, if it is whole."""
    if finished(beside(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        beside(folder).rename(folder)


def write_predictions(path: Path, names: list[str], targets: np.ndarray, **logits: np.ndarray) -> None:
    """predictions.npz: names [N], targets int8 [N, C], and logits_<selection> float32 [N, C] for each selection."""
    with written_whole(path) as part, open(part, "wb") as file:
        arrays = {f"logits_{key}": np.asarray(value, np.float32) for key, value in logits.items()}
        np.savez_compressed(file, names=np.array(names), targets=targets.astype(np.int8), **arrays)


def write_run(folder: Path, about: dict[str, Any], scores: dict[str, Any]) -> None:
    """Write run.yaml and metrics.json, then the manifest that makes the run finished.

    Its checkpoints, and what a kill in the middle of a write left, are dropped last.
    """
    write_text(folder / "run.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    write_text(folder / "metrics.json", json.dumps(scores, indent=1))
    present = [name for name in FILES if (folder / name).exists()]
    write_text(folder / "manifest.json", json.dumps({name: sha256(folder / name) for name in present}, indent=1))
    for left in (*folder.glob("checkpoint-*"), *folder.glob(".*.part"), folder / CODE):
        left.unlink(missing_ok=True)


def score(logits: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """The default protocol's scores as plain numbers: over all labels, and "top3"."""

    def plain(scores: dict[str, Any]) -> dict[str, Any]:
        return {key: np.asarray(value).tolist() for key, value in scores.items()}

    return {**plain(metrics.evaluate(logits, targets)), "top3": plain(metrics.evaluate(logits, targets, top=3))}
