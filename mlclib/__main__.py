"""The command line: python -m mlclib COMMAND; each command calls the same functions as the notebooks."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from mlclib.common.errors import UserError, check_name, some_of  # all else is imported by the command that uses it

# jsonschema, which nbformat uses, would import rfc3987_syntax, which takes more than a second.
sys.modules.setdefault("rfc3987_syntax", None)


def reproduce(arguments: argparse.Namespace) -> None:
    """Rebuild what is out of date of an experiment: its runs, notebooks, tables and figures."""
    from mlclib.common.files import file_lock

    if arguments.force or _unchanged(arguments) is None:
        study = _study(arguments)
        lock = study.folder.with_name(f".{study.folder.name}.lock")
        with file_lock(lock, f"reproduce {study.experiment.name}", waits=False):
            if _reproduce(arguments, study):
                return
    folder = _folder_of(arguments)
    page = _site_of(arguments.results) / f"{folder.name}.html"
    pages = f"open {page} in a browser" if page.exists() else "`make site` makes pages for a browser"
    print(f"Nothing to do: {folder.name} is up to date; its tables are in {folder / 'README.md'}; {pages}")


def _reproduce(arguments: argparse.Namespace, study) -> bool:
    """Run what is out of date; whether anything was."""
    from mlclib.runs import batch, plan

    if not study.experiment.backbone.frozen:
        from mlclib.runs import check  # imports the trainer

        check.first(study, _named(arguments), arguments.force)
    plan.clear(study)
    every = _jobs(study, arguments, arguments.force)
    todo = [job for job in every if job.reasons]
    if not todo:
        return False
    print(
        f"{len(todo)} of {len(every)} jobs to run; `python -m mlclib status {arguments.experiment}` says why, and "
        f"{study.folder / 'logs'} holds the output of each",
        flush=True,
    )
    ran, summary_line = batch.run(study.folder, every, arguments.cores, arguments.profile)
    print(summary_line, flush=True)
    after = _study(arguments)
    plan.write_jobs(after, _jobs(after, arguments))
    from mlclib.site import build  # here, as it takes long to import, and nothing to do does without it

    name, page = study.experiment.name, _site_of(arguments.results) / f"{study.experiment.name}.html"
    build(arguments.results, page.parent)
    if ran < len(todo):
        again = shlex.join(["python", "-m", "mlclib", "reproduce", *_named(arguments)])
        profile = f" --profile {arguments.profile}" if arguments.profile else ""
        raise UserError(
            f"{name} is not complete: {ran} of {len(todo)} jobs ended well; mend what failed above, then "
            f"`{again}{profile}` goes on from there; {page} shows what is there"
        )
    tables, summary = (folder / "README.md" for folder in (study.folder, study.results))
    print(f"Done: the tables of {name} are in {tables}, its pages in {page}, what all experiments say in {summary}")
    return True


def check(arguments: argparse.Namespace) -> int:
    """Say what an experiment lacks, and how long and how large its training will be; nothing is trained."""
    from mlclib import config
    from mlclib.runs import check, times

    study = _study(arguments, config.parse_overrides(arguments.set))
    report = check.check(study, arguments.force)
    if report.estimates and not arguments.set:
        times.write_estimates(study.folder, report.estimates)
    print(report)
    return 1 if report.missing else 0


def status(arguments: argparse.Namespace) -> None:
    """List the jobs that `reproduce` would run, each with the reason."""
    if (count := _unchanged(arguments)) is not None:
        print(f"0 of {count} jobs would run")
        return
    study = _study(arguments)
    every = _jobs(study, arguments)
    todo = [job for job in every if job.reasons]
    for job in todo:
        print(f"{job.name}: {some_of(job.reasons, 4, '; ')}")
    print(f"{len(todo)} of {len(every)} jobs would run")


def run(arguments: argparse.Namespace) -> None:
    """Train runs of an experiment, each unless it is finished and current."""
    from mlclib.runs import gpus

    gpus.claim_gpu()  # before torch, which may ask the driver
    study = _study(arguments)
    for name in arguments.name:
        check_name("run", name, study.runs, f"experiment {study.experiment.name!r}")
    _train(study, [study.runs[name] for name in arguments.name], arguments.force)


def maps(arguments: argparse.Namespace) -> None:
    """Cache the layer maps of one split of an experiment with a frozen backbone."""
    from mlclib.runs import gpus

    gpus.claim_gpu()
    _study(arguments).maps(arguments.part)


def stage(arguments: argparse.Namespace) -> None:
    """Execute one notebook of an experiment, and note what its tables and figures rest on."""
    from mlclib.runs import plan

    for name in arguments.name:
        print(f"executed: {plan.execute(_study(arguments), arguments.experiment, name)}")


def accept(arguments: argparse.Namespace) -> None:
    """Take an experiment's finished runs as current although the code changed since; the runs and captions say so."""
    for run in _study(arguments).runs.values():
        if changes := run.accept():
            print(f"accepted: {run.name} ({'; '.join(changes)})")


