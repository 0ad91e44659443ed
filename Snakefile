# Runs the jobs that `python -m mlclib reproduce` found to be out of date: which they are, why, and what each asks of a
# machine, mlclib/runs/plan.py and batch.py say (`make plan` lists them); in which order, how many at once and on which
# machine, Snakemake.
import json
import shlex
import sys
import warnings

from snakemake.logging import logger

from mlclib.runs.watch import Watch

# Said by Snakemake where it is stopped while it starts a job.
warnings.filterwarnings("ignore", "coroutine 'Job.prepare' was never awaited", RuntimeWarning)

with open(config["plan"], encoding="utf-8") as file:
    JOBS = {job["file"]: job for job in json.load(file)}
FOLDER = config["folder"]
# glibc keeps freed memory: a model asks for the same sizes in every step, and a third to a half of its time would go
# into new pages.
MALLOC = "MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=64000000000"

if workflow.is_main_process:
    logger.addHandler(Watch(JOBS, FOLDER))


def done(files):
    return [JOBS[file]["done"] for file in files]


wildcard_constraints:
    job="[^/]+",


localrules:
    all,


rule all:
    input:
        done(JOBS),


for kind in ("maps", "train", "notebook", "page"):

    rule:
        name:
            kind
        input:
            lambda w: done(JOBS[w.job]["needs"]),
        output:
            touch(f"{FOLDER}/plan/{kind}/{{job}}.done"),
        log:
            f"{FOLDER}/logs/{{job}}.log",
        group:
            lambda w: JOBS[w.job]["group"]
        # A model that many notebooks wait for is trained first, so that no core is idle at the end.
        priority: lambda w: JOBS[w.job]["priority"]
        threads: lambda w: JOBS[w.job]["threads"]
        resources:
            mem_mb=lambda w, attempt: JOBS[w.job]["mem_mb"] * attempt,
            runtime=lambda w, attempt: JOBS[w.job]["runtime"] * attempt,
            gpu=lambda w: JOBS[w.job]["gpu"],
        params:
            command=lambda w: shlex.join([sys.executable, "-m", "mlclib", *JOBS[w.job]["command"]]),
            times=lambda w: f"{FOLDER}/times/{w.job}.json",
        shell:
            "exec env OMP_NUM_THREADS={threads} {MALLOC} MLCLIB_TIMES={params.times:q} {params.command} >> {log:q} 2>&1"
