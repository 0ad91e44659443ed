"""The command line: python -m mlclib COMMAND; each command calls the same functions as the notebooks."""

import argparse
import subprocess
import sys
from pathlib import Path

from mlclib import config
from mlclib.errors import UserError


def reproduce(arguments: argparse.Namespace) -> None:
    """Rebuild what is stale of an experiment: its notebooks, tables and figures."""
    experiment = config.load(arguments.experiment)
    if arguments.data and not Path(arguments.data).exists():
        raise UserError(f"--data names {arguments.data}, and there is no such folder")
    values = [f"experiment={arguments.experiment}", f"data={arguments.data}", f"results={arguments.results}"]
    options = ["--cores", str(arguments.cores), "--rerun-triggers", "params", "input", "mtime", "--keep-going"]
    command = [sys.executable, "-m", "snakemake", *options, "--config", *values]
    plan = subprocess.run([*command, "--summary"], capture_output=True, text=True)
    if plan.returncode:
        raise UserError(f"the notebooks of {experiment.name} cannot be planned: {plan.stderr.strip()}")
    page = Path(arguments.results) / experiment.name / "README.md"
    if "update pending" not in plan.stdout:
        print(f"Nothing to do: {experiment.name} is up to date; its tables are in {page}")
        return
    if subprocess.run([*command, "--quiet", "all"]).returncode:
        raise UserError(f"{experiment.name} is not complete: the sentence above names the notebook that failed")
    print(f"Done: the tables of {experiment.name} are in {page}")


def execute(arguments: argparse.Namespace) -> None:
    """Run one notebook headless."""
    from mlclib import execution

    execution.execute(arguments.notebook, arguments.copy, execution.parameters(arguments.notebook, arguments.set))


def train(arguments: argparse.Namespace) -> None:
    """Train one model of an experiment, each seed unless it is finished already."""
    from mlclib.runs import Study

    study = Study(
        config.load(arguments.experiment, config.parse_overrides(arguments.set)), arguments.data, arguments.results
    )
    seeds = None if arguments.seed is None else (arguments.seed,)
    for run in study.train(study.experiment.run(arguments.model), seeds):
        print(f"finished: {run.folder}")


def report(arguments: argparse.Namespace) -> None:
    """Write an experiment's README.md and the index of all results from what is in their folders."""
    from mlclib import reports
    from mlclib.runs import Study

    print(reports.write(Study(config.load(arguments.experiment), results=arguments.results)))


def data(arguments: argparse.Namespace) -> int:
    """Get a data set's archives, verified and unpacked; with --verify, open every image and report."""
    from mlclib import datasets
    from mlclib.datasets import download, integrity

    if not arguments.verify:
        brought = download.get(arguments.name, arguments.root)
        print(
            "\n".join(f"there now: {path}" for path in brought) or f"{arguments.name} is complete in {arguments.root}"
        )
        return 0
    report = integrity.verify(datasets.load(arguments.name, arguments.root))
    print(report)
    return 0 if report.ok else 1


def predict(arguments: argparse.Namespace) -> int:
    """Labels with probabilities for images or folders of images, by a finished run."""
    from mlclib import predict

    return predict.show(arguments.run, arguments.images, arguments.form, arguments.maps)


def export(arguments: argparse.Namespace) -> None:
    """Write a finished run's model as ONNX, checked against PyTorch."""
    from mlclib import export

    apart = export.export(arguments.run, arguments.path)
    print(f"{arguments.path}: the logits differ from PyTorch's by at most {apart:.1e}")


def submit(arguments: argparse.Namespace) -> None:
    """Write a VOC 2012 run's test predictions as the archive that the evaluation server takes."""
    from mlclib import runs
    from mlclib.datasets import voc

    run = runs.read(arguments.run)
    voc.write_server_files(arguments.path, run.names, run.logits["last"])
    print(f"{arguments.path}: the predictions of {len(run.names)} images for the evaluation server")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m mlclib", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(function, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=help, description=function.__doc__)
        sub.set_defaults(function=function)
        return sub

    def places(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--data", default="", help="the data set's folder, where the experiment's own is not it")
        sub.add_argument("--results", default="results", help="where runs, tables and figures go (default: results)")

    sub = command(reproduce, "rebuild what is stale of an experiment")
    sub.add_argument("experiment", help="a name from experiments/, or a YAML file")
    sub.add_argument("--cores", type=int, default=2, help="how many cores to use (default: 2)")
    places(sub)

    sub = command(execute, "run one notebook headless, with parameters")
    sub.add_argument("notebook", type=Path, help="the notebook")
    sub.add_argument("copy", type=Path, help="where its executed copy goes")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, repeatable")

    sub = command(train, "train one model of an experiment")
    sub.add_argument("experiment", help="a name from experiments/, or a YAML file")
    sub.add_argument("--model", required=True, help="one of the experiment's models")
    sub.add_argument("--seed", type=int, help="this seed only (default: all of the experiment's)")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the experiment to change, as training.epochs=3; repeatable",
    )
    places(sub)

    sub = command(report, "write an experiment's page and the index of all results")
    sub.add_argument("experiment", help="a name from experiments/, or a YAML file")
    sub.add_argument("--results", default="results", help="where the results are (default: results)")

    sub = command(data, "get a data set, or verify it")
    sub.add_argument("name", help="voc2007, voc2012, coco2014, ...")
    sub.add_argument("--root", type=Path, required=True, help="the folder that holds it, or will")
    sub.add_argument(
        "--verify", action="store_true", help="open every image and report what is wrong; nothing is fetched"
    )

    sub = command(predict, "labels for your own images")
    sub.add_argument("run", type=Path, help="a finished run's folder")
    sub.add_argument("images", type=Path, nargs="+", help="images, or folders of images")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print JSON")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print CSV")
    sub.add_argument("--maps", type=Path, help="a folder for attention maps as PNG")
    sub.set_defaults(form="table")

    sub = command(export, "write a run's model as ONNX")
    sub.add_argument("run", type=Path, help="a finished run's folder")
    sub.add_argument("path", type=Path, help="the .onnx file to write")

    sub = command(submit, "pack VOC 2012 test predictions for the evaluation server")
    sub.add_argument("run", type=Path, help="a finished run's folder")
    sub.add_argument("path", type=Path, help="the .zip file to write")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a UserError becomes its one sentence and exit code 1."""
    parsed = parser().parse_args(arguments)
    try:
        return parsed.function(parsed) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
