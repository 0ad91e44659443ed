"""A reproduce that is killed, preempted, or left without disk, data or kernel ends with an undisturbed one's tables."""

import errno
import functools
import io
import itertools
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_workbook
import pytest
import rehearsal
import yaml

from mlclib import __main__ as line
from mlclib import config
from mlclib.common.errors import UserError
from mlclib.runs import notebooks, plan
from mlclib.runs.study import Study

KILLS = int(os.environ.get("KILLS", 6))
EPOCHS = 30  # where a kill is to meet a training
CLUSTER = Path(__file__).with_name("cluster.py")
NAMED = ("small.yaml", "--results", "results")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The finished workbook of this kind."""

    @functools.cache
    def finished(*kind):
        folder = tmp_path_factory.mktemp("undisturbed")
        made_workbook.make(folder, *kind)
        made_workbook.undisturbed(folder)
        assert set(made_workbook.tables(folder)) == {"data.csv", "runs.csv", "predictions.csv", "protocols.csv"}
        return folder

    return finished


def check_same(folder: Path, other: Path) -> None:
    assert made_workbook.tables(folder) == made_workbook.tables(other)
    assert made_workbook.manifests(folder) == made_workbook.manifests(other)
    assert not made_workbook.half_files(folder)


def started(folder: Path) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.Popen(made_workbook.command(), cwd=folder, env=made_workbook.environment(), **quiet)


def wait_for(process: subprocess.Popen, folder: Path, what: str) -> None:
    while process.poll() is None and not any(folder.glob(what)):
        time.sleep(0.05)


def killed(process: subprocess.Popen) -> None:
    """SIGKILL to it and to all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_reproduce_that_is_killed_goes_on_from_there_and_a_job_that_fails_stops_no_other(undisturbed, tmp_path):
    folder, kind = tmp_path / "my folder", (3, made_workbook.LEARNING)
    made_workbook.make(folder, *kind)
    first = started(folder)
    wait_for(first, folder, "results/runs/*/*/seed-*/*")
    os.killpg(first.pid, signal.SIGSTOP)  # it rests until the second has met its lock
    second = made_workbook.reproduce(folder)
    killed(first)
    assert second.returncode == 1 and f"is at work already (process {first.pid} on " in second.stderr
    (folder / "results" / "dies").touch()
    done = made_workbook.reproduce(folder)
    assert (
        done.returncode == 1 and "failed: 06_protocols: notebook 06_protocols broke off, its kernel was" in done.stdout
    )
    assert "waiting for these: page" in done.stdout
    assert done.stderr.startswith("error: small is not complete") and "goes on from there" in done.stderr
    assert "2 of " in (folder / "site" / "small.html").read_text(encoding="utf-8")
    done = made_workbook.reproduce(folder)
    assert done.returncode == 0 and "Done: the tables of small" in done.stdout, done.stdout + done.stderr
    check_same(folder, undisturbed(*kind))
    assert made_workbook.reproduce(folder).stdout.startswith("Nothing to do: small is up to date")


def test_ctrl_c_ends_it_in_one_line(tmp_path):
    made_workbook.make(tmp_path, EPOCHS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(made_workbook.command(), cwd=tmp_path, env=made_workbook.environment(), **pipes)
    wait_for(process, tmp_path, "results/small/logs/maps*")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it, to all that it started
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and len(printed.splitlines()) == 1, printed
    assert errors == "stopped; the same command goes on from there\n"


def small_files() -> None:
    """In the process to come and all that it starts, no file may grow beyond 4 KiB, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_tables(undisturbed, tmp_path):
    folder, draw = tmp_path / "my folder", random.Random(13)
    made_workbook.make(folder, EPOCHS)
    done = made_workbook.reproduce(folder, preexec_fn=small_files)
    assert done.returncode == 1 and "(File too large): free some" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for _ in range(KILLS):
        process = started(folder)
        moment = draw.uniform(0, 3)
        if draw.random() < 0.8:  # while jobs run; else while it finds out what to do
            wait_for(process, folder, "results/small/logs/*")
            moment = draw.uniform(0, 4)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            killed(process)
    (folder / "my photos").rename(folder / "elsewhere")
    done = made_workbook.reproduce(folder)
    assert done.returncode == 1 and "my photos" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    (folder / "elsewhere").rename(folder / "my photos")
    done = made_workbook.reproduce(folder)
    assert done.returncode == 0 and "Done: the tables of small" in done.stdout, done.stdout + done.stderr
    check_same(folder, undisturbed(EPOCHS))


@pytest.mark.slow
def test_preempted_on_a_cluster_it_ends_with_the_same_tables(undisturbed, tmp_path):
    """Each job is a process of its own, killed at random (SIGTERM or SIGKILL) and queued again."""
    made_workbook.make(tmp_path, EPOCHS)
    profile = {
        "executor": "cluster-generic",
        "cluster-generic-submit-cmd": f"{sys.executable} {CLUSTER}",
        "jobs": 2,
        "cores": 1,
        "retries": 2,
        "group-components": ["notebook=4"],
    }
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    log = tmp_path / "cluster.log"
    surroundings = made_workbook.environment(CLUSTER_SEED="13", CLUSTER_LOG=str(log))
    done = made_workbook.reproduce(tmp_path, "--profile", "profile", env=surroundings)
    assert done.returncode == 0, done.stdout + done.stderr
    events = log.read_text(encoding="utf-8")
    assert "was sent SIGTERM and queued again" in events and "was sent SIGKILL and queued again" in events
    check_same(tmp_path, undisturbed(EPOCHS))


@pytest.fixture
def room(monkeypatch):
    """How many files can still be written, as a list of that one number."""
    left, fsync = [math.inf], os.fsync

    def flushed(file):  # a system may say only here that what it took has no place on the disk
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    def execute(*arguments):
        try:
            rehearsal.run_notebook(*arguments, io.StringIO())
        except AssertionError as error:  # as papermill's, in a sentence
            raise UserError(str(error).splitlines()[0]) from None

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(notebooks, "execute", execute)
    return left


def left_to_run(force: bool = False) -> list[plan.Job]:
    study = Study(config.load("small.yaml"), results="results")
    return [job for job in plan.jobs(study, NAMED, 1, force) if job.reasons]


@pytest.mark.parametrize("force", [pytest.param(False, id="at first"), pytest.param(True, id="over what is there")])
def test_a_full_disk_at_any_write_of_a_job_is_a_sentence_and_with_room_again_it_ends_alike(
    undisturbed, force, room, tmp_path, monkeypatch, capsys
):
    whole = undisturbed()
    made_workbook.make(tmp_path)
    if force:
        made_workbook.undisturbed(tmp_path)
    monkeypatch.chdir(tmp_path)
    for job in left_to_run(force):
        for writes in itertools.count():
            room[0] = writes
            capsys.readouterr()
            if line.main(list(job.command)) == 0:
                break
            errors = capsys.readouterr().err.splitlines()
            assert len(errors) == 1 and errors[0].startswith("error: "), errors
            assert "could not be written (No space left on device): free some disk" in errors[0]
            assert made_workbook.tables(tmp_path).items() <= made_workbook.tables(whole).items()
            if force:
                assert made_workbook.tables(tmp_path) == made_workbook.tables(whole)
                assert made_workbook.manifests(tmp_path) == made_workbook.manifests(whole)
        assert writes, f"{job.name} wrote nothing"
    room[0] = math.inf
    assert left_to_run() == []
    check_same(tmp_path, whole)
