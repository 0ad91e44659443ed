"""Jobs at work: what each asks of a machine, a GPU for each, one owner for each, and what is said while they run."""

import json
import logging
import os
import platform
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake_interface_logger_plugins.common import LogEvent

from mlclib.common import files
from mlclib.common.errors import UserError
from mlclib.runs import batch, gpus, times, watch
from mlclib.runs.plan import Job

ROOT = Path(__file__).parents[1]


def train(model: str, seed: int, reasons=("it is not trained",)) -> Job:
    return Job(f"train {model} seed {seed}", ("run",), threads=4, reasons=reasons)


def took(folder: Path, job: Job, seconds: float, memory: float | None = 1000.0) -> None:
    path = folder / "times" / f"{job.file}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seconds": seconds, "memory": memory}))


# What a job asks for


def test_a_job_asks_for_what_it_took_or_its_like_did_or_check_estimated(tmp_path):
    took(tmp_path, train("msrn", 0), 300)
    took(tmp_path, train("msrn", 1), 900, None)
    times.write_estimates(tmp_path, [{"model": "dsdl", "seconds": 10800.0, "runs": 2, "memory": 8e9}])
    every = [train("msrn", 0), train("msrn", 1, ()), train("msrn", 2), train("dsdl", 0), train("gap", 0)]
    rows = {row["name"]: row for row in batch.rows(tmp_path, every, 2)}
    assert len(rows) == 4  # one has no reason to run
    own, like, estimated, unknown = (
        rows[f"train {name}"] for name in ("msrn seed 0", "msrn seed 2", "dsdl seed 0", "gap seed 0")
    )
    assert (own["seconds"], own["runtime"], own["mem_mb"], own["gpu"], own["threads"]) == (300, 20, 2000, 1, 2)
    assert (like["seconds"], like["mem_mb"]) == (600, 2000)
    assert (estimated["seconds"], estimated["runtime"], estimated["mem_mb"]) == (5400, 190, 12500)
    assert (unknown["seconds"], unknown["runtime"], unknown["mem_mb"]) == (None, 240, 8000)
    assert [row["group"] for row in (own, like, estimated, unknown)] == ["train", None, None, None]  # under ten minutes


def test_a_missing_profile_or_plugin_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no .*config.yaml; the project's own: profiles/slurm"):
        batch.run(tmp_path, [], 1, str(tmp_path / "nowhere"))
    (tmp_path / "config.yaml").write_text("executor: no-such")
    with pytest.raises(UserError, match="`pip install snakemake-executor-plugin-no-such` brings it"):
        batch.run(tmp_path, [], 1, str(tmp_path))


def test_the_profile_for_slurm_says_what_snakemake_understands():
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    options = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True).stdout
    for key in profile:
        assert f"--{key} " in options, key


# A GPU each


CLAIMING = """
import os
from mlclib.runs import gpus
gpus.claim_gpu()
print(os.environ[gpus.VISIBLE], flush=True)
input()
"""


