"""The protocol audit: the same predictions scored under every protocol found in this literature (06_protocols).

Published scores differ in how AP is defined, what becomes of difficult labels, where the threshold lies, how many
labels an image may have, which epoch is scored and in which precision. Each choice is made alone here, against the
default (the last epoch's float32 logits, non-interpolated AP, difficult labels left out, threshold at logit 0), and
what it adds is stated in points of mAP, CF1 and OF1.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from mlclib.common.errors import some_of
from mlclib.metrics import scores as metrics
from mlclib.models import title
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.comparison import F1S, scored_table
from mlclib.results.leaderboard import PairwiseComparison
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table, listed, written
from mlclib.runs.store import FinishedRun

SCORES = ("mAP", *F1S)


@dataclass(frozen=True)
class Choice:
    """One choice of protocol: keyword arguments of metrics.evaluate, or what is scored; `moves`: what it can change."""

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
    Choice("threshold", "probability 0.8", {"threshold": math.log(4)}, moves=F1S),
    Choice("threshold", "swept on the test set", {"threshold": "sweep"}, moves=F1S),
    Choice("threshold", "swept on a validation split", {"threshold": VALIDATION}, moves=F1S),
    Choice("top three", "those above probability 0.5", {"top": 3}, moves=F1S),
    Choice("top three", "always three", {"top": 3, "threshold": -math.inf}, moves=F1S),
    Choice("top three", "swept on the test set", {"top": 3, "threshold": "sweep"}, moves=F1S),
    Choice("epoch", "the best on a validation split", selection="best_val"),
    Choice("epoch", "the best on the test set", selection="best_test"),
    Choice("epoch", "moving average of the weights", selection="ema"),
    Choice("sigmoid before ranking", "in float16", sigmoid=torch.float16),
    Choice("sigmoid before ranking", "in bfloat16", sigmoid=torch.bfloat16),
    Choice("together", "best epoch, swept on the test set", {"threshold": "sweep"}, selection="best_test"),
)
DEFAULT = Choice("default", "default")
ORDER = pd.MultiIndex.from_tuples([(choice.kind, choice.name) for choice in CHOICES], names=("kind", "choice"))


def audit(models: Models, labels: Sequence[int] | None = None) -> pd.DataFrame:
    """Each of CHOICES for every run, long: model, seed, kind, choice, score, value and change, both in points.

    labels: numbers of those that mAP is over, all where None.
    change is against the default protocol. value and change are NaN where the score does not depend on the choice,
    and where there is nothing to make it from: no validation split, no averaged weights, hidden test labels.
    A validation split's predictions are those in the run folder's validation.npz, in the format of predictions.npz.
    """
    captions.checked(models, "last")
    rows = []
    for model, run in ((model, run) for model, runs in models.items() for run in runs):
        default = _scores(run, DEFAULT, labels)
        for choice in (DEFAULT, *CHOICES):
            values = default if choice is DEFAULT else _scores(run, choice, labels)
            for score in SCORES:
                value = values[score] if score in choice.moves else np.nan
                rows.append((model, run.seed, choice.kind, choice.name, score, value, value - default[score]))
    return pd.DataFrame(rows, columns=["model", "seed", "kind", "choice", "score", "value", "change"])


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the change over seeds, by kind, choice, model and score."""
    alternatives = frame[frame["kind"] != DEFAULT.kind]
    groups = alternatives.groupby(["kind", "choice", "model", "score"], sort=False)
    return groups["change"].agg(["mean", "std"])


