"""Notebooks run headless: parameters checked, the executed copy kept, a failure in one sentence."""

import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlclib import config
from mlclib.common.errors import UserError, unknown


def declared(path: Path) -> dict[str, Any]:
    """The parameters that a notebook's cell tagged `parameters` declares, with their defaults."""
    if not path.is_file():
        raise unknown("notebook", path, Path("notebooks").glob("*.ipynb"))
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            values: dict[str, Any] = {}
            exec("".join(cell["source"]), {}, values)
            return values
    raise UserError(f"{path} has no cell tagged 'parameters'")


def check(path: Path, parameters: Iterable[str]) -> None:
    """Raise UserError for a parameter that the notebook does not declare, naming those it does."""
    known = declared(path)
    for key in parameters:
        if key not in known:
            raise unknown("parameter", key, known, where=f"notebook {path.stem}")


def parameters(path: Path, pairs: list[str]) -> dict[str, Any]:
    """["name=value", ...] as parameters of a notebook: a text where its default is one, as 2007, and else read as YAML.

    Raises UserError for a parameter that the notebook does not declare, and for a pair without '='.
    """
    given = config.parse_overrides(pairs, [key for key, default in declared(path).items() if isinstance(default, str)])
    check(path, given)
    return given


def execute(path: Path, copy: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook with papermill; its executed copy stays at `copy`, also when a cell fails.

    Raises UserError naming an unknown parameter, or the failed cell, its error and the copy that shows it.
    """
    check(path, parameters)
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
