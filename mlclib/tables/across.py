"""Models over several data sets: average ranks and whether they differ, from the leaderboards in results/."""

import json
from pathlib import Path

import pandas as pd

from mlclib.scores import leaderboard
from mlclib.scores.leaderboard import ALPHA
from mlclib.tables.rendering import Table


def across(results: Path) -> list[Table]:
    """A table for each set of models that has a leaderboard on two data sets or more: average rank and mAPs.

    Experiments count together where they hold the same models. A data set counts once, however many experiments are on
    it: by the mean of their mAPs.
    """
    held: dict[tuple[str, ...], dict[str, pd.DataFrame]] = {}
    for note in sorted(results.glob("*/tables/leaderboard.json")):  # the last of its files that is written
        path = note.with_suffix(".csv")
        frame = pd.read_csv(path).set_index("model")
        held.setdefault(tuple(sorted(frame.index)), {})[path.parts[-3]] = frame
    tables = []
    for models, experiments in held.items():
        data = {name: _data(results / name / "tables" / "leaderboard.json") for name in experiments}
        if len(set(data.values())) > 1:
            scores = pd.DataFrame({name: frame["mAP"] for name, frame in experiments.items()}).loc[list(models)]
            tables.append(_table(scores, data, number=len(tables) + 1))
    return tables


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
