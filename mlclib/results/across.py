"""Models over several experiments, from the leaderboards in results/: average ranks over data sets, and whether what
one experiment shows is reversed by another (another backbone, frozen or trained, other images).
"""

from itertools import combinations, permutations
from pathlib import Path

import pandas as pd

from mlclib import config
from mlclib.metrics import pairwise
from mlclib.metrics.pairwise import ALPHA, BETTER, LEAST_SETS
from mlclib.models import title
from mlclib.results.captions import MAP, MAP_FREQUENT
from mlclib.results.table import Table, listed

# What a data set takes its images from, where that is another one: two sets of one source share test images.
_SOURCES = {"voc2007+2012": {"voc2007", "voc2012"}, "coco18": {"coco2014"}}


def rank_tables(results: Path) -> list[Table]:
    """A table for each protocol that has a leaderboard on two independent data sets or more: average rank and mAPs.

    A protocol is a set of models on one backbone, frozen or trained; the input size may fit the data set. Of
    experiments whose data sets share test images one counts, the one with the fewest ablations; results without a YAML
    file do not count.
    """
    protocols: dict[tuple, dict[str, tuple[set[str], pd.Series]]] = {}
    for models, boards in _leaderboards(results).items():
        experiments = [config.load(name) for name in boards if (config.FOLDER / f"{name}.yaml").is_file()]
        for experiment in sorted(experiments, key=lambda experiment: len(experiment.ablation)):
            data, backbone, frame = experiment.dataset["name"], experiment.backbone, boards[experiment.name]
            sources = _SOURCES.get(data, {data})
            chosen = protocols.setdefault((models, backbone.name, backbone.frozen), {})
            if not any(sources & others for others, _ in chosen.values()):
                chosen[experiment.name] = sources, frame[headline(frame)].loc[list(models)]
    every = [pd.DataFrame({name: mAP for name, (_, mAP) in chosen.items()}) for chosen in protocols.values()]
    return [_rank_table(scores, number) for number, scores in enumerate((s for s in every if s.shape[1] > 1), 1)]


def reversal_tables(results: Path) -> list[Table]:
    """What all experiments of the same models show alike, and every two of them x how far they agree; no table where
    there are not two.

    A pair of models is reversed where each of the two experiments shows another of them to be better.
    """
    rows, alike = [], []
    for models, boards in _leaderboards(results).items():
        paths = {name: results / name / "tables" / "pairs.csv" for name in boards}
        verdicts = {name: pd.read_csv(path).set_index("pair")["verdict"] for name, path in paths.items()}
        pairs = list(permutations(models, 2))
        better = {name: {(a, b) for a, b in pairs if verdicts[name].get(f"{a} vs {b}") == BETTER} for name in boards}
        for one, two in combinations(boards, 2):
            turned = sorted(pair for pair in better[one] if pair[::-1] in better[two])
            both = len(better[one] & better[two]) + len(turned)
            names = ", ".join(f"{title(high)} vs {title(low)}" for high, low in turned) or "none"
            rows.append((one, two, both, len(turned), names))
        everywhere = set.intersection(*better.values()) if len(boards) > 1 else set()
        for model in sorted(models, key=lambda model: -sum(high == model for high, _ in everywhere)):
            if below := [title(low) for high, low in pairs if (high, low) in everywhere and high == model]:
                alike.append((title(model), listed(below), ", ".join(boards)))
    if not rows:
        return []
    columns = ["experiment", "and", "shown in both", "reversed", "pairs reversed"]
    caption = (
        "Every two experiments of the same models. Shown in both: pairs of models of which each experiment shows one "
        f"to be better ({100 * ALPHA:.0f} % level, corrected over the pairs of each experiment); reversed: those "
        "where the better one is not the same. The better one of the first experiment is named first."
    )
    heading = "Pairs of models whose order two experiments reverse"
    formats = {"shown in both": ".0f", "reversed": ".0f"}
    turns = Table("turned", heading, pd.DataFrame(rows, columns=columns), caption, formats=formats)
    frame = pd.DataFrame(alike, columns=["model", "is shown to be above", "in every one of"])
    return [Table("alike", "What the experiments agree on", frame, "By the verdicts on pairs of models."), turns]


def _leaderboards(results: Path) -> dict[tuple[str, ...], dict[str, pd.DataFrame]]:
    """The leaderboards in results/: models -> experiment -> frame."""
    boards: dict[tuple[str, ...], dict[str, pd.DataFrame]] = {}
    for path in sorted(results.glob("*/tables/leaderboard.csv")):
        frame = pd.read_csv(path).set_index("model")
        if (path.parent / "pairs.csv").is_file():
            boards.setdefault(tuple(sorted(frame.index)), {})[path.parts[-3]] = frame
    return boards


def headline(frame: pd.DataFrame) -> str:
    """The column of the headline mAP of a leaderboard or a table of scores, read from its csv."""
    return next(name for name in (MAP_FREQUENT, MAP) if name in frame)


def _rank_table(scores: pd.DataFrame, number: int) -> Table:
    """scores: models x experiments on independent data sets."""
    sets = scores.shape[1]
    ranks = pairwise.ranks_across(scores.to_numpy().T)
    order = ranks.average.argsort(kind="stable")
    average = ranks.average[order]
    frame = scores.iloc[order].rename_axis("model").reset_index()
    frame.insert(1, "average rank", average)
    caption = "Models by their average rank over data sets, 1 the highest mAP; mAP in percent, the headline of each."
    protocol = f"mAPs from the leaderboards of {', '.join(scores)}, which share no test images."
    if sets < LEAST_SETS:
        protocol += f" Below {LEAST_SETS} independent data sets ranks stand alone, without a test."
    else:
        frame["ties"] = pairwise.letters(average[None, :] - average[:, None] > ranks.critical)
        caption += (
            " Ties: models that share a letter have average ranks no further apart than Nemenyi's critical difference."
        )
        protocol += f" Critical difference {ranks.critical:.2f} at the {100 * ALPHA:.0f} % level (Demsar, 2006)."
        if len(scores) > 2:
            protocol += f" Friedman's test of no difference: chi-squared {ranks.statistic:.2f}, p {ranks.p:.2g}."
    return Table(
        name="across" if number == 1 else f"across-{number}",
        title=f"Average ranks over {sets} data sets",
        frame=frame,
        formats={"average rank": ".2f"},
        best=tuple(scores.columns),
        shown={model: title(model) for model in frame["model"]},
        caption=caption,
        protocol=protocol,
    )
