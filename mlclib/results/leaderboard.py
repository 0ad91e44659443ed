"""Who leads, who is tied, and what the test set cannot tell (05_tables), from paired comparisons of all models."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlclib.metrics import pairwise as leaderboard
from mlclib.metrics import resampling as significance
from mlclib.metrics.pairwise import Pair
from mlclib.results import captions
from mlclib.results.ablation import DELTA
from mlclib.results.captions import Models
from mlclib.results.comparison import all_scores, bootstrap, over_seeds, stacked
from mlclib.results.cost import HEAD, PARAMETERS, counted
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

MARGIN = 1.0  # points of mAP: two models are equivalent whose difference is shown to be smaller
GAP, SHARE = "smallest gap", "seeds' share, %"
IMAGES, SEEDS = "images needed", "seeds needed"


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
        return leaderboard.shown_better(self.pairs, len(self.models))

    @property
    def ranks(self) -> list[tuple[int, int]]:
        """The first and the last rank that each model may have."""
        return leaderboard.rank_intervals(self.better)


def contest(models: Models, *, selection: str = "last") -> PairwiseComparison:
    """Every model against every other; those without predictions of that selection, or without public labels, are left
    out.
    """
    reference = captions.checked(models, selection)
    mean, _ = over_seeds(models, selection, all_scores)
    order = mean["mAP"].dropna().sort_values(ascending=False, kind="stable").index
    logits = {model: stacked(models[model], selection) for model in order}
    scored = {model: models[model] for model in order if logits[model] is not None}
    # as many draws as the least p, corrected over all pairs, takes to be below the level
    draws = max(captions.draws(reference), math.ceil(math.comb(len(scored), 2) * 2 / leaderboard.ALPHA))
    stacks = [logits[model] for model in scored]
    pairs = leaderboard.compare(stacks, reference.targets, margin=MARGIN / 100, draws=draws)
    return PairwiseComparison(scored, pairs, selection, draws)


def every(found: PairwiseComparison) -> list[Table]:
    """The leaderboard and its pairs; none where there are not two models with a score."""
    return [board(found), pairs(found)] if found.pairs else []


def board(found: PairwiseComparison) -> Table:
    """Models x mAP with its interval, F1, cost of the head, the ranks that it may have, and who it is tied with."""
    models, selection = found.models, found.selection
    reference = next(iter(models.values()))[0]
    mean, spread = over_seeds(models, selection, all_scores)
    low, high = 100 * np.array([bootstrap(runs, selection) for runs in models.values()]).T
    columns = {"model": found.names, "mAP": mean["mAP"].to_numpy(), "mAP low": low, "mAP high": high}
    frame = pd.DataFrame(columns | {score: mean[score].to_numpy() for score in ("CF1", "OF1")})
    costs = pd.DataFrame([counted(runs[0]) for runs in models.values()])[[PARAMETERS, HEAD]]
    frame = pd.concat([frame, costs], axis=1)
    frame["rank"] = [f"{first}–{last}" if first < last else str(first) for first, last in found.ranks]
    frame["ties"] = leaderboard.letters(found.better)
    sentences = [
        "Models from the highest mAP, with the ranks that each may have and the models that it is not told apart from.",
        captions.average(models).replace("In percent", "mAP and F1 in percent", 1),
        captions.ap(reference),
        f"mAP 95 %: bias-corrected percentile interval over {captions.draws(reference):,} bootstrap draws of test "
        "images and seeds. CF1, OF1: F1 over labels and over all decisions, predicted where the logit is at least 0. "
        "Head: all that is not the backbone, its learnt parameters and its multiply-adds for an image.",
        "Rank: one more than the models that are shown better, to the number of models less those shown worse, by the "
        f"corrected p of the table of pairs (below {leaderboard.ALPHA:g}), so that all ranks hold together at 95 % "
        "(Mogstad et al., 2024). Ties: two models share a letter unless one of them is shown to be better.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.file_stem("leaderboard", selection),
        title=f"Leaderboard on {captions.data_name(models)}",
        frame=frame,
        spread=spread.reset_index(drop=True),
        formats={PARAMETERS: ",.2f", HEAD: ",.2f"},
        intervals={"mAP 95 %": ("mAP low", "mAP high")},
        best=("mAP", "CF1", "OF1"),
        runs=models,
        caption=" ".join(sentences),
    )


def pairs(found: PairwiseComparison) -> Table:
    """Every pair of models x difference, verdict, the smallest gap that can be told, and what it would take to tell."""
    models, reference = found.models, next(iter(found.models.values()))[0]
    count = len(found.pairs)
    sentences = [
        "Every pair of models: by how much the first scores above the second, and whether this test set tells them "
        "apart.",
        f"{DELTA}: difference in points, with its 95 % interval, by {found.draws:,} paired bootstrap draws of test "
        f"images and seeds; p: of no difference, corrected over all {count} pairs (Holm; of one pair alone at least "
        f"{significance.least_p(found.draws):.1g}). Equivalent: p below {leaderboard.ALPHA:g} of a difference of "
        f"{MARGIN:g} point of mAP or more either way (two one-sided tests), corrected alike; better goes before it.",
        f"{GAP.capitalize()}: what such a pair alone would show with {100 * leaderboard.POWER:.0f} % power at the 5 % "
        f"level, {leaderboard.REACH:.2f} standard errors of the difference; {SHARE}: of its variance, what more seeds "
        "lessen and more images do not. Images and seeds needed: how many would show the present difference with that "
        f"power, the other as it is (here {len(reference.names):,} images); ∞ where no number would, an em dash where "
        "one seed does not tell.",
        captions.made(models, found.selection),
    ]
    frame = pd.DataFrame([_row(pair, found) for pair in found.pairs])
    names = [(found.names[pair.a], found.names[pair.b]) for pair in found.pairs]
    return Table(
        name=captions.file_stem("pairs", found.selection),
        title=f"Pairs of models on {captions.data_name(models)}",
        frame=frame,
        formats={
            **dict.fromkeys((DELTA, "Δ low", "Δ high"), "+.1f"),
            **dict.fromkeys(("p", "p equivalence"), "p"),
            **dict.fromkeys((SHARE, IMAGES, SEEDS), ",.0f"),
        },
        intervals={"Δ 95 %": ("Δ low", "Δ high")},
        runs={title(a, b): [*models[a], *models[b]] for a, b in names},
        caption=" ".join(sentences),
    )


def title(a: str, b: str) -> str:
    """A pair as the tables name it."""
    return f"{a} vs {b}"


def _row(pair: Pair, found: PairwiseComparison) -> dict[str, str | float]:
    a, b = found.names[pair.a], found.names[pair.b]
    reference: FinishedRun = found.models[a][0]
    parts, gap = pair.parts, pair.difference.delta
    return {
        "pair": title(a, b),
        DELTA: 100 * gap,
        "Δ low": 100 * pair.difference.low,
        "Δ high": 100 * pair.difference.high,
        "p": pair.p_corrected,
        "p equivalence": pair.p_equivalence_corrected,
        "verdict": pair.verdict,
        GAP: 100 * parts.smallest_gap,
        SHARE: 100 * parts.seeds / parts.error**2 if parts.error else np.nan,
        IMAGES: parts.images_needed(gap, len(reference.names)),
        SEEDS: parts.seeds_needed(gap),
    }
