"""What an experiment file may hold: annotated dataclasses, read by common/validation.py."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mlclib import datasets
from mlclib.common.errors import UserError, check_name, unknown
from mlclib.common.validation import Strict, validated
from mlclib.datasets import labels


def _distinct(values: Any) -> Any:
    for n, value in enumerate(values):
        if value in values[:n]:
            raise ValueError(f"must not hold {value!r} twice")
    return values


def _one_or_file(what: str, *names: str) -> AfterValidator:
    """Accepts one of the names or the path of a file, which has a suffix."""

    def check(value: str) -> str:
        if value not in names and not Path(value).suffix:
            raise ValueError(unknown(what, value, (*names, "a file")))
        return value

    return AfterValidator(check)


def _dataset(given: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(given.get("name"), str) or not isinstance(given.get("root", ""), str):
        raise ValueError("must hold its name, and its root if any, as texts (put them in quotes)")
    datasets.check_options(given["name"], {key: value for key, value in given.items() if key not in ("name", "root")})
    return {"root": f"data/{given['name']}", **given}


Side = Annotated[int, Field(ge=32)]  # of a square picture, in pixels
Precision = Literal["float32", "bfloat16", "float16"]
Name = Annotated[str, Field(pattern=r"^[^/\s]+$")]  # becomes a part of file names
Values = Annotated[list[Any], Field(min_length=1), AfterValidator(_distinct)]
Vectors = Annotated[str, _one_or_file("label vectors", *labels.SOURCES)]


@dataclass(frozen=True)
class Backbone(Strict):
    """A timm backbone. weights: "offline", "pretrained", a file, or null for random; frozen: its maps are cached."""

    name: str = "resnet101"
    weights: Annotated[str, _one_or_file("weights", "offline", "pretrained")] | None = "pretrained"
    frozen: bool = False


@dataclass(frozen=True)
class Training(Strict):
    """One training recipe; the defaults are those of a small head on a frozen backbone.

    loss: one of losses.NAMED, "own" (the model's published one), or a mapping of what it changes of one of them.
    augmentation: "none" or one of transforms.RECIPES; normalise: false leaves pixels between 0 and 1.
    warmup_epochs: over so many the rate first rises linearly; decay_biases: false spares biases and norms the decay.
    images: how many training images are used, the first of their stratified order (null: all). They are taken again
    until an epoch has as many steps as with all, so that a learning curve varies the images and nothing else.
    frozen_layers: the backbone's first stages, up to that of this layer, learn nothing (0: all learn); frozen_norms: no
    batch norm of the backbone does. What learns nothing keeps its running statistics.
    eval_test_each_epoch: score the test images after every epoch, as the papers' code does, so that the protocol audit
    can say what their best test epoch is worth; where there is no validation part they always are.
    checkpoint_minutes: write a checkpoint when so many have gone by since the last one; a kill costs no more than that.
    keep_weights: false leaves weights.safetensors out of a finished run (many trials on a small disk).
    init: a finished run, as a folder or a pattern, whose backbone the run starts from.
    """

    images: PositiveInt | None = None
    epochs: PositiveInt = 12
    batch_size: PositiveInt = 32
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    backbone_factor: NonNegativeFloat = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 1e-4
    decay_biases: bool = True
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "one-cycle"
    step_epochs: tuple[NonNegativeInt, ...] = ()
    step_factor: PositiveFloat = 0.1
    warmup_epochs: NonNegativeFloat = 0.0
    loss: str | dict[str, Any] = "soft-margin"
    augmentation: str = "none"
    normalise: bool = True
    precision: Precision = "float32"
    evaluation_precision: Precision = "float32"
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    frozen_layers: Annotated[int, Field(ge=0, le=4)] = 0
    frozen_norms: bool = False
    eval_test_each_epoch: bool = False
    workers: NonNegativeInt = 0
    checkpoint_minutes: NonNegativeFloat = 5.0
    keep_weights: bool = True
    deterministic: bool = True
    init: str | None = None
    threads: PositiveInt | None = None


# What changes how long a run takes or what it leaves behind, and never its result.
NOT_IN_IDENTITY = ("workers", "checkpoint_minutes", "keep_weights")


@dataclass(frozen=True)
class Attention(Strict):
    """What 04_attention shows.

    models: whose attention (null: that of all the experiment's models). images: the test images in its pictures, by
    row. n_localisation: how many test images have their maps scored against boxes. n_faithfulness: how many have what
    their maps point at hidden (deletion) and shown (insertion).
    """

    models: Annotated[tuple[str, ...], AfterValidator(_distinct)] | None = None
    images: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2, 3)
    n_localisation: PositiveInt = 200
    n_faithfulness: PositiveInt = 16


@dataclass(frozen=True)
class Causes(Strict):
    """What 09_causes shows without a label: scenes drawn again, or photographs whose boxes are filled in.

    images: how many test images; each is repeated once per label, without that label's things. maps: on how many of
    them attention maps are evaluated.
    """

    images: PositiveInt = 400
    maps: PositiveInt = 60


@dataclass(frozen=True)
class Range(Strict):
    """Numbers from `low` to `high`, drawn evenly, or with `log` evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if self.low >= self.high or (self.log and self.low <= 0):
            above = " and above 0" if self.log else ""
            raise ValueError(f"low must be below high{above}, not {self.low:g} with high {self.high:g}")


def _list_or_range(values: Any) -> list[Any] | Range:
    """What a setting is tuned over."""
    if isinstance(values, dict):
        return validated(Range, values, "tuning.ranges")
    if not isinstance(values, list) or not values:
        raise ValueError(f"must be a list of values, or a mapping with low, high and log, not {values!r}")
    return _distinct(values)


@dataclass(frozen=True)
class Tuning(Strict):
    """How the models' settings are searched (runs/tuning.py): `trials` of each, drawn by `seed`.

    ranges: model, or "*" for all of them -> setting ("training.learning_rate", "options.width") -> a list of values, or
    a mapping that is a Range. A model's own are laid over those of "*".
    """

    trials: Annotated[int, Field(ge=2)]
    ranges: Annotated[dict[str, dict[str, Annotated[Any, AfterValidator(_list_or_range)]]], Field(min_length=1)]
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class Model(Strict):
    """One model of an experiment. model: which it is, where its name does not say; training, label_vectors and
    input_size are laid over the experiment's.
    """

    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    label_vectors: Vectors | None = None
    input_size: Side | None = None


@dataclass(frozen=True)
class RunConfig(Strict):
    """Everything that a run's result depends on, but its seed."""

    dataset: dict[str, Any]
    input_size: Side
    backbone: Backbone
    label_vectors: Vectors
    cooccurrence: str
    model: str
    options: dict[str, Any]
    training: Training

    def identity(self) -> dict[str, Any]:
        """The configuration as plain data, the model's defaults among its options, without what cannot change the
        result (where data lies, workers, ...).
        """
        from mlclib import models

        plain = dataclasses.asdict(self)
        plain["options"] = models.options_of(self.model) | self.options
        plain["dataset"] = {key: value for key, value in self.dataset.items() if key != "root"}
        for key in NOT_IN_IDENTITY:
            del plain["training"][key]
        if self.training.images is None:  # as in runs from before there was such a key
            del plain["training"]["images"]
        return json.loads(json.dumps(plain))


@dataclass(frozen=True)
class Experiment(Strict):
    """One experiment file, read and checked.

    label_vectors: a source of labels.vectors, or a *_glove_word2vec.pkl of the authors; cooccurrence: "train" (counted
    on the training split) or a *_adj.pkl of the authors. exclude: images, by name, that are not used. notes: sentences
    for the captions.
    """

    name: str
    title: Annotated[str, Field(min_length=1)]
    dataset: Annotated[dict[str, Any], AfterValidator(_dataset)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    input_size: Side = 448
    backbone: Backbone = field(default_factory=Backbone)
    label_vectors: Vectors = "table"
    cooccurrence: Annotated[str, _one_or_file("cooccurrence", "train")] = "train"
    exclude: tuple[str, ...] = ()
    training: Training = field(default_factory=Training)
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1), AfterValidator(_distinct)
    ] = (0,)
    ablation: dict[str, dict[Name, Values]] = field(default_factory=dict)
    tuning: Tuning | None = None
    attention: Attention = field(default_factory=Attention)
    causes: Causes | None = None
    notes: tuple[str, ...] = ()

    @property
    def attended(self) -> tuple[str, ...]:
        """The models whose attention is shown."""
        return tuple(self.models) if self.attention.models is None else self.attention.models

    def run_config(self, model: str) -> RunConfig:
        """The configuration of `model`'s runs in this experiment. Raises UserError for a model it does not have."""
        check_name("model", model, self.models, f"experiment {self.name!r}")
        own = self.models[model]
        where = f"models.{model}.training of experiment {self.name!r}"
        return RunConfig(
            dataset=self.dataset,
            input_size=own.input_size or self.input_size,
            backbone=self.backbone,
            label_vectors=own.label_vectors or self.label_vectors,
            cooccurrence=self.cooccurrence,
            model=own.model or model,
            options=own.options,
            training=validated(Training, {**dataclasses.asdict(self.training), **own.training}, where),
        )

    def configurations(self) -> Iterator[tuple[str, str, str, RunConfig]]:
        """(model, ablation axis, value, configuration) of each model, which has no axis and value, and each variant."""
        for model in self.models:
            yield model, "", "", self.run_config(model)
        for model, axes in self.ablation.items():
            for axis in axes:
                for value, run in self.variants(model, axis).items():
                    yield model, axis, value, run

    def axes(self, model: str, axis: str = "") -> list[str]:
        """The ablation axes of `model`: all, or the one named. Raises UserError for one it does not have."""
        axes = self.ablation.get(model, {})
        if axis:
            check_name("ablation axis", axis, axes, f"ablation.{model} of experiment {self.name!r}")
        return [axis] if axis else list(axes)

    def variants(self, model: str, axis: str) -> dict[str, RunConfig]:
        """The runs of one ablation axis: value as text -> configuration.

        An axis of several names, "layers+group_ratio", has a list of values for each and crosses them all; its values
        read as "layers 4; group_ratio 0.2". Raises UserError where it has another number of lists.
        """
        names, values = axis.split("+"), self.ablation[model][axis]
        if len(names) == 1:
            return {_text(value): self.changed(model, {axis: value}) for value in values}
        if len(values) != len(names) or not all(isinstance(one, list) and one for one in values):
            raise UserError(
                f"ablation.{model}.{axis} of experiment {self.name!r} crosses {len(names)} axes and must hold "
                f"{len(names)} lists of values, one for each of {', '.join(names)}"
            )
        crossed = [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]
        return {"; ".join(f"{k} {_text(v)}" for k, v in one.items()): self.changed(model, one) for one in crossed}

    def ranges(self, model: str) -> dict[str, list[Any] | Range]:
        """What is tuned of `model`, by the settings' names in order: a list of values or a range."""
        ranges = self.tuning.ranges
        return dict(sorted({**ranges.get("*", {}), **ranges.get(model, {})}.items()))

    def changed(self, model: str, settings: dict[str, Any]) -> RunConfig:
        """The run of `model` with other settings: "training.<key>", "backbone.name", "label_vectors", "input_size", or
        an option of the model, as "<key>" or "options.<key>". Raises UserError for a value that cannot be.
        """
        run = self.run_config(model)
        plain = dataclasses.asdict(run)
        for name, value in settings.items():
            part, dot, key = name.rpartition(".")
            target = plain[part or "options"] if dot or name not in BESIDES else plain
            target[key] = value
        return validated(RunConfig, plain, f"{', '.join(settings)} of {model} in experiment {self.name!r}")


# What an ablation axis may vary beside a model's options and "training.<key>".
BESIDES = ("label_vectors", "input_size", "backbone.name")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
