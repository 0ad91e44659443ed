"""Experiments: one YAML file each, checked whole before anything runs.

An experiment names a data set, a backbone, models with their options, a training recipe, seeds and ablation axes.
`include: FILE` (or a list) is read first and overlaid key by key. An unknown name or a value of a wrong type or range
is one sentence that names the file and the key; so is one of the data set, of a model, or of a value of an axis.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlclib.common import yaml_files
from mlclib.common.errors import UserError, unknown
from mlclib.common.validation import validated
from mlclib.config.schema import Attention, Backbone, Experiment, Model, Range, RunConfig, Training, Tuning

__all__ = [
    "FOLDER", "TUNED", "Attention", "Backbone", "Experiment", "Model", "Range", "RunConfig", "Training", "Tuning",
    "digest", "file_of", "load", "parse_overrides",
]  # fmt: skip

FOLDER = Path("experiments")
TUNED = "_tuned_"  # begins the name of a file of settings that an experiment with `tuning` chose


def load(name: str | Path, overrides: dict[str, Any] | None = None) -> Experiment:
    """Read the experiment `name` (of experiments/, or a YAML file's path) and check every key and value.

    overrides: dotted keys and values laid over the file ("training.epochs": 3).
    Raises UserError naming the file and key for whatever is unknown, missing, of a wrong type or out of range.
    """
    from mlclib.config import checks  # imports torch, which a mistake in the file need not wait for

    path = file_of(name)
    tree = yaml_files.read(path)
    for key, value in (overrides or {}).items():
        tree = yaml_files.overlay(tree, yaml_files.nested(key, value))
    tree = {key: value for key, value in tree.items() if value is not None}
    if "name" in tree:
        raise UserError(f"{path} has the key 'name', but an experiment is named as its file; write a title instead")
    if isinstance(tree.get("models"), dict):
        tree["models"] = {model: {} if own is None else own for model, own in tree["models"].items()}
    experiment = validated(Experiment, {**tree, "name": path.stem}, str(path))
    checks.check(experiment, path)
    return experiment


def file_of(name: str | Path) -> Path:
    """The YAML file of the experiment `name`, which may be that file's path. Raises UserError where there is none."""
    given = Path(name)
    path = given if given.suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if path.is_file():
        return path
    if path == given:
        raise UserError(f"there is no file {path}: give the path of a YAML file or a name of experiments/")
    raise unknown("experiment", name, (p.stem for p in FOLDER.glob("[!_]*.yaml")))


def parse_overrides(pairs: list[str], texts: Collection[str] = ()) -> dict[str, Any]:
    """["training.epochs=3", ...] as a mapping, values read as YAML, but for the keys of `texts`, which hold any text.

    Raises UserError for a pair without '='.
    """
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes key=value, not {pair!r}; for example --set training.epochs=3")
    split = [pair.split("=", 1) for pair in pairs]
    return {key: value if key in texts else yaml_files.parse(value, f"--set {key}") for key, value in split}


def digest(plain: Any) -> str:
    """8 hexadecimal digits that stand for `plain` (JSON data) and change with any of its values."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]
