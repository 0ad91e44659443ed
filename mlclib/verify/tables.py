"""An experiment's tables made anew from the predictions of its runs, and held against those that stand."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlclib.results import (
    ablation,
    comparison,
    cost,
    decomposition,
    entries,
    leaderboard,
    literature,
    protocols,
    tuning,
)
from mlclib.results import scores as performance
from mlclib.results import table as rendering
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study


def recomputed(study: Study, cores: int) -> list[Table]:
    """Every table that 05_tables and 06_protocols write, or 07_tuning. No cache of an earlier process is used.

    Most of the time goes into the bootstrap draws of single runs, which are made on `cores` threads first; the tables
    then find them. Raises UserError where no run is finished.
    """
    if study.experiment.tuning:
        return [tuning.trials_table(study.experiment, study.finished_trials())]
    models = entries.models(study)
    _draw([run for runs in (*models.values(), *_variants(study)) for run in runs], cores)
    entered = entries.entered(study.folder / "external", models[next(iter(models))][0].labels)
    audit = protocols.audit(models)
    return [
        performance.scores_table(models),
        *leaderboard.tables(leaderboard.compare_all(models)),
        performance.per_class_table(models),
        performance.further_table(models),
        cost.cost_table(models),
        *itertools.chain(*ablation.all_tables(study).values()),
        *decomposition.decomposition_tables(study, models),
        *literature.published_tables(models, entered),
        protocols.changes_table(audit, models),
    ]


def difference(path: Path, table: Table) -> str:
    """Where the CSV file at `path` says another thing than the table, a phrase; empty where the bytes are the same."""
    stands, made = path.read_text(encoding="utf-8"), rendering.csv(table)
    if stands == made:
        return ""
    for number, (old, new) in enumerate(zip(stands.splitlines(), made.splitlines(), strict=False), start=1):
        if old != new:
            return f"line {number} is {_cut(old)}, and its runs' predictions give {_cut(new)}"
    return f"it has {len(stands.splitlines())} lines, and its runs' predictions give {len(made.splitlines())}"


def _draw(runs: list[FinishedRun], cores: int) -> None:
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda run: comparison.bootstrap([run], "last"), runs))


def _variants(study: Study) -> Iterator[list[FinishedRun]]:
    for model in study.experiment.ablation:
        for axis in study.experiment.axes(model):
            yield from study.finished_variants(model, axis).values()


def _cut(line: str) -> str:
    return repr(line if len(line) <= 100 else f"{line[:97]}...")
