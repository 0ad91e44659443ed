"""Who leads, who is tied, and what the test set cannot tell (05_tables), from paired comparisons of all models."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlclib.metrics import pairwise
from mlclib.metrics.pairwise import ALPHA, BETTER, EQUIVALENT, POWER, REACH, UNKNOWN, WORSE, Pair
from mlclib.metrics.resampling import least_p
from mlclib.results import captions, comparison
from mlclib.results.captions import Models
from mlclib.results.comparison import BASELINE, DELTA, scored_table
from mlclib.results.cost import HEAD, PARAMETERS, counted_cost
from mlclib.results.style import COLOURS
from mlclib.results.table import Table, listed

MARGIN = 1.0  # points of mAP: two models are equivalent whose difference is shown to be smaller
GAP, SHARE, IMAGES, SEEDS = "smallest gap", "seeds' share, %", "images needed", "seeds needed"


@dataclass(frozen=True)
class PairwiseComparison:
    """The models that have a score, from the highest mAP, and every pair of them, the higher as `a`."""

    models: Models
    pairs: list[Pair]
    selection: str
    draws: int

    @property
    def names(self) -> list[str]:
        return list(self.models)

    @property
    def better(self) -> np.ndarray:
        """bool [M, M]: whether the row is shown to be better than the column."""
        return pairwise.shown_better(self.pairs, len(self.models))

    @property
    def ranks(self) -> list[tuple[int, int]]:
        """The first and the last rank that each model may have."""
        return pairwise.rank_intervals(self.better)

    def with_verdict(self, at: int, verdict: str) -> list[str]:
        """The models that have this verdict against model number `at`: with BETTER those that it is better than."""
        pairs = [pair for pair in self.pairs if pair.verdict == verdict and at in (pair.a, pair.b)]
        return [self.names[pair.b if pair.a == at else pair.a] for pair in pairs if verdict != BETTER or pair.a == at]


def compare_all(models: Models, *, selection: str = "last") -> PairwiseComparison:
    """Every model against every other; models without predictions of that selection, or public labels, are left out."""
    reference = captions.checked(models, selection)
    frame, _ = comparison.score_frames(models, selection, ["mAP"])
    order = frame.dropna().sort_values("mAP", ascending=False, kind="stable")["model"]
    logits = {model: comparison.stacked(models[model], selection) for model in order}
    logits = {model: stack for model, stack in logits.items() if stack is not None}
    # as many draws as the least p, corrected over all pairs, takes to be below the level
    draws = max(captions.draws(reference), math.ceil(math.comb(len(logits), 2) * 2 / ALPHA))
    pairs = pairwise.compare(list(logits.values()), reference.targets, margin=MARGIN / 100, draws=draws)
    return PairwiseComparison({model: models[model] for model in logits}, pairs, selection, draws)


def tables(compared: PairwiseComparison) -> list[Table]:
    """The leaderboard and its pairs; none where there are not two models with a score."""
    return [leaderboard_table(compared), pairs_table(compared)] if compared.pairs else []


def leaderboard_table(compared: PairwiseComparison) -> Table:
    """Models x mAP with its interval, F1, cost of the head, the ranks that it may have, and who it is tied with."""
    models, selection = compared.models, compared.selection
    reference = next(iter(models.values()))[0]
    frame, spread = comparison.score_frames(models, selection, ("mAP", "CF1", "OF1"), interval=True)
    costs = pd.DataFrame([counted_cost(runs[0]) for runs in models.values()])
    frame[[PARAMETERS, HEAD]] = costs[[PARAMETERS, HEAD]]
    frame["rank"] = [f"{first}–{last}" if first < last else str(first) for first, last in compared.ranks]
    frame["ties"] = pairwise.letters(compared.better)
    return scored_table(
        "leaderboard", "Leaderboard", models, frame, selection=selection,
        spread=spread,
        formats={PARAMETERS: ",.2f", HEAD: ",.2f"},
        best=("mAP", "CF1", "OF1"),
        caption=f"{captions.average(models, 'mAP and F1 in percent')} Rank: all that the model may have. Ties: two "
        "models share a letter unless one of them is shown to be better.",
        protocol=[
            captions.ap(reference),
            captions.interval(reference),
            "CF1, OF1: F1 over labels and over all decisions, predicted where the logit is at least 0. Head: all that "
            "is not the backbone, its learnt parameters and its multiply-adds for an image.",
            "Rank: one more than the models that are shown better, to the number of models less those shown worse, by "
            f"the corrected p of the table of pairs (below {ALPHA:g}), so that all ranks hold together at 95 % "
            "(Mogstad et al., 2024).",
        ],
    )  # fmt: skip


def leaderboard_figure(table: Table, compared: PairwiseComparison) -> Figure:
    """`leaderboard_table`: models by test mAP (%), their seeds (dots), mean and 95 % interval (bar); beside it the
    ranks that each may have, and a line for each set of models that are not told apart.
    """
    frame, ties = table.frame, pairwise.ties(compared.better)
    size = (9 + 0.3 * len(ties), 1.6 + 0.42 * len(frame))
    widths = (7, 1.1 + 0.4 * len(ties))
    figure, (scores, ranks) = plt.subplots(1, 2, figsize=size, width_ratios=widths, sharey=True, layout="constrained")
    bar = {"color": "0.82", "lw": 7}
    dot = {"marker": "o", "ls": "", "color": COLOURS[0], "alpha": 0.5, "ms": 5}
    line = {"marker": "|", "ls": "", "color": "0.1", "ms": 15, "mew": 2.5}
    for row, model, mean, low, high, rank in frame[["model", "mAP", "mAP low", "mAP high", "rank"]].itertuples():
        seeds = comparison.seed_mAPs(compared.models[model], compared.selection)
        scores.plot([low, high], [row, row], solid_capstyle="butt", zorder=1, **bar)
        scores.plot(seeds, [row] * len(seeds), **dot)
        scores.plot(mean, row, **line)
        ranks.text(0, row, f"rank {rank}", va="center", fontsize=11)
    for at, (letter, rows) in enumerate(ties.items()):
        ranks.plot([2.6 + at] * len(rows), rows, "o-", color=COLOURS[1], lw=2, ms=7)
        ranks.text(2.6 + at, -0.75, letter, ha="center", va="bottom", fontsize=11)
    for label, look in (("mean over seeds", line), ("one seed", dot), ("95 % interval of the mean", bar)):
        scores.plot([], [], label=label, **look)
    figure.legend(loc="outside lower left", ncols=3, fontsize=10, frameon=False)
    scores.set_yticks(range(len(frame)), frame["model"])
    scores.set(xlabel="test mAP (%)", ylim=(len(frame) - 0.4, -1.2))
    ranks.set(xlim=(-0.2, 3.2 + len(ties)), xlabel="a line joins models that\nno paired test tells apart", xticks=[])
    ranks.grid(False)
    ranks.tick_params(axis="y", length=0, labelleft=False)
    scores.spines[["top", "right", "left"]].set_visible(False)
    ranks.spines[:].set_visible(False)
    first = sum(best == 1 for best, _ in compared.ranks)
    leader = f"{frame['model'][0]} leads alone" if first == 1 else f"{first} models may be first"
    figure.suptitle(f"{table.title}: {leader}")
    return figure


def pairs_table(compared: PairwiseComparison) -> Table:
    """Every pair of models x difference, verdict, the smallest gap that can be told, and what it would take to tell."""
    models, pairs = compared.models, compared.pairs
    images = len(next(iter(models.values()))[0].names)
    return scored_table(
        "pairs", "Pairs of models", models, pd.DataFrame([_pair_row(pair, compared, images) for pair in pairs]),
        selection=compared.selection,
        formats=dict.fromkeys((SHARE, IMAGES, SEEDS), ",.0f"),
        runs={pair_name(pair, compared): [run for at in pair[:2] for run in models[compared.names[at]]]
              for pair in pairs},
        caption="By how many points of mAP the first of two models scores above the second, and whether this test set "
        f"tells them apart: better, worse, equivalent within {MARGIN:g} point of mAP, or not to be told.",
        protocol=[
            f"{DELTA}: with its 95 % interval, by {compared.draws:,} paired bootstrap draws of test images and seeds; "
            f"p: of no difference, corrected over all {len(pairs)} pairs (Holm; of one pair alone at least "
            f"{least_p(compared.draws):.1g}). Equivalent: p below {ALPHA:g} of a difference of the margin or more "
            "either way (two one-sided tests), corrected alike; better goes before it.",
            f"{GAP.capitalize()}: what such a pair alone would show with {100 * POWER:.0f} % power at the 5 % level, "
            f"{REACH:.2f} standard errors of the difference; {SHARE}: of its variance, what more seeds lessen and more "
            "images do not. Images and seeds needed: how many would show the present difference with that power, the "
            f"other as it is (here {images:,} images); ∞ where no number would, an em dash where one seed does not "
            "tell.",
        ],
    )  # fmt: skip


def pair_name(pair: Pair, compared: PairwiseComparison) -> str:
    """A pair as tables and sentences name it."""
    return f"{compared.names[pair.a]} vs {compared.names[pair.b]}"


def leader_sentence(compared: PairwiseComparison) -> str:
    """The model with the highest mAP, and whether others are tied with it."""
    if not compared.models:
        return "No model has a mAP here: the labels of the test images are not public, or no such epoch is kept."
    best, *others = compared.names
    leader = {best: compared.models[best]}
    ((_, mAP, low, high),) = comparison.score_frames(leader, compared.selection, ["mAP"], interval=True)[0].to_numpy()
    data = captions.data_name(compared.models)
    first = f"{best} has the highest mAP on {data}, {mAP:.1f} % (95 % interval {low:.1f} to {high:.1f})"
    if not others:
        return f"{first}; no other model is scored here."
    better, equal, unknown = (compared.with_verdict(0, verdict) for verdict in (BETTER, EQUIVALENT, UNKNOWN))
    if len(better) == len(others):
        return f"{first}, and is shown to be better than {others[0] if len(others) == 1 else 'every other model'}."
    parts = [
        f"is shown to be better than {listed(better)}" if better else "",
        f"is equivalent to {listed(equal)} within {MARGIN:g} point" if equal else "",
        f"cannot be told from {listed(unknown)}" if unknown else "",
    ]
    return f"{first}; it {listed(filter(None, parts))}."


def baseline_sentence(compared: PairwiseComparison) -> str:
    """Whether any model is above the strong linear baseline; empty where that has no rival or is not there."""
    names = compared.names
    if BASELINE not in names or len(names) < 2:
        return ""
    at = names.index(BASELINE)
    above = [
        f"{names[pair.a]} ({comparison.with_interval(pd.Series(comparison.in_points(pair.difference)))})"
        for pair in compared.pairs
        if pair.b == at and pair.verdict == BETTER
    ]
    others = {"below it": BETTER, f"equivalent within {MARGIN:g} point": EQUIVALENT, "not to be told from it": UNKNOWN}
    parts = [f"Shown to be above the {BASELINE} baseline: {listed(above) or 'no model'}"]
    for words, verdict in others.items():
        if models := compared.with_verdict(at, verdict):
            parts.append(f"{words}: {listed(models)}")
    return f"{'; '.join(parts)}."


def power_sentence(compared: PairwiseComparison) -> str:
    """How many pairs are told apart, the gaps that can be, and what the first pair would take; empty without pairs."""
    if not compared.pairs:
        return ""
    verdicts = [pair.verdict for pair in compared.pairs]
    gaps = sorted(100 * pair.parts.smallest_gap for pair in compared.pairs)
    gap = f"{gaps[0]:.1f} points" if len(gaps) == 1 else f"{gaps[0]:.1f} to {gaps[-1]:.1f} points, by the pair"
    text = (
        f"Of {len(verdicts)} pairs of models this test set tells {sum(v in (BETTER, WORSE) for v in verdicts)} apart, "
        f"shows {verdicts.count(EQUIVALENT)} equivalent within {MARGIN:g} point and cannot tell "
        f"{verdicts.count(UNKNOWN)}; to be shown with {100 * POWER:.0f} % power a gap must be {gap}."
    )
    first = compared.pairs[0]
    return f"{text} {_needed(compared, first)}" if first.verdict == UNKNOWN else text


def _needed(compared: PairwiseComparison, pair: Pair) -> str:
    """What it would take to tell a pair apart."""
    gap, images = pair.difference.delta, len(compared.models[compared.names[0]][0].names)
    needed = {"images": pair.parts.images_needed(gap, images), "seeds": pair.parts.seeds_needed(gap)}
    what = f"the {100 * gap:.1f} points of {pair_name(pair, compared)}"
    enough = [f"{n:,.0f} {name.removesuffix('s') if n == 1 else name}" for name, n in needed.items() if np.isfinite(n)]
    never = [f"; more {name} alone would not do" for name, n in needed.items() if np.isinf(n)]
    if not enough:
        return f"No number of {listed(needed, 'or')} alone would show {what}."
    return f"To show {what} would take {listed(enough, 'or')}{''.join(never[:1])}."


def _pair_row(pair: Pair, compared: PairwiseComparison, images: int) -> dict[str, str | float]:
    parts, gap = pair.parts, pair.difference.delta
    return {
        "pair": pair_name(pair, compared),
        **comparison.in_points(pair.difference),
        "p": pair.p_corrected,
        "p equivalence": pair.p_equivalence_corrected,
        "verdict": pair.verdict,
        GAP: 100 * parts.smallest_gap,
        SHARE: 100 * parts.seeds / parts.error**2 if parts.error else np.nan,
        IMAGES: parts.images_needed(gap, images),
        SEEDS: parts.seeds_needed(gap),
    }
