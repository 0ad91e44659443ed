"""A whole experiment in one process: the jobs that `reproduce` would hand to Snakemake, in their order.

Notebooks run cell by cell in an IPython shell of this process, since a kernel for each would import torch anew;
test_workbook runs them under papermill.
"""

import contextlib
import io
import re
from collections.abc import Collection
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mlclib import __main__ as line
from mlclib import config, site
from mlclib.common import yaml_files
from mlclib.metrics import resampling
from mlclib.runs import notebooks, plan
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.yaml"))
DRAWS = 200  # bootstrap draws: no number of a rehearsal is tested
RECIPE = {"epochs": 1, "batch_size": 8, "workers": 0, "threads": 1}
SIZES = {
    "msrn": {"width": 8},
    "dsdl": {"hidden": 16},
    "query2label": {"width": 16, "feedforward": 16},
    "ml_decoder": {"width": 16, "feedforward": 16},
    "ssgrl": {"width": 16},
}


def shrunk(name: str, folder: Path, root: Path, models: Collection[str] = (), **changes: object) -> Path:
    """A YAML file in `folder`: the shipped experiment in small, with some of its models, on data that lie in `root`.

    changes: keys of the experiment, laid over the small ones.
    """
    source = ROOT / "experiments" / f"{name}.yaml"
    shipped = config.load(source)
    small = dict(RECIPE)
    if shipped.training.precision == "float16":
        small["precision"] = "bfloat16"  # float16 is refused on a CPU
    tree = {
        "dataset": {"root": str(root)},
        "input_size": 64,
        "seeds": [0],
        "training": small,
        "models": {},
        "attention": {"images": [0], "n_localisation": 3, "n_faithfulness": 1},
    }
    for model, own in shipped.models.items():
        recipe = {key: value for key, value in small.items() if key in own.training}
        tree["models"][model] = {"options": SIZES.get(own.model or model, {}), "training": recipe}
        tree["models"][model] |= {"input_size": 64} if own.input_size else {}
    if shipped.causes:
        tree["causes"] = {"images": 4, "maps": 2}
    if shipped.tuning:
        tree["tuning"] = {"trials": 2, "ranges": {"*": {"training.epochs": [1]}}}
    if not shipped.backbone.frozen:
        tree["backbone"] = {"name": "test_resnet", "weights": None}
    whole = yaml_files.overlay(yaml_files.overlay(yaml_files.read(source), tree), changes)
    for part in (whole["models"], whole.get("ablation") or {}, (whole.get("tuning") or {}).get("ranges", {})):
        for model in set(shipped.models) - set(models or shipped.models):
            part.pop(model, None)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path


def rehearse(path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Run every job of the experiment, after which none is left to run."""
    printed = in_process(monkeypatch)
    named = (str(path), "--results", str(results))

    def left() -> list[plan.Job]:
        return [job for job in plan.jobs(study, named, 1, together=True) if job.reasons]

    study = Study(config.load(path), results=results)
    for job in left():
        with contextlib.redirect_stdout(printed):
            assert line.main(list(job.command)) == 0, f"{job.name}: {printed.getvalue()[-2000:]}"
    study = Study(study.experiment, results=results)
    assert [(job.name, job.reasons) for job in left()] == []
    return study


def in_process(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Notebooks run in this process, draw small figures and few resamples; what they print goes into the stream."""
    printed = io.StringIO()
    monkeypatch.setattr(Figure, "savefig", draw)
    monkeypatch.setattr(resampling, "draws_for", lambda images, labels: DRAWS)
    monkeypatch.setattr(notebooks, "execute", lambda *arguments: run_notebook(*arguments, printed))
    return printed


def draw(figure: Figure, path: Path, format: str, **_: object) -> None:
    """What stands for `savefig`: small, drawn once, where that draws twice to find the frame, and not laid out, which
    takes most of a drawing and is tested in test_plots.
    """
    figure.dpi = 20
    figure.set_layout_engine("none")
    if format == "png":
        FigureCanvasAgg(figure).print_png(path)
    else:
        FigureCanvasSVG(figure).print_svg(path)


def run_notebook(path: Path, copy: Path, parameters: dict, printed: io.StringIO) -> None:
    """Every code cell of the notebook, the parameters injected after those it declares."""
    notebooks.check_parameters(path, parameters)
    shell = InteractiveShell()
    shell.run_cell("import matplotlib; matplotlib.use('agg')")
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        with contextlib.redirect_stdout(printed):
            result = shell.run_cell(cell.source, store_history=True)
        assert result.success, f"{path.stem} {parameters}: {result.error_in_exec or result.error_before_exec!r}"
        if "parameters" in cell.metadata.get("tags", []):
            shell.user_ns.update(parameters)
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(), copy)


def check_pages(study: Study) -> None:
    """Every table, figure and page is there, and none says nan."""
    experiment, shown = study.experiment, {path.name: path for path in map(study.folder.joinpath, plan.shown(study))}
    expected = {"tuning.md", "tuning.png"}
    if not experiment.tuning:
        axes = [(model, axis) for model, axis, *_ in experiment.configurations() if axis]
        expected = {f"ablation_{model}_{axis}.md" for model, axis in axes if axis != plan.LEARNING_CURVE}
        expected |= {"learning_curves.md" for _, axis in axes if axis == plan.LEARNING_CURVE} | {"scores.md"}
        expected |= {f"curves_{model}.png" for model in experiment.models}
        expected |= {f"attention-{model}.png" for model in experiment.attended}
        expected |= {"protocols.md"} if (study.dataset.splits["test"].targets == 1).any() else set()
    assert expected <= shown.keys() and all(path.exists() for path in shown.values())
    for path in (study.folder / "tables").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bnan\b", text, re.I), f"{path.name}: {text[:300]}"
    for link in re.findall(r"\]\(([^)#]+)\)", (study.folder / "README.md").read_text(encoding="utf-8")):
        assert "://" in link or (study.folder / link).exists(), link
    site.build(study.results, study.results / "site")
    assert (study.results / "site" / f"{experiment.name}.html").exists()
