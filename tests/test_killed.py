"""A reproduce that is killed, preempted, or left without disk, data or kernel ends with an undisturbed one's tables."""

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
import yaml

KILLS = int(os.environ.get("KILLS", 6))
CLUSTER = Path(__file__).with_name("cluster.py")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    made_workbook.make(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        made_workbook.undisturbed(folder, monkeypatch)
    assert set(made_workbook.tables(folder)) == {"data.csv", "runs.csv", "predictions.csv", "protocols.csv"}
    return folder


def check_same(folder: Path, undisturbed: Path) -> None:
    assert made_workbook.tables(folder) == made_workbook.tables(undisturbed)
    assert made_workbook.manifests(folder) == made_workbook.manifests(undisturbed)
    assert not made_workbook.half_files(folder)


def small_files() -> None:
    """In the process to come and all that it starts, no file may grow beyond 4 KiB, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def test_killed_anywhere_it_goes_on_and_ends_with_the_same_tables(undisturbed, tmp_path):
    folder, draw = tmp_path / "my folder", random.Random(13)
    made_workbook.make(folder)
    done = made_workbook.reproduce(folder, preexec_fn=small_files)
    assert done.returncode == 1 and "(File too large): free some" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    for _ in range(KILLS):
        process = subprocess.Popen(made_workbook.command(), cwd=folder, env=made_workbook.environment(), **quiet)
        if draw.random() < 0.8:  # while jobs run; else while it finds out what to do
            logs = folder / "results" / "small" / "logs"
            while process.poll() is None and not (logs.exists() and any(logs.iterdir())):
                time.sleep(0.05)
            moment = draw.uniform(0, 4)
        else:
            moment = draw.uniform(0, 3)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    (folder / "my photos").rename(folder / "elsewhere")
    done = made_workbook.reproduce(folder)
    assert done.returncode == 1 and "my photos" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    (folder / "elsewhere").rename(folder / "my photos")

    (folder / "results" / "small" / "tables" / "protocols.csv").unlink(missing_ok=True)
    (folder / "results" / "dies").touch()
    done = made_workbook.reproduce(folder)
    assert done.returncode == 1 and "notebook 06_protocols broke off, its kernel was killed" in done.stdout, done.stdout
    assert done.stderr.startswith("error: small is not complete") and "goes on from there" in done.stderr

    done = made_workbook.reproduce(folder)
    assert done.returncode == 0 and "Done: the tables of small" in done.stdout, done.stdout + done.stderr
    check_same(folder, undisturbed)


def test_preempted_on_a_cluster_it_ends_with_the_same_tables(undisturbed, tmp_path):
    """Each job is a process of its own, killed at random (SIGTERM or SIGKILL) and queued again."""
    made_workbook.make(tmp_path)
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
    said = log.read_text(encoding="utf-8")
    assert "was sent SIGTERM and queued again" in said and "was sent SIGKILL and queued again" in said
    check_same(tmp_path, undisturbed)
