"""Is what stands in results/<experiment> what its runs give? Every file of it is held against something.

- runs: each file against the SHA-256 in the run's manifest;
- tables of scores, ablations, protocols and tuning (05_tables, 06_protocols, 07_tuning): computed anew from the runs'
  predictions, and the csv compared byte for byte;
- tables of 04_attention, which rest on passes of pictures through the models and not on predictions, figures, the other
  formats of all tables, and the page: against the SHA-256 in the record that the notebook left, and the record
  against the runs and the data that stand now;
- claims.yaml: the sentences that rest on the experiment's tables;
- with a share to retrain: runs trained anew, and their scores compared.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlclib.common import sources
from mlclib.common.errors import UserError
from mlclib.common.files import sha256
from mlclib.runs import plan, store
from mlclib.runs.study import Study
from mlclib.verify import claims, record, retrain, tables

COMPUTED = ("05_tables", "06_protocols", "07_tuning")  # their tables are made of predictions alone


@dataclass
class Report:
    """What `verify` found; str() shows it. problems: what is contradicted, missing or damaged; unsure: what nobody can
    tell.
    """

    experiment: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        lines = [
            *self.facts,
            *(f"cannot tell: {one}" for one in self.unsure),
            *(f"wrong: {one}" for one in self.problems),
        ]
        count = len(self.problems)
        end = "verified" if self.ok else f"{count} {'thing is' if count == 1 else 'things are'} wrong"
        return "\n".join([*lines, f"{self.experiment}: {end}"])


def verify(study: Study, cores: int, share: float | None = None, seed: int = 0) -> Report:
    """Check an experiment's results, and write their record (record.py) where nothing is wrong.

    share: of the runs, to be trained anew; seed: which ones are drawn.
    """
    report = Report(study.experiment.name)
    whole = _runs(study, report)
    made = _tables(study, report, cores) if not report.problems else set()
    _records(study, report, made)
    if claims.FILE.is_file():
        rules = claims.read()
        wrong = claims.broken(rules, sources.ROOT, study.results, study.experiment.name)
        report.problems += wrong
        report.facts.append(f"claims: {len(wrong)} of those that rest on these tables do not hold")
    if share is not None and whole:
        _retrain(study, report, retrain.drawn(whole, share, seed))
    if report.ok:
        report.facts.append(f"record: {record.write(study)}")
    return report


def _runs(study: Study, report: Report) -> list[str]:
    """The names of the runs that are whole; what is wrong with the others."""
    every, whole, outdated = study.runs, [], Counter()
    for name, run in every.items():
        folder, reasons = run.folder, None if run.state == "missing" else run.changes
        if reasons is not None:
            whole.append(name)
            outdated.update(reasons)
        elif bad := store.damaged(folder):
            report.problems.append(f"run {name}: {', '.join(bad)} of {folder} is damaged or missing; train it again")
        else:
            report.problems.append(f"run {name} is missing: {folder} holds no finished run")
    report.facts.append(f"runs: {len(whole)} of {len(every)} are whole, each file by its checksum")
    if outdated:
        reasons = "; ".join(f"{reason} ({count} runs)" for reason, count in outdated.items())
        report.facts.append(f"runs made by other code than stands here now: {reasons}")
    return whole


def _tables(study: Study, report: Report, cores: int) -> set[str]:
    """The tables that were computed anew, by their path in the experiment's folder."""
    folder, same = study.folder / "tables", []
    try:
        made = tables.recomputed(study, cores)
    except UserError as error:
        report.problems.append(str(error))
        return set()
    for table in made:
        path = folder / f"{table.name}.csv"
        if not path.is_file():
            report.problems.append(f"{path} is missing; its runs' predictions give it")
        elif apart := tables.difference(path, table):
            report.problems.append(f"{path} is contradicted: {apart}")
        else:
            same.append(table.name)
    report.facts.append(
        f"tables: {len(same)} of {len(made)} come out of the predictions to the same bytes ({', '.join(same)})"
    )
    return {f"tables/{table.name}.csv" for table in made}


def _records(study: Study, report: Report, made: set[str]) -> None:
    """Files against the records of the notebooks that wrote them, the records against the runs and the data."""
    held, recorded = set(), set()
    for stage in (*plan.stages(study), None):
        name = stage.name if stage else "page"
        left = plan.record(study, name)
        if not left:
            report.problems.append(
                f"the record of {name} is missing: run `make reproduce EXPERIMENT={report.experiment}`"
            )
            continue
        for path, digest in left["outputs"].items():
            recorded.add(path)
            file = study.folder / path
            if not file.is_file():
                report.problems.append(f"{file} is missing; {name} wrote it")
            elif sha256(file) == digest:
                held.add(path)
            elif path not in made:  # else its numbers are compared, which says more
                report.problems.append(f"{file} is not what {name} wrote")
        if stage:
            _rests_on(study, report, stage, left["inputs"])
    by_passes = sorted(path for path in held - made if path.startswith("tables/") and path.endswith(".csv"))
    report.facts.append(
        f"tables: {len(by_passes)} are what their notebook wrote, by checksum; they rest on passes through the models, "
        f"which are not made again ({', '.join(path[7:-4] for path in by_passes)})"
    )
    report.facts.append(
        f"files: {len(held)} of {len(recorded)} figures, tables and pages are what their notebook wrote"
    )
    stray = {f"tables/{path.name}" for path in (study.folder / "tables").glob("*.csv")} - recorded - made
    report.unsure += [f"nothing says what made {study.folder / path}" for path in sorted(stray)]


def _rests_on(study: Study, report: Report, stage: plan.Stage, before: dict[str, str]) -> None:
    """Whether the notebook's runs and data are those that stand now; other code may or may not matter."""
    now = plan.inputs(study, stage)
    results = {key for key in {*before, *now} if key == "data" or key.startswith(("run ", "external/"))}
    changed = sources.changes(*({key: one[key] for key in one if key in results} for one in (before, now)))
    report.problems += [f"{stage.name} was made of other runs or data: {reason}" for reason in changed]
    changed = sources.changes(*({key: one[key] for key in one if key not in results} for one in (before, now)))
    if changed and stage.path.stem not in COMPUTED:
        report.unsure.append(f"whether {stage.name} would come out the same: {_few(changed)}")


def _retrain(study: Study, report: Report, names: list[str]) -> None:
    numbers, broken = retrain.retrained(study, names)
    counts = Counter(number.verdict for number in numbers)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in retrain.VERDICTS if counts[verdict])
    report.facts.append(
        f"trained anew: {', '.join(names)}; of {len(numbers)} scores {told} (tolerance {retrain.TOLERANCE:g} of a "
        f"score; noise: equivalent within {retrain.MARGIN:g} standard deviations of the seeds)"
    )
    for number in numbers:
        if number.verdict not in (retrain.SAME, retrain.CLOSE):
            report.facts.append(f"  {number}")
    report.problems += [str(number) for number in numbers if number.verdict == retrain.CONTRADICTED] + broken
    report.unsure += [str(number) for number in numbers if number.verdict == retrain.UNKNOWN]


def _few(reasons: Iterable[str]) -> str:
    reasons = list(reasons)
    return "; ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")
