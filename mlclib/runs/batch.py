"""The jobs of an experiment at work: handed to Snakemake, which runs them here or on a cluster, and told of at the end.

What a job asks of a machine (minutes, memory, a GPU) is what it took before, or jobs of its like did, or what `check`
foretells, with a margin. Times and memory are Snakemake's own benchmark files, results/<experiment>/times.
"""

import importlib.util
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from mlclib.common.errors import UserError
from mlclib.common.files import write_text
from mlclib.runs import gpus, watch
from mlclib.runs.check import Estimate
from mlclib.runs.plan import Job

ESTIMATE = "estimate.json"  # what `check` foretold: {model: {"seconds": of a run, "memory": in MB}}
COMPUTING = ("maps", "train")  # kinds of jobs that take a GPU where there is one
SHORT = 600.0  # seconds; jobs that take less may go to a cluster's queue together


@dataclass(frozen=True)
class Cost:
    """Seconds that a job takes and megabytes that it holds at its peak; None where that is not known."""

    seconds: float | None
    memory: float | None


@dataclass(frozen=True)
class Outcome:
    """How a batch ended. ran, waiting: names of jobs; failed: name -> its sentence; seconds: of all together."""

    ran: dict[str, str]  # name -> kind
    failed: dict[str, str]
    waiting: list[str]
    reused: int
    seconds: float

    def __str__(self) -> str:
        kinds = Counter(self.ran.values())
        what = f" ({', '.join(f'{count} {kind}' for kind, count in kinds.items())})" if kinds else ""
        lines = [f"{len(self.ran)} jobs ran in {watch.words(self.seconds)}{what}; {self.reused} were up to date"]
        lines += [f"failed: {name}: {sentence}" for name, sentence in self.failed.items()]
        if self.waiting:
            shown = ", ".join(self.waiting[:5]) + (f" and {len(self.waiting) - 5} more" if self.waiting[5:] else "")
            lines.append(f"waiting for these: {shown}")
        return "\n".join(lines)


def run(folder: Path, every: list[Job], cores: int, profile: str = "") -> Outcome:
    """Run the jobs of an experiment's plan that have a reason to, in its folder; those that are current are reused.

    cores: of this machine. profile: a folder with a Snakemake profile, which then says where and how many.
    Raises UserError where the profile, or the plugin that it names, is not there.
    """
    options = ["--profile", _profile(profile)] if profile else ["--cores", str(cores)]
    if not profile and (there := gpus.there()):
        options += ["--resources", f"gpu={len(there)}"]
    jobs = rows(folder, every, cores)
    shutil.rmtree(folder / "plan", ignore_errors=True)
    for job in jobs:
        watch.log(folder, job).unlink(missing_ok=True)
    write_text(folder / "plan" / "plan.json", json.dumps(jobs, indent=1))
    values = [f"plan={folder / 'plan' / 'plan.json'}", f"folder={folder}"]
    fixed = ["--keep-going", "--quiet", "all", "--nolock", "--drop-metadata"]
    started = time.monotonic()
    _waited_for([sys.executable, "-m", "snakemake", *options, *fixed, "--config", *values])
    return outcome(folder, jobs, len(every) - len(jobs), time.monotonic() - started)


def outcome(folder: Path, jobs: list[dict[str, Any]], reused: int, seconds: float) -> Outcome:
    """How the jobs of a plan ended, from what each left: its .done file, or a log alone."""
    ran = {job["name"]: job["kind"] for job in jobs if watch.done(folder, job).exists()}
    left = [job for job in jobs if job["name"] not in ran]
    failed = {
        job["name"]: f"{watch.said(folder, job)} (all that it said: {watch.log(folder, job)})"
        for job in left
        if watch.log(folder, job).exists()
    }
    return Outcome(ran, failed, [job["name"] for job in left if job["name"] not in failed], reused, seconds)


def rows(folder: Path, every: list[Job], cores: int) -> list[dict[str, Any]]:
    """The jobs that have a reason to run, as the Snakefile reads them: what each is, needs, and asks of its machine.

    seconds: that it will probably take, None where nothing tells. runtime (minutes) and mem_mb: what it asks for, with
    a margin. gpu: how many. group: jobs that a cluster may queue as one, None where it goes alone.
    """
    todo = [job for job in every if job.reasons]
    known, foretold = costs(folder), _foretold(folder)
    by_like: dict[str, list[Cost]] = {}
    for job in every:
        if job.file in known:
            by_like.setdefault(job.like, []).append(known[job.file])
    files = {job.name: job.file for job in todo}
    found = []
    for job in todo:
        alike = by_like.get(job.like, [foretold[job.like]] if job.like in foretold else [])
        cost = known.get(job.file) or Cost(_mean(c.seconds for c in alike), _mean(c.memory for c in alike))
        short = cost.seconds is not None and cost.seconds < SHORT
        found.append(
            {
                "name": job.name,
                "file": job.file,
                "kind": job.kind,
                "like": job.like,
                "command": job.command,
                "needs": [files[need] for need in job.needs if need in files],
                "threads": min(job.threads, cores),
                "seconds": cost.seconds,
                "runtime": 10 + math.ceil(2 * cost.seconds / 60) if cost.seconds is not None else 240,
                "mem_mb": 500 + math.ceil(1.5 * cost.memory) if cost.memory else 4000,
                "gpu": int(job.kind in COMPUTING),
                "group": job.kind if short else None,
            }
        )
    return found


def costs(folder: Path) -> dict[str, Cost]:
    """What each job of an experiment took when it last ran, by its `Job.file`, from Snakemake's benchmark files."""
    found = {}
    for path in (folder / "times").glob("*/*.tsv"):
        row = pd.read_csv(path, sep="\t").iloc[-1]
        memory = pd.to_numeric(row["max_rss"], errors="coerce")
        found[path.name.removesuffix(".tsv")] = Cost(float(row["s"]), float(memory) if memory > 0 else None)
    return found


def keep_estimates(folder: Path, estimates: Iterable[Estimate]) -> None:
    """Keep what `check` foretells of a model's runs, for the experiment in `folder`."""
    told = {
        one.model: {"seconds": 3600 * one.hours / max(1, one.runs), "memory": one.memory / 1e6} for one in estimates
    }
    write_text(folder / ESTIMATE, json.dumps(told, indent=1))


def _foretold(folder: Path) -> dict[str, Cost]:
    path = folder / ESTIMATE
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {f"train {model}": Cost(one["seconds"], one["memory"]) for model, one in told.items()}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _profile(profile: str) -> str:
    """The folder of the profile; UserError where it, or the plugin of its executor, is not there."""
    path = Path(profile) / "config.yaml"
    if not path.is_file():
        known = ", ".join(str(found.parent) for found in sorted(Path("profiles").glob("*/config.yaml")))
        raise UserError(f"--profile {profile}: there is no {path}; the project's own: {known or 'none'}")
    executor = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("executor", "local")
    plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    if executor != "local" and not importlib.util.find_spec(plugin):
        raise UserError(f"{path} asks for the executor {executor}: `pip install {plugin.replace('_', '-')}` brings it")
    return profile


def _waited_for(command: list[str]) -> None:
    """Run Snakemake to its end. SIGTERM and Ctrl-C end its jobs first, of which trainings save their state."""
    process = subprocess.Popen(command)

    def end(number: int, frame: object) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.terminate()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
