"""The jobs of an experiment at work: handed to Snakemake, which runs them here or on a cluster.

What a job asks of a machine (minutes, memory, a GPU) is what it took before, or jobs of its like did, or what `check`
estimated, with a margin. Each job measures itself and leaves results/<experiment>/times/<job>.json.
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
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import yaml

from mlclib.common.errors import UserError, some_of
from mlclib.common.files import write_text
from mlclib.runs import gpus, watch
from mlclib.runs.plan import Job
from mlclib.runs.study import Study
from mlclib.runs.times import Cost, costs, words

COMPUTING = ("maps", "train")  # kinds of jobs that take a GPU where there is one
SHORT = 600.0  # seconds; jobs that take less may go to a cluster's queue together


def together(study: Study, profile: str) -> bool:
    """Whether one job trains all seeds of a configuration: where runs are short, on this machine's CPUs."""
    if profile or gpus.visible_gpus() or not study.experiment.backbone.frozen:
        return False
    times = [cost.seconds for file, cost in costs(study.folder).items() if file.startswith("train_")]
    return not any(seconds > SHORT for seconds in times)


def run(folder: Path, every: list[Job], cores: int, profile: str = "") -> tuple[int, str]:
    """Run the jobs of an experiment's plan that have a reason to, in its folder; see `ended` for what it returns.

    cores: of this machine. profile: a folder with a Snakemake profile, which then says where and how many.
    Raises UserError where the profile, or the plugin that it names, is not there.
    """
    options = ["--profile", _profile(profile)] if profile else ["--cores", str(cores)]
    if not profile and (visible := gpus.visible_gpus()):
        options += ["--resources", f"gpu={len(visible)}"]
    jobs = rows(folder, every, cores)
    shutil.rmtree(folder / "plan", ignore_errors=True)
    for job in jobs:
        Path(job["log"]).unlink(missing_ok=True)
    write_text(folder / "plan" / "plan.json", json.dumps(jobs, indent=1))
    values = [f"plan={folder / 'plan' / 'plan.json'}", f"folder={folder}"]
    fixed = ["--keep-going", "--quiet", "all", "--nolock", "--drop-metadata"]
    started = time.monotonic()
    quiet = "-Wignore"  # interrupted, Snakemake would warn of coroutines of its own
    _wait_for([sys.executable, quiet, "-m", "snakemake", *options, *fixed, "--config", *values], watch.stopped(folder))
    return ended(jobs, len(every) - len(jobs), time.monotonic() - started)


def ended(jobs: list[dict[str, Any]], reused: int, seconds: float) -> tuple[int, str]:
    """How many jobs of a plan ended well, and in words how each ended: each left its .done file, or a log alone."""
    ran, failed, waiting = Counter(), [], []
    for job in jobs:
        if Path(job["done"]).exists():
            ran[job["kind"]] += 1
        elif Path(job["log"]).exists():
            failed.append(f"failed: {job['name']}: {watch.sentence(job['log'])} (its whole output: {job['log']})")
        else:
            waiting.append(job["name"])
    kinds = f" ({', '.join(f'{count} {kind}' for kind, count in ran.items())})" if ran else ""
    lines = [f"{ran.total()} jobs ran in {words(seconds)}{kinds}; {reused} were up to date", *failed]
    if waiting:
        lines.append(f"waiting for these: {some_of(waiting, 5)}")
    return ran.total(), "\n".join(lines)


def rows(folder: Path, every: list[Job], cores: int) -> list[dict[str, Any]]:
    """The jobs that have a reason to run, as the Snakefile reads them: what each is, needs, and asks of its machine.

    seconds: that it will probably take, None where nothing tells. runtime (minutes) and mem_mb: what it asks for, with
    a margin. priority: how many jobs wait for it. gpu: how many. group: jobs that a cluster may queue as one, None
    where it goes alone.
    """
    todo = [job for job in every if job.reasons]
    files, expected = {job.name: job.file for job in todo}, costs(folder)
    by_like: dict[str, list[Cost]] = {}
    for job in every:
        if job.file in expected:
            by_like.setdefault(job.like, []).append(expected[job.file])
    lines = []
    for job in todo:
        cost = expected.get(job.file) or _mean(by_like.get(job.like, [])) or expected.get(job.like) or Cost(None, None)
        short = cost.seconds is not None and cost.seconds < SHORT
        lines.append(
            {
                "name": job.name,
                "file": job.file,
                "kind": job.kind,
                "command": job.command,
                "log": str(folder / "logs" / f"{job.file}.log"),  # its standard output and error
                "done": str(folder / "plan" / job.kind / f"{job.file}.done"),  # is there when it ended well
                "needs": [files[need] for need in job.needs if need in files],
                "priority": sum(job.name in other.needs for other in todo),
                "threads": min(job.threads, cores),
                "seconds": cost.seconds,
                "runtime": 10 + math.ceil(2 * cost.seconds / 60) if cost.seconds is not None else 240,
                "mem_mb": 500 + math.ceil(1.5 * cost.memory) if cost.memory else 8000,
                "gpu": int(job.kind in COMPUTING),
                "group": job.kind if short else None,
            }
        )
    return lines


def _mean(costs: list[Cost]) -> Cost | None:
    memory = [cost.memory for cost in costs if cost.memory]
    return Cost(fmean(cost.seconds for cost in costs), fmean(memory) if memory else None) if costs else None


def _profile(profile: str) -> str:
    """The folder of the profile; UserError where it, or the plugin of its executor, is not there."""
    path = Path(profile) / "config.yaml"
    if not path.is_file():
        shipped = ", ".join(str(file.parent) for file in sorted(Path("profiles").glob("*/config.yaml")))
        raise UserError(f"--profile {profile}: there is no {path}; the project's own: {shipped or 'none'}")
    executor = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("executor", "local")
    plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    if executor != "local" and not importlib.util.find_spec(plugin):
        raise UserError(f"{path} asks for the executor {executor}: `pip install {plugin.replace('_', '-')}` brings it")
    return profile


def _wait_for(command: list[str], stopped: Path) -> None:
    """Run Snakemake to its end. SIGTERM and Ctrl-C end its jobs first, of which trainings save their state.

    Raises KeyboardInterrupt then; the file `stopped` is made before.
    """
    # Snakemake and its jobs inherit that Ctrl-C is ignored: met by it themselves, they would say so in many lines.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = subprocess.Popen(command)

    def end(number: int, frame: object) -> None:
        stopped.touch()
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.terminate()

    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped.exists():
        raise KeyboardInterrupt