def changes_table(frame: pd.DataFrame, models: Models) -> Table:
    """Choices x models: by how many points each choice of `frame`, the audit of `models`, moves each score."""
    default = frame[frame["kind"] == DEFAULT.kind].groupby(["model", "score"], sort=False)["value"].mean()
    stated = "; ".join(
        f"{title(model)} {', '.join(f'{default[model, score]:.1f} {score}' for score in SCORES)}"
        for model in models
        if default[model].notna().all()
    )
    columns = {f"{score} {model}": (score, model) for score in SCORES for model in models}
    mean, spread = (
        changes(frame)[part].unstack(["score", "model"]).loc[ORDER, columns.values()].set_axis(list(columns), axis=1)
        for part in ("mean", "std")
    )
    return scored_table(
        "protocols", "What the choice of protocol is worth,", models, mean.reset_index(), selection="",
        spread=spread.reset_index(drop=True),
        formats=dict.fromkeys(columns, "+.2f"),
        shown={column: f"{score} {title(model)}" for column, (score, model) in columns.items()},
        runs={column: models[model] for column, (_, model) in columns.items()},
        caption="Points that each choice adds to a score by itself, mean ± standard deviation over the seeds. An "
        "em dash: the score does not depend on the choice, or the runs kept nothing for it.",
        protocol=[
            f"The default gives {stated}: {captions.precision(models)} logits of the last epoch, non-interpolated AP, "
            "difficult labels left out, a label predicted where its logit is at least 0."
            if stated
            else f"{captions.HIDDEN}.",
            "Probability 0.8 is logit ln 4. A sweep maximises CF1 + OF1, on test over -1.0, ..., 0.9, on validation "
            "over all tenths. Top three: its three highest.",
        ],
    )  # fmt: skip


def changes_sentence(frame: pd.DataFrame) -> str:
    """How many choices of the audit `frame` are worth a point, which next to nothing, and which could not be made."""
    furthest = changes(frame)["mean"].abs().groupby(["kind", "choice"], sort=False).max()
    if furthest.isna().all():
        return f"{captions.HIDDEN}."
    small, lacking = (
        ", ".join(f"{kind}: {choice}" for kind, choice in furthest.index[rows])
        for rows in (furthest < 0.05, furthest.isna())
    )
    text = f"{(furthest >= 1).sum()} of {furthest.count()} choices of protocol change a score by 1 point or more. "
    text += f"Choices that change no score by 0.05 points: {small or 'none'}."
    return f"{text} Choices that these runs kept nothing for: {lacking}." if lacking else text


def changes_figure(frame: pd.DataFrame) -> Figure:
    """A dot per model for each choice of the audit `frame` and score; lines reach one standard deviation over seeds."""
    summary = changes(frame).dropna(subset="mean")
    if summary.empty:
        return text_figure(captions.HIDDEN)
    order = [key for key in ORDER if key in summary.index.droplevel(["model", "score"])][::-1]
    models = list(dict.fromkeys(frame["model"]))
    size = (11, 1.5 + 0.36 * len(order))
    figure, panels = plt.subplots(1, len(SCORES), figsize=size, sharey=True, layout="constrained")
    for axes, score in zip(panels, SCORES, strict=True):
        for at, model in enumerate(models):
            dots = summary.xs((model, score), level=("model", "score"))
            height = [order.index(key) + 0.5 * (0.5 - (at + 0.5) / len(models)) for key in dots.index]
            look = {"fmt": "osD^vP*X"[at % 8], "color": COLOURS[at % len(COLOURS)], "ms": 5, "lw": 1}
            axes.errorbar(dots["mean"], height, xerr=dots["std"].fillna(0), label=title(model), **look)
        axes.axvline(0, color="0.4", lw=1, zorder=0)
        axes.grid(axis="y", color="0.92", zorder=0)
        axes.set(title=score, xlabel="points against the default")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(order)), [f"{kind}: {choice}" for kind, choice in order])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(models), frameon=False)
    kind, choice, model, score = furthest = summary["mean"].abs().idxmax()
    points = written(summary["mean"][furthest], "+.1f")
    figure.suptitle(f"{kind}, {choice}: {points} {score} points for {title(model)}, the furthest of all choices")
    return figure


