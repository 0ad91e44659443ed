"""Whether the statistics of the tables keep their promises, by simulation with known truth:
`python -m benchmarks.statistics`.

Writes the table of docs/statistics.md. One row takes about a minute of one core.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.simulation import PHOTOGRAPHS, SCENES, Contest, World, contest
from mlclib.metrics.pairwise import BETTER, UNKNOWN
from mlclib.metrics.variance import ALPHA

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
START, END = "<!-- python -m benchmarks.statistics -->", "<!-- end -->"
MODELS = 5

WORLDS = {
    "scenes-like": World(400, SCENES, level=0.78, seed_sd=0.02),
    "rare labels": World(954, PHOTOGRAPHS, level=0.50, seed_sd=0.02),
    "few images": World(40, (16, 12, 6), level=0.65, seed_sd=0.02),
    "seeds dominate": World(400, SCENES, level=0.78, seed_sd=0.10),
}
# The kind of test set, the seeds of each model, and how many contests of equal models; half as many for power.
ROWS = (
    ("scenes-like", 3, 100),
    ("scenes-like", 5, 100),
    ("rare labels", 3, 60),
    ("rare labels", 5, 40),
    ("few images", 1, 100),
    ("few images", 3, 100),
    ("seeds dominate", 3, 80),
    ("seeds dominate", 5, 100),
)


class Promises(NamedTuple):
    """What a simulation of equal models says: shares of 1, and a gap as a fraction.

    coverage: of the 95 % interval of mAP over the frequent labels; all_labels: over all labels; differences: of the
    95 % interval of a difference. family_wise: contests with any pair shown to differ, by the verdict and by the
    bootstrap alone. smallest_gap: the median that is stated.
    """

    bias: float
    coverage: float
    all_labels: float
    differences: float
    family_wise: float
    family_wise_bootstrap: float
    smallest_gap: float


def of_equals(world: World, seeds: int, contests: int) -> Promises:
    """Contests of MODELS models that are equally good in the population."""
    drawn = [contest(world, [0.0] * MODELS, seeds, number) for number in range(contests)]
    pairs = [pair for one in drawn for pair in one.pairs]
    whole = np.array([one.all_labels for one in drawn])
    return Promises(
        bias=float(np.mean([one.estimates - one.truths for one in drawn])),
        coverage=float(np.mean([(one.lows <= one.truths) & (one.truths <= one.highs) for one in drawn])),
        all_labels=float(np.mean((whole[:, 2] <= whole[:, 0]) & (whole[:, 0] <= whole[:, 3]))),
        differences=float(np.mean([pair.difference.within_noise for pair in pairs])),
        family_wise=float(
            np.mean([any(pair.verdict not in (UNKNOWN, "equivalent") for pair in one.pairs) for one in drawn])
        ),
        family_wise_bootstrap=float(np.mean([_bootstrap_alone(one) for one in drawn])),
        smallest_gap=float(np.median([pair.variance.smallest_gap for pair in pairs])),
    )


def power(world: World, seeds: int, contests: int, gap: float) -> tuple[float, float]:
    """(gap, power): one model that is better than the others by the gap that its own pairs state as the smallest one
    shown, in the median; and how often it is shown to be better.

    gap: where the search for that gap begins.
    """
    for number in range(2):
        drawn = [_with_a_better(world, seeds, 10_000 + 100 * number + k, gap) for k in range(max(6, contests // 10))]
        gap = float(np.median([pair.variance.smallest_gap for one in drawn for pair in one.pairs if pair.a == 0]))
    drawn = [_with_a_better(world, seeds, number, gap) for number in range(contests)]
    return gap, float(np.mean([pair.verdict == BETTER for one in drawn for pair in one.pairs if pair.a == 0]))


def _with_a_better(world: World, seeds: int, number: int, gap: float) -> Contest:
    return contest(world, [world.shift(gap), *[0.0] * (MODELS - 1)], seeds, number)


def _bootstrap_alone(one: Contest) -> bool:
    return min(pair.difference.p for pair in one.pairs) < ALPHA / len(one.pairs)


def row(name: str, seeds: int, contests: int) -> str:
    """One row of the table."""
    equal = of_equals(WORLDS[name], seeds, contests)
    gap, share = power(WORLDS[name], seeds, contests // 2, equal.smallest_gap)
    cells = [
        name,
        f"{seeds}",
        f"{contests}",
        f"{100 * equal.bias:+.1f}",
        *(f"{100 * value:.0f}" for value in (equal.coverage, equal.all_labels, equal.differences)),
        *(f"{100 * value:.1f}" for value in (equal.family_wise, equal.family_wise_bootstrap)),
        f"{100 * gap:.1f}",
        f"{100 * share:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    lines = [
        "| test set | seeds | contests | bias of mAP, points | its interval holds the truth, % | over all labels, % "
        "| interval of a difference, % | family-wise error, % | of the bootstrap alone, % | smallest gap, points "
        "| power there, % |",
        "| --- " * 11 + "|",
    ]
    for name, seeds, contests in ROWS:
        lines.append(row(name, seeds, contests))
        print(lines[-1], flush=True)
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.partition(START)[0], text.partition(END)[2]
        PAGE.write_text("\n".join([before + START, "", *lines, "", END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