def verify(arguments: argparse.Namespace) -> int:
    """Check an experiment's runs, tables and figures; with --retrain, train some runs anew and compare."""
    from mlclib.verify import results

    report = results.verify(_study(arguments), arguments.experiment, arguments.retrain, arguments.seed or 0)
    print(report)
    return 1 if report.problems else 0


def execute(arguments: argparse.Namespace) -> None:
    """Run one notebook headless."""
    from mlclib.runs import notebooks

    parameters = notebooks.parse_parameters(arguments.notebook, arguments.set)
    notebooks.execute(arguments.notebook, arguments.copy, parameters)


def train(arguments: argparse.Namespace) -> None:
    """Train one model of an experiment, each seed unless it is finished already."""
    from mlclib import config

    study = _study(arguments, config.parse_overrides(arguments.set))
    seeds = {run.seed: run for run in study.runs_of(study.experiment.run_config(arguments.model))}
    if arguments.seed is not None:
        check_name("seed", arguments.seed, seeds, f"experiment {study.experiment.name!r}")
        seeds = {arguments.seed: seeds[arguments.seed]}
    _train(study, seeds.values())


def report(arguments: argparse.Namespace) -> None:
    """Write an experiment's README.md from what its notebooks left."""
    from mlclib.results import report as reports
    from mlclib.runs import plan

    study = _study(arguments)
    path = reports.write(study, plan.shown(study))
    plan.page_written(study, path)
    reports.fill_front(study.results.parent / "README.md", study.results)
    print(f"{path}; {reports.summary(study.results)} says what all experiments here say")


def site(arguments: argparse.Namespace) -> None:
    """Write all results on this disk as pages to read in a browser, offline."""
    from mlclib.site import build

    print(f"open in a browser: {build(arguments.results, arguments.out or _site_of(arguments.results))}")


def data(arguments: argparse.Namespace) -> int:
    """Get a data set's archives, verified and unpacked; with --verify, open every image and report."""
    from mlclib import datasets
    from mlclib.datasets import download, integrity

    if not arguments.verify:
        brought = [f"there now: {path}" for path in download.get(arguments.dataset, arguments.root)]
        print("\n".join(brought) or f"{arguments.dataset} is complete in {arguments.root}")
        return 0
    report = integrity.verify(datasets.load(arguments.dataset, arguments.root))
    print(report)
    return 0 if report.ok else 1


def predict(arguments: argparse.Namespace) -> int:
    """Labels with probabilities for images or folders of images, by a finished run."""
    from mlclib.inference import predict

    return predict.show(arguments.run, arguments.images, arguments.form, arguments.maps)


def doctor(arguments: argparse.Namespace) -> None:
    """Say what is wrong with the labels and pictures of a folder of your own images, and what to do about it."""
    from mlclib.doctor import page

    print(f"what to do is in {page.examine(arguments.folder, arguments.table, arguments.results)[1]}")


def export(arguments: argparse.Namespace) -> None:
    """Write a finished run's model as ONNX, checked against PyTorch."""
    from mlclib.inference import export

    apart = export.export(arguments.run, arguments.path)
    print(f"{arguments.path}: the logits differ from PyTorch's by at most {apart:.1e}")


def submit(arguments: argparse.Namespace) -> None:
    """Write a VOC 2012 run's test predictions as the archive that the evaluation server takes."""
    from mlclib.datasets import voc
    from mlclib.runs import store

    run = store.read(arguments.run)
    voc.write_server_files(arguments.path, run.names, run.logits["last"])
    print(f"{arguments.path}: the predictions of {len(run.names)} images for the evaluation server")


def _study(arguments: argparse.Namespace, overrides: dict | None = None):
    """The study that the arguments name."""
    from mlclib import config
    from mlclib.runs.study import Study

    return Study(config.load(arguments.experiment, overrides), arguments.data, arguments.results)


def _folder_of(arguments: argparse.Namespace) -> Path:
    """results/<experiment>."""
    return Path(arguments.results) / Path(arguments.experiment).name.removesuffix(".yaml").removesuffix(".yml")


def _unchanged(arguments: argparse.Namespace) -> int | None:
    """How many jobs are all up to date, where nothing changed since the plan found that; else None."""
    from mlclib.runs import unchanged

    return unchanged.since(_folder_of(arguments), arguments.experiment, arguments.data)


def _site_of(results: str) -> Path:
    """Where the site of these results goes: beside them."""
    return Path(results).parent / "site"


