"""A disk that is full, at every write of every job: one sentence, what stood there is whole, and the same command ends
with the tables of an undisturbed run once there is room again.
"""

import errno
import io
import itertools
import math
import os

import made_workbook
import pytest
import rehearsal

from mlclib import __main__ as line
from mlclib import config
from mlclib.common.errors import UserError
from mlclib.runs import execution, plan
from mlclib.runs.study import Study

NAMED = ("small.yaml", "--results", "results")


def jobs(force=False):
    study = Study(config.load("small.yaml"), results="results")
    return [job for job in plan.jobs(study, NAMED, 1, force) if job.reasons]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return made(tmp_path_factory.mktemp("undisturbed"))


def made(folder):
    """The workbook in `folder`, of few epochs, all its jobs done."""
    made_workbook.make(folder)
    text = (folder / "small.yaml").read_text(encoding="utf-8")
    (folder / "small.yaml").write_text(text.replace("epochs: 30", "epochs: 2"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as monkeypatch:
        made_workbook.undisturbed(folder, monkeypatch)
    return folder


@pytest.fixture
def room(monkeypatch):
    """How many files can still be written, as a list of that one number."""
    left, fsync = [math.inf], os.fsync

    def flushed(file):  # a system may say only here that what it took has found no place
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
    monkeypatch.setattr(execution, "execute", execute)
    return left


@pytest.mark.parametrize("force", [False, True], ids=["for the first time", "over what is there"])
def test_a_job_that_meets_a_full_disk_says_so_and_ends_alike_when_there_is_room(
    undisturbed, force, room, tmp_path, monkeypatch, capsys
):
    folder = made(tmp_path) if force else tmp_path
    if not force:
        made_workbook.make(folder)
        (folder / "small.yaml").write_bytes((undisturbed / "small.yaml").read_bytes())
    monkeypatch.chdir(folder)
    for job in jobs(force):
        for writes in itertools.count():
            room[0] = writes
            capsys.readouterr()
            if line.main(list(job.command)) == 0:
                break
            said = capsys.readouterr().err.splitlines()
            assert len(said) == 1 and said[0].startswith("error: "), said
            assert "could not be written (No space left on device): free some disk" in said[0]
            whole = made_workbook.tables(folder) if (folder / "results" / "small" / "tables").exists() else {}
            assert whole.items() <= made_workbook.tables(undisturbed).items()
            if force:
                assert whole == made_workbook.tables(undisturbed)
                assert made_workbook.manifests(folder) == made_workbook.manifests(undisturbed)
        assert writes, f"{job.name} wrote nothing"
    room[0] = math.inf
    assert jobs() == []
    assert made_workbook.tables(folder) == made_workbook.tables(undisturbed)
    assert made_workbook.manifests(folder) == made_workbook.manifests(undisturbed)
    assert not made_workbook.half_files(folder)
