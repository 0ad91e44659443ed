"""One line for each job that ends while Snakemake runs them: how it ended, what runs, what is left and how long.

Read by the Snakefile, in Snakemake's main process alone: imports nothing heavy.
"""

import logging
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from mlclib.runs.times import words

# The job that failed has said why itself.
REPEATED = ("RuleException", "Exiting because a job", "WorkflowError:\nAt least one job did not complete")
KILLED = "it was killed, or ended without a message"


class Watch(logging.Handler):
    """Follows the jobs of a plan (`batch.rows`) in the records of Snakemake's logger.

    Snakemake's own words are shown where they are errors and no job's own sentence stands for them.
    """

    def __init__(self, jobs: dict[str, dict[str, Any]], folder: Path):
        """jobs: by the name of their files; folder: the experiment's."""
        super().__init__()
        self.jobs, self.folder = jobs, Path(folder)
        self.running: dict[str, float] = {}  # since when, on the clock below
        self.ended: dict[str, float] = {}  # how long it took
        self.failed: set[str] = set()
        self.started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_ERROR:
            time.sleep(1)  # Ctrl-C may end a job before the file below is there
        if stopped(self.folder).exists():  # the jobs that this ended did not fail
            return
        if event == LogEvent.JOB_INFO and (job := dict(record.wildcards).get("job")):
            self.running.setdefault(job, time.monotonic())
            self.failed.discard(job)  # it is tried again
        elif event == LogEvent.JOB_FINISHED:
            for job in [job for job in self.running if Path(self.jobs[job]["done"]).exists()]:
                self.ended[job] = time.monotonic() - self.running.pop(job)
                name, notebook = self.jobs[job]["name"], self.jobs[job]["kind"] == "notebook"
                see = f", see {self.folder}/notebooks/{name}.ipynb" if notebook else ""
                self.report(f"{name}: done in {words(self.ended[job])}{see}")
        elif event == LogEvent.JOB_ERROR and record.log:
            job = Path(record.log[0]).name.removesuffix(".log")
            if self.running.pop(job, None) is not None:
                self.failed.add(job)
                reason = sentence(record.log[0])
                if reason == KILLED and record.rule_msg:  # what the cluster says of it
                    reason = " ".join(record.rule_msg.split())
                self.report(f"{self.jobs[job]['name']}: failed: {reason}")
        elif (
            record.levelno >= logging.ERROR
            and event in (None, LogEvent.ERROR)
            and not record.getMessage().startswith(REPEATED)
        ):
            print(record.getMessage(), flush=True)

    def report(self, what: str) -> None:
        left = len(self.jobs) - len(self.ended) - len(self.failed) - len(self.running)
        seconds = self.seconds_left()
        time_left = f", {words(seconds)} to go" if seconds is not None and (left or self.running) else ""
        counts = f"{len(self.running)} running, {len(self.failed)} failed, {left} left"
        print(f"[{len(self.ended)}/{len(self.jobs)}] {what} ({counts}{time_left})", flush=True)

    def seconds_left(self) -> float | None:
        """Until the last job ends, at the pace so far; None before one has ended."""
        if not self.ended:
            return None
        now, mean = time.monotonic(), fmean(self.ended.values())
        jobs = {name: job["seconds"] or mean for name, job in self.jobs.items() if name not in self.failed}
        done = sum(self.ended.values()) + sum(now - since for since in self.running.values())
        return max(0.0, sum((jobs | self.ended).values()) - done) * (now - self.started) / max(done, 1e-9)


def stopped(folder: Path) -> Path:
    """The file that says that the plan was interrupted."""
    return folder / "plan" / "stopped"


def sentence(log: str) -> str:
    """The sentence with which the job of this log failed: its error, or else the last line that it wrote."""
    try:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return KILLED
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else lines[-1] if lines else KILLED
