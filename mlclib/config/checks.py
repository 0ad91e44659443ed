"""What holds between the parts of an experiment: names that must be there, settings that go together."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from mlclib import models, transforms
from mlclib.common.errors import UserError, check_name
from mlclib.config.schema import BESIDES, NOT_IN_IDENTITY, Experiment, RunConfig, Training
from mlclib.models import losses

# What a frozen backbone leaves no room for, and why.
UNLEARNT = {
    "augmentation": "its maps are cached once",
    "init": "it keeps the weights it has",
    "normalise": "its maps are made of normalised pixels",
    **dict.fromkeys(("frozen_layers", "frozen_norms"), "none of it learns"),
}


def check(experiment: Experiment, path: Path) -> None:
    """Raise UserError, naming the file and the key, for what no run of the experiment could use."""
    _check_names(experiment, path)
    for where, run in _configurations(experiment):
        try:
            _check_run(run)
        except UserError as error:
            raise UserError(f"{where} of {path}: {error}") from None


def _configurations(experiment: Experiment) -> Iterator[tuple[str, RunConfig]]:
    """Every configuration that the file asks for, with the place that asks; of a range of tuning its two ends."""
    for model, axis, value, run in experiment.configurations():
        yield f"ablation.{model}.{axis}, value {value}," if axis else f"models.{model}", run
    for model in experiment.models if experiment.tuning else ():
        for name, values in experiment.ranges(model).items():
            for value in values if isinstance(values, list) else (values.low, values.high):
                run = experiment.changed(model, {name: value})
                yield f"tuning.ranges, {name} of {model}, value {value},", run


def _check_names(experiment: Experiment, path: Path) -> None:
    """Raise UserError for a model, axis or setting that is named and is not there, and for a tuning without room."""
    for name in (*(experiment.attention.models or ()), *experiment.ablation):
        check_name("model", name, experiment.models, f"attention or ablation of {path}")
    recipe = [f"training.{one.name}" for one in dataclasses.fields(Training) if one.name not in NOT_IN_IDENTITY]
    for model, axes in experiment.ablation.items():
        names = [*models.options_of(experiment.run_config(model).model), *BESIDES, *recipe]
        for part in (part for axis in axes for part in axis.split("+")):
            check_name("ablation axis", part, names, f"ablation.{model} of {path}")
    if experiment.tuning:
        _check_tuning(experiment, recipe, path)


def _check_tuning(experiment: Experiment, recipe: list[str], path: Path) -> None:
    """Raise UserError for a wrong name or too many trials under `tuning`. recipe: the settings of a training."""
    if experiment.ablation:
        raise UserError(f"{path} holds both tuning and ablation: ablate in an experiment of its own, with its settings")
    for owner in experiment.tuning.ranges:
        check_name("model", owner, ("*", *experiment.models), f"tuning.ranges of {path}")
    for model in experiment.models:
        names = [*recipe, *(f"options.{key}" for key in models.options_of(experiment.run_config(model).model))]
        ranges, trials = experiment.ranges(model), experiment.tuning.trials
        for name in ranges:
            check_name(f"setting of {model}", name, names, f"tuning.ranges of {path}")
        lists = all(isinstance(values, list) for values in ranges.values())
        if lists and (count := math.prod(map(len, ranges.values()))) < trials:
            raise UserError(
                f"tuning.ranges of {path} hold {count} settings of model {model} and tuning.trials is {trials}, as "
                "many for every model: name more values, or lower tuning.trials"
            )


def _check_run(run: RunConfig) -> None:
    """Raise UserError for options or a loss that the model does not take, and for what a frozen backbone excludes."""
    models.check_options(run.model, run.options)
    losses.read(run.training.loss, models.find(run.model).published_loss)
    check_name("augmentation", run.training.augmentation, ("none", *transforms.RECIPES))
    if not run.backbone.frozen:
        return
    if run.backbone.weights is None:
        raise UserError(
            "backbone.weights is null and the backbone is frozen: its random weights are stored nowhere, so no run "
            "could be used again; name weights, or write backbone.frozen: false"
        )
    for key, reason in UNLEARNT.items():
        value = getattr(run.training, key)
        if value != getattr(Training, key):
            raise UserError(
                f"training.{key} is {value!r}, but the backbone is frozen: {reason}; take {key} out, or write "
                "backbone.frozen: false"
            )
