"""Experiments: one YAML file each, checked whole before anything runs.

An experiment names a data set, a backbone, models with their options, a training
recipe, seeds and ablation axes.  `include: FILE` (or a list) is read first and
overlaid key by key.  Every unknown name and every value of a wrong kind or range,
also those of the data set's reader, of the models and of each value of an axis, is
one sentence that names the file and the key.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mlclib import datasets
from mlclib.common.errors import UserError, unknown
from mlclib.common.validation import choices, validation_message
from mlclib.datasets import labels

FOLDER = Path("experiments")
TUNED = "_tuned_"  # begins the name of a file of settings that an experiment with `tuning` chose


def _distinct(values: Any) -> Any:
    for n, value in enumerate(values):
        if value in values[:n]:
            raise ValueError(f"must not hold {value!r} twice")
    return values


def _part_of_a_path(name: str) -> str:
    if not re.fullmatch(r"[^/\s]+", name):
        raise ValueError("must hold no slash and no blank, as it becomes a part of file names")
    return name


Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=32)]  # of a square picture, in pixels
Factor = Annotated[float, Field(ge=0)]
Step = Annotated[float, Field(gt=0)]
Name = Annotated[str, AfterValidator(_part_of_a_path)]
Values = Annotated[list[Any], Field(min_length=1), AfterValidator(_distinct)]


class _Strict:
    """What the parts of an experiment file share: no other keys, and no value is turned into another type."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Backbone(_Strict):
    """A timm backbone. weights: "offline", "pretrained", a file, or null for random; frozen: its maps are cached."""

    name: str = "resnet101"
    weights: str | None = "pretrained"
    frozen: bool = False


@dataclass(frozen=True)
class Training(_Strict):
    """One training recipe; the defaults are those of a small head on a frozen backbone.

    loss: one of losses.NAMED, "own" (the model's published one), or a mapping of what it changes of one of them.
    augmentation: "none" or one of transforms.RECIPES; normalise: false leaves pixels between 0 and 1.
    warmup_epochs: over so many the rate first rises linearly; decay_biases: false spares biases and norms the decay.
    frozen_layers: the backbone's first stages, up to that of this layer, learn nothing (0: all learn); frozen_norms: no
    batch norm of the backbone does. What learns nothing keeps its running statistics.
    images: how many training images are used, the first of their stratified order (null: all). They are taken again
    until an epoch has as many steps as with all, so that a learning curve varies the images and nothing else.
    eval_test_each_epoch: score the test images after every epoch, as the papers' code does, so that the protocol audit
    can say what their best test epoch is worth; where there is no validation part they always are.
    """

    images: Count | None = None
    epochs: Count = 12
    batch_size: Count = 32
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Step = 1e-3
    backbone_factor: Factor = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Factor = 1e-4
    decay_biases: bool = True
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "one-cycle"
    step_epochs: tuple[Index, ...] = ()
    step_factor: Step = 0.1
    warmup_epochs: Factor = 0.0
    loss: str | dict[str, Any] = "soft-margin"
    augmentation: str = "none"
    normalise: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    evaluation_precision: Literal["float32", "bfloat16", "float16"] = "float32"
    accumulate: Count = 1
    clip_norm: Step | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    frozen_layers: Annotated[int, Field(ge=0, le=4)] = 0
    frozen_norms: bool = False
    eval_test_each_epoch: bool = False
    workers: Index = 0
    checkpoint_epochs: Count = 1
    deterministic: bool = True
    tensorboard: bool = False
    init: str | None = None
    threads: Count | None = None


# What changes how long a run takes or what it leaves behind, and never its result.
NOT_IN_IDENTITY = ("workers", "checkpoint_epochs", "tensorboard")


@dataclass(frozen=True)
class Attention(_Strict):
    """What 04_attention shows.

    models: whose attention (null: that of all the experiment's models). images: the test images in its pictures, by
    row. scored: how many test images have their maps scored against boxes. tried: how many have what their maps point
    at hidden (deletion) and shown (insertion).
    """

    models: Annotated[tuple[str, ...], AfterValidator(_distinct)] | None = None
    images: Annotated[tuple[Index, ...], Field(min_length=1)] = (0, 1, 2, 3)
    scored: Count = 200
    tried: Count = 16


