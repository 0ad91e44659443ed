"""Models over several experiments, from the leaderboards in results/: average ranks over data sets, and whether what
one experiment shows is reversed by another (a backbone, frozen or trained along, other images).
"""

import json
from itertools import combinations, permutations
from pathlib import Path

import pandas as pd
from scipy.stats import kendalltau

from mlclib.metrics import pairwise
from mlclib.metrics.pairwise import ALPHA, BETTER
from mlclib.results.table import Table


def rank_tables(results: Path) -> list[Table]:
    """A table for each set of models that has a leaderboard on two data sets or more: average rank and mAPs.

    Experiments count together where they hold the same models. A data set counts once, however many experiments are on
    it: by the mean of their mAPs.
    """
    tables = []
    for models, boards in _leaderboards(results).items():
        data = {name: _data_set(results / name / "tables" / "leaderboard.json") for name in boards}
        if len(set(data.values())) > 1:
            scores = pd.DataFrame({name: frame["mAP"] for name, frame in boards.items()}).loc[list(models)]
            tables.append(_rank_table(scores, data, number=len(tables) + 1))
    return tables


def reversal_tables(results: Path) -> list[Table]:
    """Every two experiments of the same models x how far they agree; no table where there are not two.

    A pair of models is reversed where each of the two experiments shows another of them to be better.
    """
    rows = []
    for models, boards in _leaderboards(results).items():
        better = {name: _better(results / name / "tables" / "pairs.csv", models) for name in boards}
        for one, two in combinations(boards, 2):
            mAPs = boards[one]["mAP"], boards[two]["mAP"].loc[boards[one].index]
            turned = sorted(pair for pair in better[one] if pair[::-1] in better[two])
            both = len(better[one] & better[two]) + len(turned)
            pairs = ", ".join(f"{high} vs {low}" for high, low in turned) or "none"
            rows.append((one, two, kendalltau(*mAPs).statistic, both, len(turned), pairs))
    if not rows:
        return []
    columns = ["experiment", "and", "Kendall's τ", "told apart in both", "turned", "pairs turned"]
    caption = (
        "Every two experiments of the same models. Kendall's τ: agreement of their orders by mAP, 1 the same order, "
        "-1 the reverse. Told apart in both: pairs of models of which each experiment shows one to be better "
        f"({100 * ALPHA:.0f} % level, corrected over the pairs of each experiment); turned: those where it is not the "
        "same one, named with the better of the first experiment before the other."
    )
    title, formats = "Whether a conclusion turns from one experiment to another", {"Kendall's τ": "+.2f"}
    formats |= {"told apart in both": ".0f", "turned": ".0f"}
    return [Table("turned", title, pd.DataFrame(rows, columns=columns), caption, formats=formats)]


def _leaderboards(results: Path) -> dict[tuple[str, ...], dict[str, pd.DataFrame]]:
    """The leaderboards in results/: models -> experiment -> frame."""
    boards: dict[tuple[str, ...], dict[str, pd.DataFrame]] = {}
    for note in sorted(results.glob("*/tables/leaderboard.json")):  # the last of its files that is written
        frame = pd.read_csv(note.with_suffix(".csv")).set_index("model")
        boards.setdefault(tuple(sorted(frame.index)), {})[note.parts[-3]] = frame
    return boards


def _better(path: Path, models: tuple[str, ...]) -> set[tuple[str, str]]:
    """The pairs of these models that an experiment tells apart, the better model first."""
    verdicts = pd.read_csv(path).set_index("pair")["verdict"]
    return {(a, b) for a, b in permutations(models, 2) if verdicts.get(f"{a} vs {b}") == BETTER}


def _data_set(note: Path) -> str:
    """The data set of a leaderboard, from the runs that it is made of."""
    runs = json.loads(note.read_text(encoding="utf-8"))["runs"]
    return next(name for name in runs if not name.startswith("external/")).partition("/")[0]


def _rank_table(scores: pd.DataFrame, data: dict[str, str], number: int) -> Table:
    """scores: models x experiments; data: experiment -> data set."""
    sets = scores.T.groupby(data, sort=False).mean().T
    ranks = pairwise.ranks_across(sets.to_numpy().T)
    order = ranks.average.argsort(kind="stable")
    sets, average = sets.iloc[order], ranks.average[order]
    frame = sets.rename_axis("model").reset_index()
    frame.insert(1, "average rank", average)
    frame["ties"] = pairwise.letters(average[None, :] - average[:, None] > ranks.critical)
    friedman = f" Friedman's test of no difference: chi-squared {ranks.statistic:.2f}, p {ranks.p:.2g}."
    several = "; of several experiments on one data set their mean" if len(data) > sets.shape[1] else ""
    return Table(
        name="across" if number == 1 else f"across-{number}",
        title=f"Average ranks over {sets.shape[1]} data sets",
        frame=frame,
        formats={"average rank": ".2f"},
        best=tuple(sets.columns),
        caption="Models by their average rank over data sets, 1 the highest mAP; mAP in percent. Ties: models that "
        "share a letter have average ranks no further apart than Nemenyi's critical difference.",
        protocol=f"mAPs from the leaderboards of {', '.join(scores.columns)}{several}. Critical difference "
        f"{ranks.critical:.2f} at the {100 * ALPHA:.0f} % level (Demsar, 2006), which {sets.shape[1]} data sets allow."
        f"{friedman if len(sets) > 2 else ''}",
    )
