"""What of each model differs from its published head and recipe, for the page of an experiment."""

import dataclasses
from typing import Any

from mlclib import config, models
from mlclib.config import Experiment, RunConfig
from mlclib.models import losses
from mlclib.results.table import escape_markdown

PUBLISHED = "peers-own-voc2007"  # the experiment that trains every model by its authors' own recipe
RECIPE = ("optimizer", "learning_rate", "weight_decay", "schedule", "epochs", "batch_size", "loss", "augmentation")
SUMMARY = "What differs from each model's published head and recipe"


def differences(experiment: Experiment) -> str:
    """A folded Markdown table: model, and what of its head and its recipe is other than published, that in brackets.

    What the authors of a model gave stands in the experiment PUBLISHED, and in the defaults of the model's options. A
    model that is not in PUBLISHED is compared with those defaults alone.
    """
    published, heads, recipes = config.load(PUBLISHED), {}, {}
    for name in experiment.models:
        run = experiment.run_config(name)
        theirs = published.run_config(run.model) if run.model in published.models else None
        options = models.options_of(run.model)
        heads[name] = _differing(options | run.options, options | (theirs.options if theirs else {}))
        recipes[name] = _differing(_recipe(run), _recipe(theirs)) if theirs else ["no published recipe is at hand"]
    first = next(iter(recipes.values()))
    shared = [part for part in first if len(recipes) > 1 and all(part in parts for parts in recipes.values())]
    lines = [f"Of all models: {escape_markdown(', '.join(shared))}.", ""] if shared else []
    lines += ["| model | head (published) | recipe (published) |", "| :--- | :--- | :--- |"]
    for name in experiment.models:
        own = [part for part in recipes[name] if part not in shared]
        cells = (models.title(name), *(", ".join(parts) or "as published" for parts in (heads[name], own)))
        lines.append(f"| {' | '.join(map(escape_markdown, cells))} |")
    return "\n".join([f"<details><summary>{SUMMARY}</summary>", "", *lines, "", "</details>"])


def _recipe(run: RunConfig) -> dict[str, Any]:
    """The parts of a run's configuration that make its recipe, by their names in words."""
    training = dataclasses.asdict(run.training)
    learns = "frozen" if run.backbone.frozen else "trained"
    own = models.find(run.model).published_loss
    training["loss"] = "own" if losses.read(run.training.loss, own) == own else run.training.loss
    recipe = {"backbone": f"{run.backbone.name} {learns}", "input": f"{run.input_size} px"}
    return recipe | {key: training[key] for key in RECIPE}


def _differing(ours: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """The entries of `ours` that are other than published, with the published value in brackets."""
    texts = {key: (_text(ours[key]), _text(published[key])) for key in ours}
    return [f"{key.replace('_', ' ')} {here} ({theirs})" for key, (here, theirs) in texts.items() if here != theirs]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(list(value) if isinstance(value, tuple) else value)