def _named(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The arguments by which a job finds the same study."""
    data = ("--data", arguments.data) if arguments.data else ()
    return (arguments.experiment, *data, "--results", arguments.results)


def _jobs(study, arguments: argparse.Namespace, force: bool = False) -> list:
    """The study's jobs; if none is stale, also stores what lets `_unchanged` see that without planning."""
    from mlclib.runs import batch, plan, unchanged

    started, together = time.time_ns(), batch.together(study, getattr(arguments, "profile", ""))
    every = plan.jobs(study, _named(arguments), arguments.cores, force, together)
    if not any(job.reasons for job in every):
        rests_on = [study.root, *(run.folder for run in study.runs.values()), *study.files]
        unchanged.note(study.folder, arguments.experiment, arguments.data, len(every), rests_on, started)
    return every


def _train(study, runs: Iterable, force: bool = False) -> None:
    """Train runs one after another."""
    for run in runs:
        study.train_all([run], force)
        print(f"finished: {run.folder}", flush=True)


ARGUMENTS = {
    "experiment": {"help": "a name from experiments/, or a YAML file"},
    "notebook": {"type": Path, "help": "the notebook"},
    "copy": {"type": Path, "help": "where its executed copy goes"},
    "dataset": {"help": "voc2007, voc2012, coco2014, ..."},
    "run": {"type": Path, "help": "a finished run's folder"},
    "images": {"type": Path, "nargs": "+", "help": "images, or folders of images"},
    "folder": {"type": Path, "help": "the folder of images and their table, or of a folder for each label"},
    "path": {"type": Path, "help": "the file to write"},
    "--data": {"default": "", "help": "the data set's folder, where the experiment's own is not it"},
    "--results": {"default": "results", "help": "where runs, tables and figures go (default: results)"},
    "--cores": {"type": int, "default": os.cpu_count() or 2, "help": "how many to use (default: all)"},
    "--force": {"action": "store_true", "help": "although it is up to date"},
    "--profile": {"default": "", "help": "a Snakemake profile's folder, as profiles/slurm for a cluster"},
    "--set": {
        "action": "append", "default": [], "metavar": "KEY=VALUE",
        "help": "a key of the experiment to change, as training.epochs=3, or a notebook's parameter; repeatable",
    },
    "--retrain": {"type": float, "metavar": "SHARE", "help": "train this share of the runs anew, 0.1 for a tenth"},
    "--seed": {"type": int, "help": "train: this seed only; verify: which runs --retrain draws"},
    "--name": {"required": True, "action": "append", "help": "as `status` names it, without `train`; repeatable"},
    "--part": {"required": True, "help": "train, val or test"},
    "--model": {"required": True, "help": "one of the experiment's models"},
    "--out": {"default": "", "help": "the folder of the pages (default: site, beside the results)"},
    "--root": {"type": Path, "required": True, "help": "the folder that holds it, or will"},
    "--verify": {"action": "store_true", "help": "open every image and report what is wrong; fetch nothing"},
    "--json": {"dest": "form", "action": "store_const", "const": "json", "default": "table", "help": "print JSON"},
    "--csv": {"dest": "form", "action": "store_const", "const": "csv", "default": "table", "help": "print CSV"},
    "--maps": {"type": Path, "help": "a folder for attention maps as PNG"},
    "--table": {"default": "", "help": "the table of labels in that folder, where it holds several"},
}  # fmt: skip
STUDY = "experiment --data --results"
COMMANDS = {
    reproduce: f"{STUDY} --cores --force --profile",
    check: f"{STUDY} --set --force",
    status: f"{STUDY} --cores",
    accept: STUDY,
    verify: f"{STUDY} --retrain --seed",
    run: f"{STUDY} --force --name",
    maps: f"{STUDY} --part",
    stage: f"{STUDY} --name",
    execute: "notebook copy --set",
    train: f"{STUDY} --set --model --seed",
    report: STUDY,
    site: "--results --out",
    data: "dataset --root --verify",
    predict: "run images --json --csv --maps",
    doctor: "folder --table --results",
    export: "run path",
    submit: "run path",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m mlclib", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for function, arguments in COMMANDS.items():
        sub = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(function=function)
        for name in arguments.split():
            sub.add_argument(*(["-c"] if name == "--cores" else []), name, **ARGUMENTS[name])
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a UserError becomes its one sentence and exit code 1."""
    parsed = parser().parse_args(arguments)
    from mlclib.common.files import no_room
    from mlclib.runs import times

    try:
        with times.measured(os.environ.get(times.VARIABLE)):
            return parsed.function(parsed) or 0
    except (UserError, OSError) as error:
        sentence = error if isinstance(error, UserError) else no_room(error, error.filename or "a file")
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:  # of Ctrl-C
        print(str(stopped) or "stopped; the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
