# Runs the jobs that `python -m mlclib reproduce` found to be out of date: which they are and why, mlclib/runs/plan.py says
# (`make plan` lists them); in which order, how many at once and on which machine, Snakemake.
import json
import shlex
import sys

with open(config["plan"], encoding="utf-8") as file:
    JOBS = {job["file"]: job for job in json.load(file)}
DONE = config["done"]


def done(files):
    return [f"{DONE}/{file}.done" for file in files]


wildcard_constraints:
    job="[^/]+",


localrules:
    all,


rule all:
    input:
        done(JOBS),


rule job:
    input:
        lambda w: done(JOBS[w.job]["needs"]),
    output:
        touch(f"{DONE}/{{job}}.done"),
    threads: lambda w: JOBS[w.job]["threads"]
    params:
        command=lambda w: shlex.join([sys.executable, "-m", "mlclib", *JOBS[w.job]["command"]]),
    shell:
        "OMP_NUM_THREADS={threads} {params.command}"
