"""Experiments: one YAML file each, checked whole before anything runs.

An experiment names a data set, a backbone, models with their options, a training
recipe, seeds and ablation axes.  `include: FILE` (or a list) is read first and
overlaid key by key.  Every unknown key, and every value of a wrong kind, is one
sentence that names the file and the keys that are known.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlclib.errors import UserError, unknown

FOLDER = Path("experiments")


@dataclass(frozen=True)
class Backbone:
    """A timm backbone. weights: "offline", "pretrained", a file, or null for random; frozen: its maps are cached."""

    name: str = "resnet101"
    weights: str | None = "pretrained"
    frozen: bool = False


@dataclass(frozen=True)
class Training:
    """One training recipe; the defaults are those of a small head on a frozen backbone."""

    epochs: int = 12
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    backbone_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "one-cycle"
    step_epochs: tuple[int, ...] = ()
    step_factor: float = 0.1
    loss: str = "soft-margin"
    augmentation: str = "none"
    precision: str = "float32"
    evaluation_precision: str = "float32"
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    workers: int = 0
    checkpoint_epochs: int = 1
    deterministic: bool = True
    tensorboard: bool = False
    init: str | None = None
    threads: int | None = None


CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "step", "cosine", "one-cycle"),
    "loss": ("soft-margin", "asymmetric"),
    "augmentation": ("none", "msrn", "dsdl"),
    "precision": ("float32", "bfloat16", "float16"),
    "evaluation_precision": ("float32", "bfloat16", "float16"),
}

# What changes how long a run takes or what it leaves behind, and never its result.
NOT_IN_IDENTITY = ("workers", "checkpoint_epochs", "tensorboard")


@dataclass(frozen=True)
class Attention:
    """What 04_attention shows: of which models (null: all of the experiment's), test images by row, how many images are
    scored against their boxes, and on how many maps are tried by deletion and insertion.
    """

    models: tuple[str, ...] | None = None
    images: tuple[int, ...] = (0, 1, 2, 3)
    scored: int = 200
    tried: int = 16


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's result depends on, but its seed."""

    dataset: dict[str, Any]
    input_size: int
    backbone: Backbone
    label_vectors: str
    cooccurrence: str
    model: str
    options: dict[str, Any]
    training: Training

    def identity(self) -> dict[str, Any]:
        """The configuration as plain data, without what cannot change the result (where data lies, workers, ...)."""
        plain = dataclasses.asdict(self)
        plain["dataset"] = {k: v for k, v in plain["dataset"].items() if k != "root"}
        for key in NOT_IN_IDENTITY:
            del plain["training"][key]
        return json.loads(json.dumps(plain))


@dataclass(frozen=True)
class Experiment:
    """One experiment file, read and checked.

    label_vectors: a source of labels.vectors, or a *_glove_word2vec.pkl of the authors; cooccurrence: "train" (counted
    on the training split) or a *_adj.pkl of the authors. exclude: images, by name, that are not used. notes: sentences
    for the captions.
    """

    name: str
    title: str
    dataset: dict[str, Any]
    models: dict[str, dict[str, Any]]
    input_size: int = 448
    backbone: Backbone = field(default_factory=Backbone)
    label_vectors: str = "table"
    cooccurrence: str = "train"
    exclude: tuple[str, ...] = ()
    training: Training = field(default_factory=Training)
    seeds: tuple[int, ...] = (0,)
    ablation: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    attention: Attention = field(default_factory=Attention)
    notes: tuple[str, ...] = ()

    def run(self, model: str) -> RunConfig:
        """The configuration of `model`'s runs in this experiment. Raises UserError for a model it does not have."""
        if model not in self.models:
            raise unknown("model", model, self.models, where=f"experiment {self.name!r}")
        own = self.models[model]
        training = dataclasses.replace(self.training, **_typed(Training, own.get("training", {}), self.name))
        return RunConfig(
            dataset=self.dataset,
            input_size=self.input_size,
            backbone=self.backbone,
            label_vectors=own.get("label_vectors", self.label_vectors),
            cooccurrence=self.cooccurrence,
            model=own.get("model", model),
            options=own.get("options", {}),
            training=training,
        )

    def axes(self, model: str, axis: str = "") -> list[str]:
        """The ablation axes of `model`: all, or the one named. Raises UserError for one it does not have."""
        known = self.ablation.get(model, {})
        if axis and axis not in known:
            raise unknown("ablation axis", axis, known, where=f"ablation.{model} of experiment {self.name!r}")
        return [axis] if axis else list(known)

    def variants(self, model: str, axis: str) -> dict[str, RunConfig]:
        """The runs of one ablation axis: value as text -> configuration.

        An axis of several names, "layers+group_ratio", has a list of values for each and crosses them all; its values
        read as "layers 4; group_ratio 0.2". Raises UserError where it has another number of lists.
        """
        names, values = axis.split("+"), self.ablation[model][axis]
        if len(names) == 1:
            return {_text(value): self._variant(model, {axis: value}) for value in values}
        if len(values) != len(names) or not all(isinstance(one, list) for one in values):
            raise UserError(
                f"ablation.{model}.{axis} of experiment {self.name!r} crosses {len(names)} axes and must hold "
                f"{len(names)} lists of values, one for each of {', '.join(names)}"
            )
        crossed = [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]
        return {"; ".join(f"{k} {_text(v)}" for k, v in one.items()): self._variant(model, one) for one in crossed}

    def _variant(self, model: str, changes: dict[str, Any]) -> RunConfig:
        """The run of `model` with some of its options, or its label vectors, changed."""
        run = self.run(model)
        options = {**run.options, **changes}
        vectors = options.pop("label_vectors", run.label_vectors)
        return dataclasses.replace(run, label_vectors=vectors, options=options)


def load(name: str | Path, overrides: dict[str, Any] | None = None) -> Experiment:
    """Read the experiment `name` (of experiments/, or a YAML file's path) and check every key.

    overrides: dotted keys and values laid over the file ("training.epochs": 3).
    Raises UserError naming the file and key for whatever is unknown, missing or of a wrong kind.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise unknown("experiment", name, (p.stem for p in FOLDER.glob("[!_]*.yaml")))
    raw = _read(path)
    for key, value in (overrides or {}).items():
        raw = _overlay(raw, _nested(key, value))
    raw = {key: value for key, value in raw.items() if value is not None}
    for key in ("title", "dataset", "models"):
        if not raw.get(key):
            raise UserError(f"{path} lacks the key {key!r}; every experiment needs title, dataset and models")
    if not isinstance(raw["dataset"], dict) or "name" not in raw["dataset"]:
        raise UserError(f"dataset.name is missing in {path}; write for example 'dataset: {{name: scenes}}'")
    raw["dataset"] = {"root": f"data/{raw['dataset']['name']}", **raw["dataset"]}
    raw["models"] = {model: _model(model, own or {}, path) for model, own in raw["models"].items()}
    experiment = Experiment(name=path.stem, **_typed(Experiment, raw, str(path)))
    for model in experiment.attention.models or ():
        experiment.run(model)
    for model, axes in experiment.ablation.items():
        for axis in axes:
            experiment.variants(model, axis)
    if experiment.backbone.frozen and experiment.training.augmentation != "none":
        raise UserError(
            f"training.augmentation is {experiment.training.augmentation!r} in {path}, but the backbone is frozen and "
            "its maps are cached once; write 'none', or backbone.frozen: false"
        )
    return experiment


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """["training.epochs=3", ...] as a mapping, values read as YAML. Raises UserError for a pair without '='."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes key=value, not {pair!r}; for example --set training.epochs=3")
    return {key: _yaml(value, f"--set {key}") for key, value in (pair.split("=", 1) for pair in pairs)}