def test_each_job_sees_one_gpu_and_waits_where_all_are_taken(tmp_path):
    environment = {**os.environ, gpus.VISIBLE: "GPU-a,GPU-b", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    first, second, third = (subprocess.Popen([sys.executable, "-c", CLAIMING], **pipes) for _ in range(3))
    ready = []
    while len(ready) < 2:
        ready += [
            job for job in (first, second, third) if job not in ready and select.select([job.stdout], [], [], 0.1)[0]
        ]
    names = [job.stdout.readline().strip() for job in ready]
    (waiting,) = {first, second, third} - set(ready)
    assert sorted(names) == ["GPU-a", "GPU-b"] and not select.select([waiting.stdout], [], [], 1.5)[0]
    ready[0].kill()  # a job that dies gives its GPU back
    assert waiting.stdout.readline().strip() == names[0]
    for job in (ready[1], waiting):
        job.communicate("end\n", timeout=20)
        assert job.returncode == 0


def test_the_driver_is_asked_for_gpus_and_one_that_was_given_is_taken(tmp_path, monkeypatch):
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert gpus.visible_gpus() == ["GPU-1", "GPU-2"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.visible_gpus() == []
    monkeypatch.setenv(gpus.VISIBLE, "3")  # as Slurm sets it
    gpus.claim_gpu()
    assert os.environ[gpus.VISIBLE] == "3"
    assert not list(tmp_path.rglob("3.lock"))


# One owner each


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """The claim of another machine, on a file system whose locks do not reach this one."""
    monkeypatch.setattr(files, "STALE", 2.0)
    with files.file_lock(tmp_path / "lock", "the training"):
        text = (tmp_path / "lock.claim").read_text()
    assert not (tmp_path / "lock.claim").exists()
    (tmp_path / "lock.claim").write_text(text.replace(f"host={platform.node()}", "host=node17"))
    (tmp_path / "lock.owner").write_text("process 5 on node17")
    return tmp_path / "lock.claim"


def test_what_a_machine_that_died_held_is_taken_over(claim, capsys):
    taken = pytest.raises(UserError, match="the training is at work already .process 5 on node17.")
    with taken, files.file_lock(claim.with_name("lock"), "the training", waits=False):
        pass
    started = time.monotonic()
    with files.file_lock(claim.with_name("lock"), "the training"):
        assert time.monotonic() - started < 20
    assert "at work already (process 5 on node17): waiting" in capsys.readouterr().out


def test_a_claim_that_lives_on_another_machine_is_waited_for(claim):
    renewing = "import os, sys, time\nfor _ in range(8): os.utime(sys.argv[1]); time.sleep(0.5)\nos.unlink(sys.argv[1])"
    other = subprocess.Popen([sys.executable, "-c", renewing, str(claim)])
    with files.file_lock(claim.with_name("lock"), "the training"):
        assert other.wait(5) == 0  # not before the other let go


@pytest.mark.slow
def test_a_requeue_and_a_retry_at_once_train_a_run_once(tiny_yaml, tmp_path):
    """Preempted, then started twice at once: each epoch is trained by one of them."""
    raw = yaml.safe_load(tiny_yaml.read_text(encoding="utf-8"))
    raw["training"]["epochs"] = 60
    path = tmp_path / "once.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = [sys.executable, "-m", "mlclib", "run", str(path), "--results", str(tmp_path), "--name", "dsdl seed 0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    first = subprocess.Popen(command, **pipes)
    while first.poll() is None and not list(tmp_path.rglob("history.csv")):
        time.sleep(0.02)
    first.terminate()
    printed, errors = first.communicate(timeout=60)
    assert first.returncode == 1 and "error: dsdl seed 0 stopped at epoch" in errors
    for other in [subprocess.Popen(command, **pipes) for _ in range(2)]:
        printed += other.communicate(timeout=120)[0]
        assert other.returncode == 0
    assert sorted(map(int, re.findall(r"epoch (\d+)/60", printed))) == list(range(1, 61))


# What is printed


def emit(watcher: watch.Watch, event: LogEvent, **more) -> None:
    watcher.emit(logging.makeLogRecord({"event": event, **more}))


def begun(folder: Path, *jobs: Job) -> tuple[watch.Watch, list[dict]]:
    """What watches these jobs, of which two began, and their rows."""
    rows = batch.rows(folder, list(jobs), 4)
    watcher = watch.Watch({row["file"]: row for row in rows}, folder)
    for row in rows[:2]:
        emit(watcher, LogEvent.JOB_INFO, wildcards={"job": row["file"]}, levelno=logging.INFO)
    return watcher, rows


def done(row: dict) -> None:
    Path(row["done"]).parent.mkdir(parents=True, exist_ok=True)
    Path(row["done"]).touch()


def test_each_job_that_ends_is_a_line_with_what_is_left(tmp_path, capsys, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock.now)
    watcher, rows = begun(tmp_path, *(train("msrn", seed) for seed in range(4)))
    clock.now = 120.0
    done(rows[0])
    emit(watcher, LogEvent.JOB_FINISHED, job_id=1)
    printed = capsys.readouterr().out
    # three jobs of 120 s, one of them at its end, two side by side
    assert printed == "[1/4] train msrn seed 0: done in 2 min (1 running, 0 failed, 2 left, 2 min to go)\n"
    log = Path(rows[1]["log"])
    log.parent.mkdir()
    log.write_text("epoch 1\nerror: the loss became nan\nShutting down\n")
    emit(watcher, LogEvent.JOB_ERROR, log=[str(log)], rule_msg=None, levelno=logging.ERROR)
    assert "train msrn seed 1: failed: the loss became nan (0 running, 1 failed, 2 left" in capsys.readouterr().out
    for message in ("Exiting because a job execution failed.", "No space left on device"):
        watcher.emit(logging.makeLogRecord({"msg": message, "levelno": logging.ERROR}))
    assert capsys.readouterr().out == "No space left on device\n"
    count, ended = batch.ended(rows, 7, 130.0)
    assert count == 1 and ended.splitlines()[0] == "1 jobs ran in 2 min (1 train); 7 were up to date"
    assert "failed: train msrn seed 1: the loss became nan (its whole output: " in ended
    assert ended.endswith("waiting for these: train msrn seed 2, train msrn seed 3")


def test_an_executed_notebook_is_named_and_a_killed_job_has_the_word_of_the_cluster(tmp_path, capsys):
    watcher, (notebook, killed) = begun(
        tmp_path, Job("05_tables", ("stage",), reasons=("it has not run",)), train("gmp", 0)
    )
    done(notebook)
    emit(watcher, LogEvent.JOB_FINISHED, job_id=1)
    assert f"05_tables: done in 0 s, see {tmp_path}/notebooks/05_tables.ipynb (" in capsys.readouterr().out
    message = "SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'"
    emit(watcher, LogEvent.JOB_ERROR, log=[killed["log"]], rule_msg=message, levelno=logging.ERROR)
    assert f"failed: {message}" in capsys.readouterr().out


def test_a_run_that_more_notebooks_wait_for_goes_first(tmp_path):
    notebook = Job("02_train-msrn", ("stage",), ("train msrn seed 0",), reasons=("it has not run",))
    rows = batch.rows(tmp_path, [train("gmp", 0), train("msrn", 0), notebook], 2)
    assert [row["priority"] for row in rows] == [0, 1, 0]
