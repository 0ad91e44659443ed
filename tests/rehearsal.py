"""A whole experiment in one process: the jobs that `reproduce` would hand to Snakemake, in their order.

Notebooks run cell by cell in an IPython shell of this process, since a kernel for each would import torch anew;
that they run under papermill too is test_workbook's affair.
"""

import contextlib
import io
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
import yaml
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mlclib import __main__ as line
from mlclib import config, site
from mlclib.runs import execution, plan
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.yaml"))
SMALL = {"epochs": 1, "batch_size": 8, "workers": 0, "threads": 1, "checkpoint_minutes": 5.0}
SIZES = {
    "msrn": {"width": 8},
    "dsdl": {"hidden": 16},
    "query2label": {"width": 16, "feedforward": 16},
    "ml_decoder": {"width": 16, "feedforward": 16},
    "ssgrl": {"width": 16},
}


# All models are rehearsed in one experiment of each recipe (common, own, tuned on frozen maps) and in one on scenes
# with a learning backbone, and all ablation axes in one. Others of many models or axes differ from these in data or
# backbone, and take FEW of them, each its own few.
WHOLE = ("peers-voc2007", "peers-own-voc2007", "peers-scenes", "scenes-ablations", "scenes-finetuned")
FEW = 4


def rehearsed(name: str, every: Iterable[str]) -> list[str]:
    """Those of a shipped experiment's models, or of a model's ablation axes, that its rehearsal runs."""
    every = list(every)
    if name in WHOLE or len(every) <= FEW:
        return every
    first = FEW * SHIPPED.index(name)
    return [every[(first + n) % len(every)] for n in range(FEW)]


def shrunk(name: str, folder: Path, root: Path, **changes) -> Path:
    """A YAML file in `folder`: the shipped experiment with other sizes, and of many models or axes `rehearsed` ones."""
    source = ROOT / "experiments" / f"{name}.yaml"
    shipped = config.load(source)
    kept = rehearsed(name, shipped.models)
    small = dict(SMALL)
    if shipped.training.precision == "float16":
        small["precision"] = "bfloat16"  # float16 is refused on a CPU
    models = {}
    for model, own in ((model, shipped.models[model]) for model in kept):
        options = SIZES.get(own.model or model, {})
        models[model] = {"options": options, "training": {k: v for k, v in small.items() if k in own.training}}
        models[model] |= {"input_size": 64} if own.input_size else {}
    raw = {
        "dataset": {"root": str(root)},
        "input_size": 64,
        "seeds": [0],
        "training": small,
        "models": models,
        "attention": {"images": [0], "n_localisation": 3, "n_faithfulness": 1},
    }
    if shipped.tuning:
        raw["tuning"] = {"trials": 2, "ranges": {"*": {"training.epochs": [1]}}}
    if not shipped.backbone.frozen:
        raw["backbone"] = {"name": "test_resnet", "weights": None}
    for key, value in changes.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) and isinstance(raw.get(key), dict) else value
    whole = config._overlay(config._read(source), raw)
    for part in (whole["models"], whole.get("ablation") or {}, (whole.get("tuning") or {}).get("ranges", {})):
        for model in set(shipped.models) - set(kept):
            part.pop(model, None)
    for axes in (whole.get("ablation") or {}).values():
        for axis in set(axes) - set(rehearsed(name, axes)):
            del axes[axis]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path


def rehearse(path: Path, results: Path, monkeypatch) -> Study:
    """Run every job of the experiment; what its notebooks printed is kept in `study.said`."""
    said = in_process(monkeypatch)
    for _ in range(100):  # a job may only be known once those before it ended
        study = Study(config.load(path), results=results)
        todo = [job for job in plan.jobs(study, (str(path), "--results", str(results)), 1) if job.reasons]
        if not todo:
            break
        for job in todo:
            with contextlib.redirect_stdout(said):
                assert line.main(list(job.command)) == 0, f"{job.name}: {said.getvalue()[-2000:]}"
    study.said = said.getvalue()
    return study


def in_process(monkeypatch) -> io.StringIO:
    """Notebooks run in this process and draw small figures; what they print is kept in the stream."""
    said = io.StringIO()
    monkeypatch.setattr(Figure, "savefig", draw)
    monkeypatch.setattr(execution, "execute", lambda *arguments: run_notebook(*arguments, said))
    return said


def draw(figure: Figure, path: Path, format: str, **_) -> None:
    """What stands for `savefig`: small, drawn once, where that draws twice to find the frame, and not laid out, which
    takes most of a drawing and is tested in test_plots.
    """
    figure.dpi = 20
    figure.set_layout_engine("none")
    if format == "png":
        FigureCanvasAgg(figure).print_png(path)
    else:
        FigureCanvasSVG(figure).print_svg(path)


def run_notebook(path: Path, copy: Path, parameters: dict, said: io.StringIO) -> None:
    """Every code cell of the notebook, the parameters injected after those it declares."""
    execution.check(path, parameters)
    shell = InteractiveShell()
    shell.run_cell("import matplotlib; matplotlib.use('agg')")
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        with contextlib.redirect_stdout(said):
            result = shell.run_cell(cell.source, store_history=True)
        assert result.success, f"{path.stem} {parameters}: {result.error_in_exec or result.error_before_exec!r}"
        if "parameters" in cell.metadata.get("tags", []):
            shell.user_ns.update(parameters)
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(), copy)


def check_pages(study: Study) -> None:
    """Every table, figure and page is there, and none says nan."""
    tables = {path.stem for path in (study.folder / "tables").glob("*.md")}
    if study.experiment.tuning:
        assert tables == {"tuning"}
    else:
        assert "protocols" in tables or not (study.dataset.splits["test"].targets == 1).any()
        assert "scores" in tables
    for axis in (f"{model}_{axis}" for model in study.experiment.ablation for axis in study.experiment.axes(model)):
        assert f"ablation_{axis}" in tables
    for path in (study.folder / "tables").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bnan\b", text, re.I), f"{path.name}: {text[:300]}"
    figures = {
        path.name for path in (*(study.folder / "figures").glob("*.png"), *study.folder.glob("photographs/*.png"))
    }
    looked_at = (
        study.experiment.models if study.experiment.attention.models is None else study.experiment.attention.models
    )
    curves = {f"curves_{model}.png" for model in study.experiment.models}
    assert ({"tuning.png"} if study.experiment.tuning else curves) <= figures
    assert study.experiment.tuning or {f"attention-{model}.png" for model in looked_at} <= figures
    page = (study.folder / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert "://" in link or (study.folder / link).exists(), link
    site.build(study.results, study.results / "site")
    assert (study.results / "site" / f"{study.experiment.name}.html").exists()
