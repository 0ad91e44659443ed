"""The profile for Slurm on a true Slurm, where one runs on this machine: jobs are queued, killed and run again."""

import shutil
import subprocess
import time
from pathlib import Path

import made_workbook
import pytest
import yaml

ROOT = Path(__file__).parents[1]


def answers() -> bool:
    """Whether a Slurm runs here and takes jobs of this user."""
    if not shutil.which("sinfo"):
        return False
    told = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True)
    return told.returncode == 0 and "idle" in told.stdout


pytestmark = pytest.mark.skipif(not answers(), reason="no Slurm runs on this machine")


def test_the_profile_for_slurm_runs_an_experiment_whose_jobs_are_requeued(tmp_path):
    made_workbook.make(tmp_path)
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    less = {
        kind: {"mem_mb": 2000, "gpu": 0} for kind in ("maps", "train", "notebook", "page")
    }  # a node for tests is small
    profile |= {"set-resources": less, "cores": 1, "latency-wait": 5}
    profile |= {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2}
    profile |= {"slurm-status-command": "squeue"}  # sacct needs an accounting service
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    process = subprocess.Popen(
        made_workbook.command("--profile", "slurm"),
        cwd=tmp_path,
        env=made_workbook.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    requeued = set()
    while process.poll() is None and len(requeued) < 2:  # each job that runs is requeued once, two in all
        running = subprocess.run(["squeue", "--noheader", "--states=R", "--format=%A"], capture_output=True, text=True)
        for job in set(running.stdout.split()) - requeued:
            time.sleep(1)
            if subprocess.run(["scontrol", "requeue", job], capture_output=True).returncode == 0:
                requeued.add(job)
        time.sleep(0.5)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and "Done: the tables of small" in said, said
    assert len(requeued) >= 2
    assert set(made_workbook.tables(tmp_path)) == {"data.csv", "runs.csv", "scores.csv", "protocols.csv"}
