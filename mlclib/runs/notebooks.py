"""Notebooks: what each declares of itself, its parameters, and how one runs headless."""

import json
import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlclib import config
from mlclib.common.errors import UserError, check_name, unknown
from mlclib.common.validation import Strict, validated

FOLDER = Path("notebooks")


@dataclass(frozen=True)
class Declaration(Strict):
    """What a notebook says of itself under `mlclib` in its metadata, and what the plan of jobs follows.

    over: one job per experiment, per model, per ablation axis, per model whose attention is shown, or per experiment
    that asks for causes.
    reads: what it rests on besides the data: "runs" (of its models), "variants" (of its axis, or of all), "trials" (of
    a tuning), "external" (predictions from outside), "attention" or "causes" (that part of the configuration), "model
    code".
    from_predictions: its tables follow from predictions alone, so that `verify` can compute them again.
    all_threads: it computes passes through models, and is given all threads of a run.
    """

    over: Literal["experiment", "model", "axis", "attended model", "causes"]
    reads: tuple[Literal["runs", "variants", "trials", "external", "attention", "causes", "model code"], ...] = ()
    from_predictions: bool = False
    all_threads: bool = False


def declared(path: Path) -> Declaration | None:
    """What the notebook declares; None for one that takes no part in experiments.

    Raises UserError for a key or value that a declaration does not have.
    """
    metadata = _read(path)["metadata"].get("mlclib")
    return None if metadata is None else validated(Declaration, metadata, f"metadata.mlclib of {path}")


def parameters_of(path: Path) -> dict[str, Any]:
    """The parameters that a notebook's cell tagged `parameters` gives, with their defaults."""
    for cell in _read(path)["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            values: dict[str, Any] = {}
            exec("".join(cell["source"]), {}, values)
            return values
    raise UserError(f"{path} has no cell tagged 'parameters'")


def check_parameters(path: Path, names: Iterable[str]) -> None:
    """Raise UserError for a parameter that the notebook does not have, naming those it does."""
    defaults = parameters_of(path)
    for name in names:
        check_name("parameter", name, defaults, f"notebook {path.stem}")


def parse_parameters(path: Path, pairs: list[str]) -> dict[str, Any]:
    """["name=value", ...] as parameters of a notebook: a text where its default is one, as 2007, and else read as YAML.

    Raises UserError for a pair without '='.
    """
    texts = [name for name, default in parameters_of(path).items() if isinstance(default, str)]
    return config.parse_overrides(pairs, texts)


def execute(path: Path, copy: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook with papermill; its executed copy stays at `copy`, also when a cell fails.

    Raises UserError naming an unknown parameter, or the failed cell, its error and the copy that shows it.
    """
    check_parameters(path, parameters)
    import papermill  # after the checks, which need not wait for it
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    logging.getLogger("traitlets").setLevel(logging.ERROR)
    copy.parent.mkdir(parents=True, exist_ok=True)
    options = {"progress_bar": False, "log_output": True, "autosave_cell_every": 0, "start_timeout": 300}
    # To end a kernel it is interrupted first, which it calls an error if it has not yet come to rest.
    options["extra_arguments"] = ["--IPKernelApp.log_level=CRITICAL"]
    try:
        # Sockets in a folder of its own: over TCP, the default, a kernel warns that others may listen.
        with tempfile.TemporaryDirectory() as sockets:
            manager = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            papermill.execute_notebook(path, copy, parameters, **options, config=Config(KernelManager=manager))
    except DeadKernelError:
        raise UserError(
            f"notebook {path.stem} broke off, its kernel was killed (is there enough memory?) -- its executed copy, up "
            f"to where it came, is {copy}"
        ) from None
    except papermill.exceptions.PapermillExecutionError as error:
        last = error.evalue.strip().splitlines()[-1] if error.evalue.strip() else ""
        raise UserError(
            f"notebook {path.stem} failed in cell [{error.exec_count}] with {error.ename}: {last} -- "
            f"its executed copy with the whole error is {copy}"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise unknown("notebook", path, FOLDER.glob("*.ipynb"))
    return json.loads(path.read_text(encoding="utf-8"))
