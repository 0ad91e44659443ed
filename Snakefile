# What depends on what: experiment YAML -> notebooks -> run folders, tables and figures.
# A rule's params hold the part of the YAML that its notebook depends on, so that a changed value reruns that notebook and
# those after it. An executed notebook is its rule's log: Snakemake keeps logs when a rule fails, and removes outputs.
import sys

from mlclib import config as experiments

NAME = config["experiment"]
DATA = config.get("data") or ""
RESULTS = config.get("results") or "results"
experiment = experiments.load(NAME)
FOLDER = f"{RESULTS}/{experiment.name}"
AXES = [(model, axis) for model, axes in experiment.ablation.items() for axis in axes]
ATTENTION = experiment.models if experiment.attention.models is None else experiment.attention.models
# One-thread runs go side by side; a run that is free to use all cores has them alone.
THREADS = experiment.training.threads or workflow.cores
DATA_PARAMS = [str(experiment.dataset), experiment.input_size, str(experiment.backbone), DATA]


def run_params(model):
    return str(experiment.run(model).identity()), str(experiment.seeds)


def notebook(name, **parameters):
    """The shell command that executes a notebook into the rule's log."""
    values = {"experiment": NAME, "data": DATA, "results": RESULTS, **parameters}
    sets = " ".join(f"--set {key}={value!r}" for key, value in values.items())
    return f"{sys.executable} -m mlclib execute notebooks/{name}.ipynb {{log}} {sets}"


wildcard_constraints:
    model="[^/-]+",
    axis="[^/-]+",


localrules: all,


rule all:
    input:
        f"{FOLDER}/stages/report",


rule data:
    input: "notebooks/01_data.ipynb"
    output: touch(f"{FOLDER}/stages/01_data")
    log: f"{FOLDER}/notebooks/01_data.ipynb"
    params: DATA_PARAMS
    threads: workflow.cores
    shell: notebook("01_data")


rule train:
    input: "notebooks/02_train.ipynb", rules.data.output
    output: touch(f"{FOLDER}/stages/02_train-{{model}}")
    log: f"{FOLDER}/notebooks/02_train-{{model}}.ipynb"
    params: lambda w: run_params(w.model)
    threads: THREADS
    shell: notebook("02_train", model="{wildcards.model}")


rule ablation:
    input: "notebooks/03_ablation.ipynb", f"{FOLDER}/stages/02_train-{{model}}"
    output: touch(f"{FOLDER}/stages/03_ablation-{{model}}-{{axis}}")
    log: f"{FOLDER}/notebooks/03_ablation-{{model}}-{{axis}}.ipynb"
    params: lambda w: (run_params(w.model), str(experiment.ablation[w.model][w.axis]))
    threads: THREADS
    shell: notebook("03_ablation", model="{wildcards.model}", axis="{wildcards.axis}")


rule attention:
    input: "notebooks/04_attention.ipynb", f"{FOLDER}/stages/02_train-{{model}}"
    output: touch(f"{FOLDER}/stages/04_attention-{{model}}")
    log: f"{FOLDER}/notebooks/04_attention-{{model}}.ipynb"
    params: lambda w: (run_params(w.model), str(experiment.attention))
    threads: THREADS
    shell: notebook("04_attention", model="{wildcards.model}")


TRAINED = expand(f"{FOLDER}/stages/02_train-{{model}}", model=experiment.models)
ABLATED = [f"{FOLDER}/stages/03_ablation-{model}-{axis}" for model, axis in AXES]


rule tables:
    input:
        "notebooks/05_tables.ipynb",
        TRAINED,
        ABLATED,
    output: touch(f"{FOLDER}/stages/05_tables")
    log: f"{FOLDER}/notebooks/05_tables.ipynb"
    params: experiment.title, str(experiment.notes)
    shell: notebook("05_tables")


rule protocols:
    input: "notebooks/06_protocols.ipynb", TRAINED
    output: touch(f"{FOLDER}/stages/06_protocols")
    log: f"{FOLDER}/notebooks/06_protocols.ipynb"
    shell: notebook("06_protocols")


rule report:
    input:
        f"{FOLDER}/stages/05_tables",
        f"{FOLDER}/stages/06_protocols",
        expand(f"{FOLDER}/stages/04_attention-{{model}}", model=ATTENTION),
    output: touch(f"{FOLDER}/stages/report")
    params: experiment.title, str(experiment.notes)
    shell: f"{sys.executable} -m mlclib report {NAME} --results {RESULTS}"