@dataclass(frozen=True)
class Range(_Strict):
    """Numbers from `low` to `high`, drawn evenly, or with `log` evenly in their logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Tuning(_Strict):
    """How the models' settings are searched (runs/tuning.py): `trials` of each, drawn by `seed`.

    ranges: model, or "*" for all of them -> setting ("training.learning_rate", "options.width") -> a list of values, or
    a mapping that is a Range. A model's own are laid over those of "*".
    """

    trials: Annotated[int, Field(ge=2)]
    ranges: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    seed: Index = 0


@dataclass(frozen=True)
class Model(_Strict):
    """One model of an experiment. model: which it is, where its name does not say; training, label_vectors and
    input_size are laid over the experiment's.
    """

    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    label_vectors: str | None = None
    input_size: Side | None = None


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
        if plain["training"]["images"] is None:  # as in runs from before there was such a key
            del plain["training"]["images"]
        return json.loads(json.dumps(plain))

    def written_out(self) -> dict[str, Any]:
        """The same with the model's defaults among its options."""
        from mlclib import models

        plain = self.identity()
        return plain | {"options": json.loads(json.dumps(models.options_of(self.model))) | plain["options"]}


@dataclass(frozen=True)
class Experiment(_Strict):
    """One experiment file, read and checked.

    label_vectors: a source of labels.vectors, or a *_glove_word2vec.pkl of the authors; cooccurrence: "train" (counted
    on the training split) or a *_adj.pkl of the authors. exclude: images, by name, that are not used. notes: sentences
    for the captions.
    """

    name: str
    title: Annotated[str, Field(min_length=1)]
    dataset: dict[str, Any]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    input_size: Side = 448
    backbone: Backbone = field(default_factory=Backbone)
    label_vectors: str = "table"
    cooccurrence: str = "train"
    exclude: tuple[str, ...] = ()
    training: Training = field(default_factory=Training)
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1), AfterValidator(_distinct)
    ] = (0,)
    ablation: dict[str, dict[Name, Values]] = field(default_factory=dict)
    tuning: Tuning | None = None
    attention: Attention = field(default_factory=Attention)
    notes: tuple[str, ...] = ()

    def run(self, model: str) -> RunConfig:
        """The configuration of `model`'s runs in this experiment. Raises UserError for a model it does not have."""
        if model not in self.models:
            raise unknown("model", model, self.models, where=f"experiment {self.name!r}")
        own = self.models[model]
        training = {**dataclasses.asdict(self.training), **own.training}
        return RunConfig(
            dataset=self.dataset,
            input_size=self.input_size if own.input_size is None else own.input_size,
            backbone=self.backbone,
            label_vectors=self.label_vectors if own.label_vectors is None else own.label_vectors,
            cooccurrence=self.cooccurrence,
            model=own.model or model,
            options=own.options,
            training=_checked(Training, training, f"models.{model}.training of experiment {self.name!r}"),
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
        if len(values) != len(names) or not all(isinstance(one, list) and one for one in values):
            raise UserError(
                f"ablation.{model}.{axis} of experiment {self.name!r} crosses {len(names)} axes and must hold "
                f"{len(names)} lists of values, one for each of {', '.join(names)}"
            )
        crossed = [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]
        return {"; ".join(f"{k} {_text(v)}" for k, v in one.items()): self._variant(model, one) for one in crossed}

    def ranges(self, model: str) -> dict[str, list[Any] | Range]:
        """What is tuned of `model`, by the settings' names in order: a list of values or a range."""
        named = {**self.tuning.ranges.get("*", {}), **self.tuning.ranges.get(model, {})}
        return {key: Range(**one) if isinstance(one, dict) else one for key, one in sorted(named.items())}

    def changed(self, model: str, settings: dict[str, Any]) -> RunConfig:
        """The run of `model` with other settings: "training.<key>" or "options.<key>" -> value."""
        own = self.models[model]
        parts = {part: dict(getattr(own, part)) for part in ("training", "options")}
        for name, value in settings.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        return dataclasses.replace(self, models={**self.models, model: dataclasses.replace(own, **parts)}).run(model)

    def _variant(self, model: str, changes: dict[str, Any]) -> RunConfig:
        """The run of `model` with other options, or with another of what BESIDES and "training.<key>" name."""
        recipe = {name: value for name, value in changes.items() if name.startswith("training.")}
        run = self.changed(model, recipe)
        options = run.options | {name: value for name, value in changes.items() if name not in recipe}
        vectors = options.pop("label_vectors", run.label_vectors)
        size = options.pop("input_size", run.input_size)
        backbone = dataclasses.replace(run.backbone, name=options.pop("backbone.name", run.backbone.name))
        return dataclasses.replace(run, label_vectors=vectors, input_size=size, backbone=backbone, options=options)


def load(name: str | Path, overrides: dict[str, Any] | None = None) -> Experiment:
    """Read the experiment `name` (of experiments/, or a YAML file's path) and check every key and value.

    overrides: dotted keys and values laid over the file ("training.epochs": 3).
    Raises UserError naming the file and key for whatever is unknown, missing, of a wrong kind or out of range.
    """
    path = file_of(name)
    raw = _read(path)
    for key, value in (overrides or {}).items():
        raw = _overlay(raw, _nested(key, value))
    raw = {key: value for key, value in raw.items() if value is not None}
    if "name" in raw:
        raise UserError(f"{path} has the key 'name', but an experiment is named as its file; write a title instead")
    if isinstance(raw.get("models"), dict):
        raw["models"] = {model: {} if own is None else own for model, own in raw["models"].items()}
    experiment = _checked(Experiment, {**raw, "name": path.stem}, str(path))
    dataset = experiment.dataset
    if "name" not in dataset:
        raise UserError(f"dataset.name is missing in {path}; write for example 'dataset: {{name: scenes}}'")
    for key in ("name", "root"):
        if not isinstance(dataset.get(key, ""), str):
            raise UserError(f"dataset.{key} of {path} must be a text (put it in quotes), not {dataset[key]!r}")
    with _prefixed(f"dataset of {path}"):
        datasets.check_options(dataset["name"], {k: v for k, v in dataset.items() if k not in ("name", "root")})
    experiment = dataclasses.replace(experiment, dataset={"root": f"data/{dataset['name']}", **dataset})
    _check_models(experiment, path)
    return experiment


def file_of(name: str | Path) -> Path:
    """The YAML file of the experiment `name`, which may be that file's path. Raises UserError where there is none."""
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise unknown("experiment", name, (p.stem for p in FOLDER.glob("[!_]*.yaml")))
    return path


def parse_overrides(pairs: list[str], texts: Collection[str] = ()) -> dict[str, Any]:
    """["training.epochs=3", ...] as a mapping, values read as YAML, but for the keys of `texts`, which hold any text.

    Raises UserError for a pair without '='.
    """
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--set takes key=value, not {pair!r}; for example --set training.epochs=3")
    split = [pair.split("=", 1) for pair in pairs]
    return {key: value if key in texts else _yaml(value, f"--set {key}") for key, value in split}


def digest(plain: Any) -> str:
    """8 hexadecimal digits that stand for `plain` (JSON data) and change with any of its values."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, to which 1e-4 is a number (as in YAML 1.2), and a key that stands twice is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            problem = None
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                problem = f"{key.value if key.id == 'scalar' else 'a list or mapping'} is no text, as a key must be"
            elif key.value in lines:
                problem = f"the key {key.value!r} stands in line {lines[key.value]} already; keep one of the two"
            if problem:
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: 2007-13-01 is no date
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}{line} is not valid YAML: {problem}") from None


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, laid over the files that it includes; `above` are the files that include it."""
    if path.resolve() in above:
        raise UserError(f"{path} includes itself; take it out of include")
    try:
        raw = _yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as such") from None
    if raw is None:
        raise UserError(f"{path} is empty; an experiment needs title, dataset and models")
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no keys; it must be a mapping such as 'title: ...'")
    includes = raw.pop("include", None) or []
    includes = [includes] if isinstance(includes, str) else includes
    if not isinstance(includes, list) or not all(isinstance(include, str) for include in includes):
        raise UserError(f"include of {path} must be a file, or a list of files, not {includes!r}")
    merged: dict[str, Any] = {}
    for include in includes:
        if not (path.parent / include).is_file():
            stem = Path(include).stem
            made = f"; `make reproduce EXPERIMENT={stem.removeprefix(TUNED)}` writes it" if TUNED in stem else ""
            raise UserError(f"include of {path} names {include!r}, and there is no {path.parent / include}{made}")
        merged = _overlay(merged, _read(path.parent / include, (*above, path.resolve())))
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


_adapter = functools.cache(TypeAdapter)


def _checked(kind: type, raw: dict[str, Any], where: str) -> Any:
    """`raw` as an instance of the dataclass `kind`, or a UserError naming the key."""
    try:
        # As JSON, whose lists may be tuples and whose mappings dataclasses also where nothing else is converted.
        return _adapter(kind).validate_json(json.dumps(raw, default=str))
    except ValidationError as errors:
        found = errors.errors()  # a key that is misspelt is also one that is missing
        error = next((one for one in found if one["type"] == "unexpected_keyword_argument"), found[0])
    *parents, last = (str(part) for part in error["loc"] if part != "[key]")
    place = f"{'.'.join(parents)} of {where}" if parents else where
    if error["type"] == "missing":
        needed = "every experiment needs title, dataset and models" if kind is Experiment and not parents else "add it"
        raise UserError(f"{place} lacks the key {last!r}; {needed}")
    if error["type"] == "unexpected_keyword_argument":
        parts = {"backbone": Backbone, "training": Training, "attention": Attention, "models": Model, "tuning": Tuning}
        known = [f.name for f in dataclasses.fields(parts[parents[0]] if parents else kind)]
        raise unknown("key", last, known if parents else [key for key in known if key != "name"], where=place)
    if error["type"] == "literal_error":
        raise unknown(last, error["input"], choices(error), where=place)
    raise UserError(f"{'.'.join([*parents, last])} of {where} {validation_message(error)}")


@contextmanager
def _prefixed(where: str) -> Iterator[None]:
    """Say in a UserError where the mistake stands."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_models(experiment: Experiment, path: Path) -> None:
    """Raise UserError unless each model, and each variant of each of its ablation axes, could be built."""
    from mlclib import models, transforms
    from mlclib.models import losses

    def check(run: RunConfig, where: str) -> None:
        source = run.label_vectors
        if not isinstance(source, str) or (source not in labels.SOURCES and not Path(source).suffix):
            raise unknown("label vectors", source, (*labels.SOURCES, "a file"), where=where)
        weights = run.backbone.weights
        if weights not in (None, "offline", "pretrained") and not Path(weights).suffix:
            raise unknown("weights", weights, ("offline", "pretrained", "a file"), where=f"backbone of {path}")
        with _prefixed(where):
            models.check_options(run.model, run.options)
            losses.read(run.training.loss, models.find(run.model).published_loss)
        if run.training.augmentation not in ("none", *transforms.RECIPES):
            raise unknown("augmentation", run.training.augmentation, ("none", *transforms.RECIPES), where=where)

    if experiment.cooccurrence != "train" and not experiment.cooccurrence.endswith(".pkl"):
        raise unknown("cooccurrence", experiment.cooccurrence, ("train", "a *_adj.pkl"), where=str(path))
    for name, own in experiment.models.items():
        _checked(Training, own.training, f"models.{name}.training of {path}")
        run = experiment.run(name)
        check(run, f"models.{name} of {path}")
        for key in UNLEARNT:
            _check_frozen(run, key, f"models.{name}.training" if key in own.training else "training", path)
        if run.backbone.frozen and run.input_size != experiment.input_size:
            raise UserError(
                f"models.{name}.input_size of {path} is {run.input_size}, but the backbone is frozen: its maps are "
                "cached once, at the experiment's input_size; take it out, or write backbone.frozen: false"
            )
    if experiment.backbone.frozen and experiment.backbone.weights is None:
        raise UserError(
            f"backbone.weights of {path} is null and the backbone is frozen: its random weights are kept nowhere, so "
            "no run could be used again; name weights, or write backbone.frozen: false"
        )
    for name in experiment.attention.models or ():
        if name not in experiment.models:
            raise unknown("model", name, experiment.models, where=f"attention of {path}")
    for name, axes in experiment.ablation.items():
        if name not in experiment.models:
            raise unknown("model", name, experiment.models, where=f"ablation of {path}")
        defaults = models.check_options(experiment.run(name).model, {})
        known = [*(f.name for f in dataclasses.fields(defaults)), *BESIDES]
        known += [f"training.{f.name}" for f in dataclasses.fields(Training) if f.name not in NOT_IN_IDENTITY]
        for axis in axes:
            for part in axis.split("+"):
                if part not in known:
                    raise unknown("ablation axis", part, known, where=f"ablation.{name} of {path}")
            for value, variant in experiment.variants(name, axis).items():
                where = f"ablation.{name}.{axis} of {path}, value {value}"
                _checked(Model, {"input_size": variant.input_size}, where)
                _checked(Backbone, dataclasses.asdict(variant.backbone), where)
                check(variant, where)
                for key in UNLEARNT:
                    _check_frozen(variant, key, f"ablation.{name}.{axis}", path)
    if experiment.tuning:
        _check_tuning(experiment, path, check)


# What an ablation axis may vary beside a model's options and "training.<key>".
BESIDES = ("label_vectors", "input_size", "backbone.name")

# What a frozen backbone leaves no room for, and why.
UNLEARNT = {
    "augmentation": "its maps are cached once",
    "init": "it keeps the weights it has",
    "normalise": "its maps are made of normalised pixels",
    "frozen_layers": "none of it learns",
    "frozen_norms": "none of it learns",
}


def _check_frozen(run: RunConfig, key: str, place: str, path: Path) -> None:
    value = getattr(run.training, key)
    if run.backbone.frozen and value != getattr(Training, key):
        raise UserError(
            f"{place}.{key} of {path} is {value!r}, but the backbone is frozen: {UNLEARNT[key]}; take {key} out, or "
            "write backbone.frozen: false"
        )


def _check_tuning(experiment: Experiment, path: Path, check: Callable[[RunConfig, str], None]) -> None:
    """Raise UserError unless each model has ranges of settings that it has, and each value could be trained."""
    from mlclib import models

    tuning = experiment.tuning
    if experiment.ablation:
        raise UserError(f"{path} holds both tuning and ablation: ablate in an experiment of its own, with its settings")
    for owner in tuning.ranges:
        if owner not in ("*", *experiment.models):
            raise unknown("model", owner, ("*", *experiment.models), where=f"tuning.ranges of {path}")
    for model in experiment.models:
        run = experiment.run(model)
        known = [f"training.{f.name}" for f in dataclasses.fields(Training) if f.name not in NOT_IN_IDENTITY]
        known += [f"options.{key}" for key in models.options_of(run.model)]
        named = {**tuning.ranges.get("*", {}), **tuning.ranges.get(model, {})}
        for key, values in named.items():
            owner = model if key in tuning.ranges.get(model, {}) else "*"
            if key not in known:
                raise unknown(f"setting of {model}", key, known, where=f"tuning.ranges.{owner} of {path}")
            place = f"tuning.ranges.{owner}.{key} of {path}"
            for value in _tried(values, place):
                where = f"{place}, value {_text(value)}"
                with _prefixed(where):
                    changed = experiment.changed(model, {key: value})
                check(changed, where)
                if (part := key.removeprefix("training.")) in UNLEARNT:
                    _check_frozen(changed, part, f"tuning.ranges.{owner}.training", path)
        counts = [len(values) for values in named.values() if isinstance(values, list)]
        if len(counts) == len(named) and math.prod(counts) < tuning.trials:
            raise UserError(
                f"tuning.ranges of {path} hold {math.prod(counts)} settings of model {model} and tuning.trials is "
                f"{tuning.trials}, as many for every model: name more values, or lower tuning.trials"
            )


def _tried(values: Any, place: str) -> list[Any]:
    """The values that a range of tuning is checked by: all of a list, both ends of a Range."""
    if isinstance(values, dict):
        found = _checked(Range, values, place)
        if found.low >= found.high or (found.log and found.low <= 0):
            above = " and above 0" if found.log else ""
            raise UserError(f"low of {place} must be below high{above}, not {found.low:g} with high {found.high:g}")
        return [found.low, found.high]
    if not isinstance(values, list) or not values:
        raise UserError(f"{place} must be a list of values, or a mapping with low, high and log, not {values!r}")
    try:
        return _distinct(values)
    except ValueError as error:
        raise UserError(f"{place} {error}") from None


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