def reversals(frame: pd.DataFrame) -> pd.DataFrame:
    """Where a choice of the audit `frame` turns the order of two models: one row each time, widest margin first.

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


def reversals_sentence(frame: pd.DataFrame) -> str:
    """Whether any ranking of the models, by means over seeds, turns under any choice."""
    if frame["model"].nunique() < 2:
        return "There is one model alone, and so no ranking."
    if frame["value"].isna().all():
        return f"{captions.HIDDEN}."
    rows = reversals(frame)
    if rows.empty:
        return "No choice of protocol changes a ranking of the models (by means over seeds)."
    text = "; ".join(
        f"under {row['kind']}, {row['choice']}, {row['score']} of {title(row['above'])} ({row['above score']:.1f}) "
        f"is above that of {title(row['below'])} ({row['below score']:.1f})"
        for _, row in rows.head(3).iterrows()
    )
    count = len(rows[["kind", "choice", "score"]].drop_duplicates())
    more = f"; and {len(rows) - 3} more pairs" if len(rows) > 3 else ""
    unmoved = listed((score for score in SCORES if score not in set(rows["score"])), "or")
    still = f" No choice changes the ranking by {unmoved}." if unmoved else ""
    turn = "rankings of the models change" if count > 1 else "ranking of the models changes"
    return f"{count} {turn} (means over seeds): {text}{more}.{still}"


def reversed_pairs_sentence(compared: PairwiseComparison) -> str:
    """Whether a choice of protocol turns a pair that is told apart by mAP, or puts a model first that is only tied.

    Empty where there are no pairs, or another selection than the last epoch is compared.
    """
    if compared.selection != "last" or not compared.pairs:
        return ""
    names = compared.names
    frame = audit(compared.models, labels=captions.frequent(compared.reference))
    tried = frame.query("score == 'mAP' and kind not in ('default', 'together')")  # "together" repeats its epoch
    scores = tried.groupby(["kind", "choice", "model"], sort=False)["value"].mean().unstack("model")[names].dropna()
    turned, first = [], {}
    for (kind, choice), row in scores.iterrows():
        values = row.to_numpy()
        lower = compared.better & (values[:, None] < values)
        pairs = [f"{title(names[a])} vs {title(names[b])}" for a, b in np.argwhere(lower)]
        if pairs:
            turned.append(f"{some_of(pairs, 3)} ({kind}: {choice})")
        if values.max() > values[0]:
            first.setdefault(row.idxmax(), []).append(f"{kind}: {choice}")
    kinds = listed(dict.fromkeys(scores.index.get_level_values("kind")), "or")
    text = f"No choice of protocol ({kinds}) changes the mAP order of a pair shown to differ."
    if turned:
        text = f"Some choices of protocol change the mAP order of pairs shown to differ: {listed(turned)}."
    if first:
        others = listed(f"{title(model)} ({'; '.join(choices)})" for model, choices in first.items())
        text += f" Some choices put another model first: {others}."
    wide = reversals(frame).query("score in @F1S and margin > 1")
    if wide.empty:
        return f"{text} None reverses the order by CF1 or OF1 of a pair by more than one point."
    most = wide.groupby(["kind", "choice", "score"], sort=False).size()
    kind, choice, score = most.idxmax()
    return (
        f"{text} The order by CF1 or OF1 of a pair is reversed by more than one point in {len(wide)} case"
        f"{'s' * (len(wide) > 1)}, most often under {kind}, {choice}: {most.max()} by {score}."
    )


def _scores(run: FinishedRun, choice: Choice, labels: Sequence[int] | None) -> dict[str, float]:
    """SCORES of one run in percent; NaN where there is nothing to make the choice from."""
    logits = run.logits.get(choice.selection)
    protocol = dict(choice.protocol)
    by_validation = protocol.get("threshold") == VALIDATION
    if logits is None or not (run.targets == 1).any() or (by_validation and run.validation is None):
        return dict.fromkeys(SCORES, np.nan)
    if by_validation:
        protocol["threshold"] = metrics.best_threshold(*run.validation)
    if choice.sigmoid:
        # as under mixed precision: the logits themselves come in that type
        logits = torch.from_numpy(logits).to(choice.sigmoid).sigmoid().float().numpy()
        protocol["threshold"] = 0.5
    scores = metrics.evaluate(logits, run.targets, **protocol)
    scores["mAP"] = float(metrics.mean_defined(scores["AP"][metrics.columns(labels)]))
    return {score: 100 * scores[score] for score in SCORES}
