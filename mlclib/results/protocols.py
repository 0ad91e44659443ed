"""The protocol audit: the same predictions scored under every protocol found in this literature.

Published scores differ in how AP is defined, what becomes of difficult labels, where the threshold lies, how many
labels an image may have, which epoch is scored and in which precision. Each choice is made alone here, against the
default (the last epoch's float32 logits, non-interpolated AP, difficult labels left out, threshold at logit 0), and
what it adds is told in points of mAP, CF1 and OF1.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from mlclib.metrics import scores as metrics
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

SCORES = ("mAP", "CF1", "OF1")


@dataclass(frozen=True)
class Choice:
    """One choice of protocol: keyword arguments of metrics.evaluate, or what is scored; `moves`: which scores can."""

    kind: str
    name: str
    protocol: dict[str, Any] = field(default_factory=dict)
    selection: str = "last"
    sigmoid: torch.dtype | None = None
    moves: tuple[str, ...] = SCORES


VALIDATION = "validation"  # as threshold: the best one of a validation split
CHOICES = (
    Choice("AP", "max-precision envelope (VOC 2010 on)", {"ap": "envelope"}, moves=("mAP",)),
    Choice("AP", "11 points (VOC 2007)", {"ap": "11-point"}, moves=("mAP",)),
    Choice("difficult labels", "counted as absent", {"difficult": "absent"}),
    Choice("threshold", "probability 0.8", {"threshold": math.log(4)}, moves=("CF1", "OF1")),
    Choice("threshold", "swept on the test set", {"threshold": "sweep"}, moves=("CF1", "OF1")),
    Choice("threshold", "swept on a validation split", {"threshold": VALIDATION}, moves=("CF1", "OF1")),
    Choice("top three", "those above probability 0.5", {"top": 3}, moves=("CF1", "OF1")),
    Choice("top three", "always three", {"top": 3, "threshold": -math.inf}, moves=("CF1", "OF1")),
    Choice("top three", "swept on the test set", {"top": 3, "threshold": "sweep"}, moves=("CF1", "OF1")),
    Choice("epoch", "the best on a validation split", selection="chosen"),
    Choice("epoch", "the best on the test set", selection="best"),
    Choice("epoch", "moving average of the weights", selection="ema"),
    Choice("sigmoid before ranking", "in float16", sigmoid=torch.float16),
    Choice("sigmoid before ranking", "in bfloat16", sigmoid=torch.bfloat16),
    Choice("together", "best epoch, swept on the test set", {"threshold": "sweep"}, selection="best"),
)
DEFAULT = Choice("default", "default")
ORDER = pd.MultiIndex.from_tuples([(choice.kind, choice.name) for choice in CHOICES], names=("kind", "choice"))


def audit(models: Models, choices: Sequence[Choice] = CHOICES) -> pd.DataFrame:
    """Each of `choices` for every run, long: model, seed, kind, choice, score, value and change, both in points.

    change is against the default protocol. value and change are NaN where the score does not depend on the choice,
    and where there is nothing to make it from: no validation split, no averaged weights, hidden test labels.
    A validation split's predictions are those in the run folder's validation.npz, in the format of predictions.npz.
    """
    captions.checked(models, "last")
    rows = []
    for model, runs in models.items():
        for run in runs:
            default = _scores(run, DEFAULT)
            for choice in (DEFAULT, *choices):
                values = default if choice is DEFAULT else _scores(run, choice)
                for score in SCORES:
                    value = values[score] if score in choice.moves else np.nan
                    rows.append(
                        {
                            "model": model,
                            "seed": run.seed,
                            "kind": choice.kind,
                            "choice": choice.name,
                            "score": score,
                            "value": value,
                            "change": value - default[score],
                        }
                    )
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame, models: Models) -> Table:
    """Choices x models: by how many points each choice of `frame`, the audit of `models`, moves each score."""
    default = frame[frame["kind"] == DEFAULT.kind].groupby(["model", "score"], sort=False)["value"].mean()
    stated = "; ".join(
        f"{model} {', '.join(f'{default[model, score]:.1f} {score}' for score in SCORES)}"
        for model in models
        if default[model].notna().all()
    )
    summary = changes(frame)
    columns = [(score, model) for score in SCORES for model in models]
    mean, spread = (summary[part].unstack(["score", "model"]).loc[ORDER, columns] for part in ("mean", "std"))
    names = [f"{score} {model}" for score, model in columns]
    mean.columns = spread.columns = names
    sentences = [
        "What each choice, made alone, adds to a score in points, mean ± standard deviation over the seeds; an em dash "
        "where the score does not depend on it, or nothing is there to make it from (no validation split, no averaged "
        "weights).",
        f"The default gives {stated}: {captions.precision(models)} logits of the last epoch, non-interpolated AP, "
        "difficult labels left out, a label predicted where its logit is at least 0."
        if stated
        else f"{captions.HIDDEN}.",
        "Probability 0.8 is logit ln 4; a sweep takes the threshold of -1.0, -0.9, ..., 0.9 with the best CF1 + OF1; "
        "top three: among its image's three highest.",
        captions.made(models),
    ]
    return Table(
        name="protocols",
        title=f"What the choice of protocol is worth, on {captions.data_name(models)}",
        frame=mean.reset_index(),
        spread=spread.reset_index(drop=True),
        formats=dict.fromkeys(names, "+.2f"),
        runs={f"{score} {model}": models[model] for score, model in columns},
        caption=" ".join(sentences),
    )


def audit_finding(frame: pd.DataFrame) -> str:
    """In a sentence: how many choices of the audit `frame` are made, on how many runs, and which cannot be."""
    choices = frame[frame["kind"] != DEFAULT.kind].groupby(["kind", "choice"], sort=False)["value"]
    made = choices.count() > 0
    if not made.any():
        return f"{captions.HIDDEN}."
    runs = len(frame[["model", "seed"]].drop_duplicates())
    lacking = [f"{kind}: {choice}" for kind, choice in made.index[~made]]
    first = f"{made.sum()} of {len(made)} choices are made, on {runs} runs of {frame['model'].nunique()} models"
    return f"{first}; nothing is there to make these from: {', '.join(lacking)}." if lacking else f"{first}."


def choices_finding(frame: pd.DataFrame) -> str:
    """In a sentence: how many choices of the audit `frame` are worth a point, and which are worth next to nothing."""
    furthest = changes(frame)["mean"].abs().groupby(["kind", "choice"], sort=False).max().dropna()
    if furthest.empty:
        return f"{captions.HIDDEN}."
    none = [f"{kind}: {choice}" for kind, choice in furthest.index[furthest < 0.05]]
    return f"{(furthest >= 1).sum()} of {len(furthest)} choices move a score of some model by a point or more; " + (
        f"these move none by 0.05: {', '.join(none)}." if none else "each moves one by 0.05 or more."
    )


def turned(frame: pd.DataFrame) -> pd.DataFrame:
    """Where a choice of the audit `frame` turns the order of two models: a row each time, widest margin first.

    Columns: kind, choice, score, above and below (models, as they stand under the choice), above and below score
    (means over seeds, in percent), margin. A tie is no order, and a score that a choice leaves out turns nothing.
    """
    means = frame.groupby(["kind", "choice", "score", "model"])["value"].mean().unstack("model")
    rows = []
    for (kind, choice, score), now in means.iterrows():
        before = means.loc[DEFAULT.kind, DEFAULT.name, score]
        for above, below in itertools.permutations(means.columns, 2):
            margin = now[above] - now[below]
            if margin > 0 and before[above] < before[below]:
                rows.append((kind, choice, score, above, below, now[above], now[below], margin))
    columns = ["kind", "choice", "score", "above", "below", "above score", "below score", "margin"]
    return pd.DataFrame(rows, columns=columns).sort_values("margin", ascending=False, ignore_index=True)


def turned_finding(frame: pd.DataFrame) -> str:
    """In a sentence: whether any ranking of the models, by means over seeds, turns under any choice."""
    if frame["model"].nunique() < 2:
        return "One model alone has no ranking that could turn."
    if frame["value"].isna().all():
        return f"{captions.HIDDEN}."
    rows = turned(frame)
    kept = [score for score in SCORES if score not in set(rows["score"])]
    if rows.empty:
        return "No choice turns any ranking: by each score the models stand in the same order (means over seeds)."
    named = "; ".join(
        f"{row['kind']}, {row['choice']}: by {row['score']} {row['above']} ({row['above score']:.1f}) comes to stand "
        f"above {row['below']} ({row['below score']:.1f})"
        for _, row in rows.head(3).iterrows()
    )
    count = len(rows[["kind", "choice", "score"]].drop_duplicates())
    more = f"; and {len(rows) - 3} more pairs" if len(rows) > 3 else ""
    still = f" No choice turns the ranking by {' or '.join(kept)}." if kept else ""
    turn = "rankings of the models turn" if count > 1 else "ranking of the models turns"
    return f"{count} {turn} (means over seeds): {named}{more}.{still}"


def _scores(run: FinishedRun, choice: Choice) -> dict[str, float]:
    nothing = dict.fromkeys(SCORES, np.nan)
    logits = run.logits.get(choice.selection)
    if logits is None or not (run.targets == 1).any():
        return nothing
    protocol = dict(choice.protocol)
    if protocol.get("threshold") == VALIDATION:
        path = run.folder / "validation.npz"
        if not path.is_file():
            return nothing
        with np.load(path, allow_pickle=False) as file:
            protocol["threshold"] = metrics.best_threshold(file[f"logits_{choice.selection}"], file["targets"])
    if choice.sigmoid:
        # as under mixed precision: the logits themselves come in that type
        logits = torch.from_numpy(logits).to(choice.sigmoid).sigmoid().float().numpy()
        protocol["threshold"] = 0.5
    found = metrics.evaluate(logits, run.targets, **protocol)
    return {score: 100 * found[score] for score in SCORES}


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the change over seeds, by kind, choice, model and score."""
    return (
        frame[frame["kind"] != DEFAULT.kind]
        .groupby(["kind", "choice", "model", "score"], sort=False)["change"]
        .agg(["mean", "std"])
    )
