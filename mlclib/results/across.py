"""Models over several experiments, from the leaderboards in results/: average ranks over data sets, and whether what
one experiment shows is turned by another (a backbone, frozen or trained along, other images).
"""

import json
from itertools import combinations, permutations
from pathlib import Path

import pandas as pd
from scipy.stats import kendalltau

from mlclib.metrics import pairwise as leaderboard
from mlclib.metrics.pairwise import ALPHA, BETTER
from mlclib.results.leaderboard import title
from mlclib.results.table import Table

# models -> experiment -> its leaderboard
Held = dict[tuple[str, ...], dict[str, pd.DataFrame]]


def across(results: Path) -> list[Table]:
    """A table for each set of models that has a leaderboard on two data sets or more: average rank and mAPs.

    Experiments count together where they hold the same models. A data set counts once, however many experiments are on
    it: by the mean of their mAPs.
    """
    tables = []
    for models, experiments in _held(results).items():
        data = {name: _data(results / name / "tables" / "leaderboard.json") for name in experiments}
        if len(set(data.values())) > 1:
            scores = pd.DataFrame({name: frame["mAP"] for name, frame in experiments.items()}).loc[list(models)]
            tables.append(_table(scores, data, number=len(tables) + 1))
    return tables


def turned(results: Path) -> list[Table]:
    """Every two experiments of the same models x how far they agree; no table where there are not two.

    A pair of models is turned where each of the two experiments shows another of them to be better.
    """
    rows = []
    for models, experiments in _held(results).items():
        better = {name: _better(results / name / "tables" / "pairs.csv", models) for name in experiments}
        for one, two in combinations(experiments, 2):
            mAP = experiments[one]["mAP"], experiments[two]["mAP"].loc[experiments[one].index]
            against = {pair for pair in better[one] if pair[::-1] in better[two]}
            rows.append(
                {
                    "experiment": one,
                    "and": two,
                    "Kendall's τ": kendalltau(*mAP).statistic,
                    "told apart in both": len(better[one] & better[two]) + len(against),
                    "turned": len(against),
                    "pairs turned": ", ".join(title(high, low) for high, low in sorted(against)) or "none",
                }
            )
    if not rows:
        return []
    caption = (
        "Every two experiments of the same models. Kendall's τ: agreement of their orders by mAP, 1 the same order, "
        "-1 the reverse. Told apart in both: pairs of models of which each experiment shows one to be better "
        f"({100 * ALPHA:.0f} % level, corrected over the pairs of each experiment); turned: those where it is not the "
        "same one, named with the better of the first experiment before the other."
    )
    return [
        Table(
            name="turned",
            title="Whether a conclusion turns from one experiment to another",
            frame=pd.DataFrame(rows),
            formats={"Kendall's τ": "+.2f", "told apart in both": ".0f", "turned": ".0f"},
            caption=caption,
        )
    ]


def _held(results: Path) -> Held:
    """The leaderboards in results/."""
    held: Held = {}
    for note in sorted(results.glob("*/tables/leaderboard.json")):  # the last of its files that is written
        frame = pd.read_csv(note.with_suffix(".csv")).set_index("model")
        held.setdefault(tuple(sorted(frame.index)), {})[note.parts[-3]] = frame
    return held


def _better(path: Path, models: tuple[str, ...]) -> set[tuple[str, str]]:
    """The pairs of these models that an experiment tells apart, the better model first."""
    verdicts = pd.read_csv(path).set_index("pair")["verdict"]
    return {pair for pair in permutations(models, 2) if verdicts.get(title(*pair)) == BETTER}


def _data(note: Path) -> str:
    """The data set of a leaderboard, from the runs that it is made of."""
    runs = json.loads(note.read_text(encoding="utf-8"))["runs"]
    return next(name for name in runs if not name.startswith("external/")).partition("/")[0]


def _table(scores: pd.DataFrame, data: dict[str, str], number: int) -> Table:
    """scores: models x experiments; data: experiment -> data set."""
    sets = scores.T.groupby(data, sort=False).mean().T
    found = leaderboard.ranks_across(sets.to_numpy().T)
    order = found.average.argsort(kind="stable")
    sets, average = sets.iloc[order], found.average[order]
    better = average[None, :] - average[:, None] > found.critical
    frame = pd.DataFrame({"model": sets.index, "average rank": average})
    frame = pd.concat([frame, sets.reset_index(drop=True)], axis=1)
    frame["ties"] = leaderboard.letters(better)
    friedman = "" if len(sets) < 3 else f"Friedman's test of no difference: chi-squared {found.statistic:.2f}, "
    friedman += "" if len(sets) < 3 else f"p {found.p:.2g}. "
    return Table(
        name="across" if number == 1 else f"across-{number}",
        title=f"Average ranks over {sets.shape[1]} data sets",
        frame=frame,
        formats={"average rank": ".2f"},
        best=tuple(sets.columns),
        caption=f"Models by their average rank over data sets, 1 the highest mAP. {friedman}Ties: models that share a "
        f"letter have average ranks no further apart than Nemenyi's critical difference, {found.critical:.2f} at the "
        f"{100 * ALPHA:.0f} % level (Demsar, 2006), which {sets.shape[1]} data sets allow. mAP in percent, from the "
        f"leaderboards of {', '.join(scores.columns)}"
        f"{'' if len(data) == sets.shape[1] else '; of several experiments on one data set their mean'}.",
    )
