"""Who leads, who is tied, and what the test set cannot tell (05_tables), from paired comparisons of all models."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlclib.metrics import labels_with, pairwise
from mlclib.metrics.pairwise import ALPHA, BETTER, EQUIVALENT, SEEDS_SHARE, UNKNOWN, Pair
from mlclib.metrics.resampling import least_p
from mlclib.metrics.scores import FREQUENT
from mlclib.metrics.variance import BEYOND, POWER
from mlclib.models import title
from mlclib.results import captions, comparison
from mlclib.results.captions import MAP, Models
from mlclib.results.comparison import BASELINE, DELTA, scored_table
from mlclib.results.cost import HEAD, PARAMETERS, counted_cost
from mlclib.results.style import COLOURS
from mlclib.results.table import Table, listed
from mlclib.runs.store import FinishedRun

MARGIN = 1.0  # points of mAP: two models are equivalent whose difference is shown to be smaller
WITHIN, GAP, SHARE = "equivalent within", "smallest gap", "seeds' share, %"
GAPS = {"1 point": 0.01, "2 points": 0.02}  # named beforehand: what it would take to show them
FEW_SEEDS = "‡"
FEW_IMAGES = 100  # test images below which simulated intervals of mAP hold the truth in less than 90 %


@dataclass(frozen=True)
class PairwiseComparison:
    """The models that have a score, from the highest headline mAP, and every pair of them by it, the higher as `a`."""

    models: Models
    pairs: list[Pair]
    selection: str
    draws: int

    @property
    def names(self) -> list[str]:
        return list(self.models)

    @property
    def reference(self) -> FinishedRun:
        """Any of the runs; all are scored on the same images."""
        return next(iter(self.models.values()))[0]

    @property
    def better(self) -> np.ndarray:
        """bool [M, M]: whether the row is shown to be better than the column."""
        return pairwise.shown_better(self.pairs, len(self.models))

    @property
    def ranks(self) -> list[tuple[int, int]]:
        """The first and the last rank that each model may have."""
        return pairwise.rank_intervals(self.better)

    def with_verdict(self, at: int, verdict: str) -> list[str]:
        """In words, the models that have this verdict against model number `at`: with BETTER those that it is
        better than.
        """
        pairs = [pair for pair in self.pairs if at in pair[:2] and pair.verdict == verdict]
        models = [pair.b if pair.a == at else pair.a for pair in pairs]
        return [spoken(self.names[model]) for model in models if verdict != BETTER or model > at]


def compare_all(models: Models, *, selection: str = "last") -> PairwiseComparison:
    """Every model against every other; models without predictions of that selection, or public labels, are left out."""
    reference = captions.checked(models, selection)
    mean, _ = comparison.over_seeds(models, selection, comparison.all_scores)
    order = mean[captions.headline(reference)].dropna().sort_values(ascending=False, kind="stable").index
    logits = {model: comparison.stacked(models[model], selection) for model in order}
    # enough draws that the smallest possible p, corrected for all pairs (Holm), can be below ALPHA
    draws = max(captions.draws(reference), math.ceil(math.comb(len(logits), 2) * 2 / ALPHA))
    labels = captions.frequent(reference)
    pairs = pairwise.compare(list(logits.values()), reference.targets, margin=MARGIN / 100, draws=draws, labels=labels)
    return PairwiseComparison({model: models[model] for model in logits}, pairs, selection, draws)


def tables(compared: PairwiseComparison) -> list[Table]:
    """The leaderboard and its pairs; none where there are not two models with a score."""
    return [leaderboard_table(compared), pairs_table(compared)] if compared.pairs else []


def leaderboard_table(compared: PairwiseComparison) -> Table:
    """Models x mAP with its interval, F1, cost of the head, the ranks that it may have, and who it is tied with."""
    models, selection, reference = compared.models, compared.selection, compared.reference
    frame, spread = comparison.headline_frames(models, selection, comparison.F1S)
    costs = pd.DataFrame([counted_cost(runs[0]) for runs in models.values()])
    frame[[PARAMETERS, HEAD]] = costs[[PARAMETERS, HEAD]]
    frame["rank"] = [f"{first}–{last}" if first < last else str(first) for first, last in compared.ranks]
    frame["ties"] = pairwise.letters(compared.better)
    return scored_table(
        "leaderboard", "Leaderboard", models, frame, selection=selection,
        spread=spread,
        formats={PARAMETERS: ",.2f", HEAD: ",.2f"},
        best=tuple(spread),
        caption=f"{captions.average(models, 'mAP and F1 in percent')} Rank: its 95 % confidence interval. Ties: "
        f"two models share a letter unless one of them is shown to be better. {captions.rare(reference)}".strip(),
        protocol=[
            captions.ap(reference),
            captions.interval(reference),
            "CF1, OF1: F1 of the mean precision and recall of labels, and of all decisions.",
            captions.threshold(f"{comparison.F1S[0]} at 0" in frame),
            "Head: everything but the backbone, by its learnt parameters and its multiply-adds for one image.",
            "Rank: from 1 + the number of models shown better, to the number of models less those shown worse "
            f"(corrected p of the table of pairs below {ALPHA:g}). The intervals hold simultaneously at 95 % "
            "(Mogstad et al., 2024).",
        ],
    )  # fmt: skip


def leaderboard_figure(table: Table, compared: PairwiseComparison) -> Figure:
    """`leaderboard_table`: models by headline mAP (%), their seeds (dots), mean and 95 % interval (bar); beside it the
    ranks that each may have, and a line for each set of models that are not told apart.
    """
    frame, ties, mAP = table.frame, pairwise.ties(compared.better), captions.headline(compared.reference)
    size = (9 + 0.3 * len(ties), 1.6 + 0.42 * len(frame))
    widths = (7, 1.1 + 0.4 * len(ties))
    figure, (scores, ranks) = plt.subplots(1, 2, figsize=size, width_ratios=widths, sharey=True, layout="constrained")
    bar = {"color": "0.82", "lw": 7}
    dot = {"marker": "o", "ls": "", "color": COLOURS[0], "alpha": 0.5, "ms": 5}
    line = {"marker": "|", "ls": "", "color": "0.1", "ms": 15, "mew": 2.5}
    for row, model, mean, low, high, rank in frame[["model", mAP, f"{mAP} low", f"{mAP} high", "rank"]].itertuples():
        seeds = [comparison.all_scores(run, compared.selection)[mAP] for run in compared.models[model]]
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
    scores.set_yticks(range(len(frame)), map(title, frame["model"]))
    scores.set(xlabel=f"test {mAP} (%)", ylim=(len(frame) - 0.4, -1.2))
    ranks.set(xlim=(-0.2, 3.2 + len(ties)), xlabel="a line joins models with\nno difference shown", xticks=[])
    ranks.grid(False)
    ranks.tick_params(axis="y", length=0, labelleft=False)
    scores.spines[["top", "right", "left"]].set_visible(False)
    ranks.spines[:].set_visible(False)
    first = sum(best == 1 for best, _ in compared.ranks)
    leader = f"{title(frame['model'][0])} leads alone" if first == 1 else f"{first} models may be first"
    figure.suptitle(f"{table.title}: {leader}")
    return figure


def pairs_table(compared: PairwiseComparison) -> Table:
    """Every pair of models x difference, verdict, the smallest gap that can be told, and what named gaps would take."""
    models, pairs, reference = compared.models, compared.pairs, compared.reference
    images = len(reference.names)
    names, titles = (
        [" vs ".join(name(compared.names[model]) for model in pair[:2]) for pair in pairs] for name in (str, title)
    )
    rows = [
        {
            "pair": name,
            **comparison.in_points(pair.difference),
            "p": pair.p_corrected,
            "verdict": pair.verdict,
            WITHIN: 100 * pair.equivalent_within,
            GAP: 100 * pair.variance.smallest_gap,
            SHARE: 100 * pair.variance.seeds_share,
            **{f"images for {gap}": pair.variance.images_needed(share, images) for gap, share in GAPS.items()},
            **{f"seeds for {gap}": pair.variance.seeds_needed(share) for gap, share in GAPS.items()},
        }
        for name, pair in zip(names, pairs, strict=True)
    ]
    flagged = {(row, SHARE): FEW_SEEDS for row, pair in enumerate(pairs) if pair.hangs_on_seeds}
    note = f"Seeds carry more than {100 * SEEDS_SHARE:.0f} % of the variance: train more of them to trust the verdict."
    return scored_table(
        "pairs", "Pairs of models", models, pd.DataFrame(rows), selection=compared.selection,
        formats=dict.fromkeys((SHARE, *(column for column in rows[0] if " for " in column)), ",.0f"),
        marks=flagged,
        footnotes={FEW_SEEDS: note} if flagged else {},
        runs={name: models[compared.names[pair.a]] + models[compared.names[pair.b]]
              for name, pair in zip(names, pairs, strict=True)},
        shown=dict(zip(names, titles, strict=True)),
        caption=f"{DELTA}: by how many points of {captions.headline(reference)} the first model is above the second. "
        f"Verdict: whether the first is shown to be better, worse, or equivalent within {MARGIN:g} point, or this test "
        f"set cannot tell. {captions.rare(reference)}".strip(),
        protocol=[
            f"{DELTA}: with its 95 % interval, by {compared.draws:,} paired bootstrap draws of test images and seeds; "
            "p: of no difference, the larger of the bootstrap's and of a t test on the means over seeds "
            f"(Satterthwaite), corrected over all {len(pairs)} pairs (Holm; of one pair alone at least "
            f"{least_p(compared.draws):.1g}). Equivalent: one-sided tests (TOST) reject a difference of the margin "
            "or more, corrected alike; better comes first. Equivalent within: the smallest such margin, in points.",
            f"{GAP.capitalize()}: the difference that would be shown as better with {100 * POWER:.0f} % power, after "
            f"the correction; {SHARE}: the part of the variance that only more seeds reduce. Images, seeds: "
            f"how many show a gap of 1 or 2 points with that power, the other unchanged (here {images:,} images), "
            f"rounded up to one digit; an em dash above {BEYOND} times the present number, or with one seed.",
        ],
    )  # fmt: skip


def spoken(model: str, begins: bool = False) -> str:
    """A model within a sentence, or as what the sentence begins with."""
    return f"{'The' if begins else 'the'} {title(model)}" if model == BASELINE else title(model)


def leader_sentence(compared: PairwiseComparison) -> str:
    """The model with the highest mAP, and whether others are tied with it."""
    if not compared.models:
        return "No model has a mAP here: the labels of the test images are not public, or no such epoch is kept."
    best, *others = compared.names
    leader = {best: compared.models[best]}
    mAP, low, high = comparison.headline_frames(leader, compared.selection, ())[0].iloc[0, 1:4]
    data, labels = captions.data_name(compared.models), captions.frequent(compared.reference)
    over = f", over the {len(labels)} labels with at least {FREQUENT} test positives" if labels else ""
    name = spoken(best, begins=True)
    first = f"{name} has the highest mAP on {data}{over}: {mAP:.1f} % (95 % interval {low:.1f} to {high:.1f})."
    if not others:
        return f"{first} No other model is scored here."
    better, equal, unknown = (compared.with_verdict(0, verdict) for verdict in (BETTER, EQUIVALENT, UNKNOWN))
    if len(better) == len(others):
        return f"{first} It is shown to be better than {better[0] if len(others) == 1 else 'every other model'}."
    parts = [
        f"It is shown to be better than {listed(better)}." if better else "",
        f"It is equivalent to {listed(equal)} within {MARGIN:g} point." if equal else "",
        f"No difference from {listed(unknown, 'or')} is shown." if unknown else "",
    ]
    return " ".join(filter(None, [first, *parts]))


def caution_sentence(compared: PairwiseComparison) -> str:
    """What a contest cannot say where labels are rare, seeds are one or images few; empty where nothing of it is so."""
    parts, mAP = [], comparison.over_seeds(compared.models, compared.selection, comparison.all_scores)[0][MAP]
    if captions.frequent(compared.reference) and mAP.idxmax() != compared.names[0]:
        parts.append(f"Over all labels {spoken(mAP.idxmax())} has the highest mAP, {mAP.max():.1f} %.")
    if all(len(runs) == 1 for runs in compared.models.values()):
        parts.append("Each model was trained once, so nothing is said of other seeds.")
    if len(compared.reference.names) < FEW_IMAGES or not labels_with(compared.reference.targets):
        parts.append("The test images are few: intervals of mAP are too narrow (docs/statistics.md).")
    return " ".join(parts)


def baseline_sentence(compared: PairwiseComparison) -> str:
    """Whether any model is above the strong linear baseline; empty where that has no rival or is not there."""
    names = compared.names
    if BASELINE not in names or len(names) < 2:
        return ""
    at = names.index(BASELINE)
    above = [
        f"{title(names[pair.a])} ({comparison.with_interval(pd.Series(comparison.in_points(pair.difference)))})"
        for pair in compared.pairs
        if pair.b == at and pair.verdict == BETTER
    ]
    others = {"Shown to be worse": BETTER, f"Equivalent within {MARGIN:g} point": EQUIVALENT, "Undecided": UNKNOWN}
    parts = [f"Shown to be better than the {title(BASELINE)}: {listed(above) or 'no model'}."]
    for words, verdict in others.items():
        if models := compared.with_verdict(at, verdict):
            parts.append(f"{words}: {listed(models)}.")
    return " ".join(parts)


def power_sentence(compared: PairwiseComparison) -> str:
    """How many pairs are told apart, how alike the closest are, and the gaps that can be shown; empty without pairs."""
    if not compared.pairs:
        return ""
    verdicts = [pair.verdict for pair in compared.pairs]
    apart, equal = len(verdicts) - verdicts.count(UNKNOWN) - verdicts.count(EQUIVALENT), verdicts.count(EQUIVALENT)
    shown = f" and equivalence within {MARGIN:g} point for {equal}" if equal else ""
    closest = min(compared.pairs, key=lambda pair: pair.equivalent_within)
    alike, within = listed(spoken(compared.names[at]) for at in closest[:2]), 100 * closest.equivalent_within
    gaps = sorted(100 * pair.variance.smallest_gap for pair in compared.pairs)
    text = (
        f"A difference is shown for {apart} of {len(verdicts)} pair{'s' * (len(verdicts) > 1)} of models{shown}. The "
        f"closest pair is {alike}, equivalent within {within:.1f} points. The smallest difference shown with "
        f"{100 * POWER:.0f} % power is {gaps[0]:.1f}"
    )
    if len(gaps) == 1:
        return f"{text} points."
    enough = {name: sum(size <= 100 * share for size in gaps) for name, share in GAPS.items()}
    named = "; than ".join(f"{name}: {count}" for name, count in enough.items())
    return f"{text} to {gaps[-1]:.1f} points, depending on the pair. Pairs that need no more than {named}."