def digest(plain: Any) -> str:
    """8 hexadecimal digits that stand for `plain` (JSON data) and change with any of its values."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, to which 1e-4 is a number (as in YAML 1.2) and not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _model(model: str, own: dict[str, Any], path: Path) -> dict[str, Any]:
    known = ("model", "options", "training", "label_vectors")
    for key in own:
        if key not in known:
            raise unknown("key", key, known, where=f"models.{model} of {path}")
    _typed(Training, own.get("training", {}), f"models.{model}.training of {path}")
    return own


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line} is not valid YAML: {getattr(error, 'problem', error)}") from None


def _read(path: Path) -> dict[str, Any]:
    raw = _yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no keys; it must be a mapping such as 'title: ...'")
    includes = raw.pop("include", [])
    merged: dict[str, Any] = {}
    for include in [includes] if isinstance(includes, str) else includes:
        if not (path.parent / include).is_file():
            raise UserError(f"include of {path} names {include!r}, and there is no {path.parent / include}")
        merged = _overlay(merged, _read(path.parent / include))
    return _overlay(merged, raw)


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlay(merged[key], value) if both else value
    return merged


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _typed(cls: type, raw: dict[str, Any], where: str) -> dict[str, Any]:
    """The values of `raw` as keyword arguments of the dataclass `cls`, or a UserError naming the key."""
    fields = {f.name: f for f in dataclasses.fields(cls) if not (cls is Experiment and f.name == "name")}
    values = {}
    for key, value in raw.items():
        if key not in fields:
            raise unknown("key", key, fields, where=where)
        values[key] = _value(fields[key], value, f"{key} of {where}")
    return values


def _value(field_: dataclasses.Field, value: Any, where: str) -> Any:
    kind = field_.type
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where} must hold keys, not {value!r}")
        return kind(**_typed(kind, value, where))
    if field_.name in CHOICES and value not in CHOICES[field_.name]:
        raise unknown(field_.name, value, CHOICES[field_.name], where=where)
    if value is None and "None" in str(kind):
        return None
    if str(kind).startswith("tuple"):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a list, not {value!r}")
        return tuple(value)
    wanted = {"int": int, "float": (int, float), "str": str, "bool": bool, "dict": dict}
    name = (kind.__name__ if isinstance(kind, type) else str(kind)).split("[")[0].split(" ")[0]
    if not isinstance(value, wanted[name]) or (isinstance(value, bool) and name in ("int", "float")):
        raise UserError(f"{where} must be of kind {name}, not {value!r}")
    return float(value) if name == "float" else value


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
