"""The site: all that stands in results/ as pages to read in a browser, with no network, opened from the file system.

`build` makes it anew from tables, figures, executed notebooks and run folders, and trains nothing. What a page says of
models and of how to run comes from the README and the models' own docstrings; what it scores comes from runs, whose
predictions stand beside it for scores.js. Pages are templates beside this file.
"""

import base64
import html
import inspect
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np
import pandas as pd
from nbconvert.filters import ansi2html, markdown2html
from PIL import Image

from mlclib import models
from mlclib.common.errors import UserError
from mlclib.common.files import write_text, written_whole
from mlclib.common.sources import ROOT
from mlclib.datasets.scenes.picture import draw_scene
from mlclib.pages.site import ledger
from mlclib.runs import store
from mlclib.runs.store import Run
from mlclib.tables import captions, entries
from mlclib.tables.captions import Models

HERE = Path(__file__).parent
MOST = 64 * 2**20  # bytes of logits that a browser is given at once
# Tables are shown in this order, by the beginning of their names, then by name.
ORDER = (
    "leaderboard", "pairs", "scores", "tuning", "gap", "further", "published", "per_class", "ablation", "protocols",
)  # fmt: skip
KINDS = ("csv", "md", "tex")
REPRODUCE = "make reproduce EXPERIMENT="


@dataclass(frozen=True)
class Shown:
    """A table as a page shows it: HTML of its cells, the caption's first sentence and the rest, footnotes.

    cell: the notebook and the number of the cell that made it; "" where its executed notebook is not there.
    """

    name: str
    title: str
    cells: str
    first: str
    rest: str
    notes: list[str]
    cell: tuple[str, int] | tuple[()] = ()


@dataclass
class Page:
    """What the pages of one experiment show. door: why the numbers cannot be opened, "" where they can."""

    name: str
    title: str
    about: str
    tables: list[Shown]
    figures: list[Path]
    notebooks: dict[str, Any]
    models: Models = field(default_factory=dict)
    door: str = ""
    scores: pd.DataFrame | None = None


def build(results: str | Path, out: str | Path) -> Path:
    """Write the site of `results` into the folder `out`, and return its front page. Files that stay the same cost
    nothing; of other pages in `out` nothing is removed."""
    results, out = Path(results), Path(out)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["markdown"] = _html
    pages = [_page(folder) for folder in sorted(path.parent for path in results.glob("*/README.md"))]

    def write(path: str, template: str, **values: Any) -> None:
        shared = {"root": "../" * path.count("/"), "here": path, "pages": pages}
        write_text(out / path, environment.get_template(template).render(**shared, **values))

    for file in ("site.css", "site.js", "scores.js"):
        write_text(out / file, (HERE / file).read_text(encoding="utf-8"))
    for page in pages:
        _write_files(results / page.name, page, out / page.name)
        write(f"{page.name}.html", "experiment.html", page=page, command=REPRODUCE + page.name)
        for name, notebook in page.notebooks.items():
            write(f"{page.name}/{name}.html", "notebook.html", page=page, name=name, cells=_cells(notebook))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    write("papers.html", "papers.html", entries=ledger.entries(results))
    write("models.html", "models.html", models=_models(readme))
    write(
        "run.html", "run.html", sections=_sections(readme, "Two commands", "The papers'", "Your own", "Other people's")
    )
    write("index.html", "index.html", rows=_front(pages), answers=_answers(pages), figure=_figure(pages))
    return out / "index.html"


def _page(folder: Path) -> Page:
    """What is there of the experiment whose results lie in `folder`."""
    title, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("\n")
    found = [path for path in (folder / "tables").glob("*.md") if path.with_suffix(".csv").exists()]
    rank = {path: next((i for i, s in enumerate(ORDER) if path.stem.startswith(s)), len(ORDER)) for path in found}
    notebooks = {
        path.stem: nbformat.read(path, as_version=4) for path in sorted((folder / "notebooks").glob("*.ipynb"))
    }
    scores = folder / "tables" / "scores.csv"
    page = Page(
        name=folder.name,
        title=title.removeprefix("# "),
        about=_html(re.split(r"^Made by|^##", rest, maxsplit=1, flags=re.M)[0]),
        tables=[_shown(path, notebooks) for path in sorted(found, key=lambda path: (rank[path], path.name))],
        figures=sorted((folder / "figures").glob("*.png")),
        notebooks=notebooks,
        scores=pd.read_csv(scores) if scores.is_file() else None,
    )
    try:
        page.models = _runs(folder)
    except UserError as error:
        page.door = f"{error}."
    return page


def _shown(path: Path, notebooks: dict[str, Any]) -> Shown:
    title, _, rest = path.read_text(encoding="utf-8").partition("\n")
    lines = [line for line in rest.splitlines() if line.startswith("|")]
    caption, *notes = [text for text in rest.strip().split("\n\n") if text and not text.startswith("|")] or [""]
    first, _, more = caption.partition(". ")
    made = [
        (name, number)
        for name, notebook in notebooks.items()
        for number, cell in enumerate(notebook.cells)
        if f'id="table-{path.stem}"' in json.dumps(cell.get("outputs", [])).replace('\\"', '"')
    ]
    words = re.sub(r"\\(.)", r"\1", title.removeprefix("### "))
    return Shown(path.stem, words, _html("\n".join(lines)), _html(first + ("." if more else "")), _html(more),
                 [_html(note) for note in notes], made[0] if made else ())  # fmt: skip


def _runs(folder: Path) -> Models:
    """The runs that the experiment's table of scores is made of. Raises UserError that says why there are none."""
    note, again = folder / "tables" / "scores.json", f"`{REPRODUCE}{folder.name}` makes them"
    if (folder / "tables" / "tuning.json").is_file():
        raise UserError("Its runs are trials of a tuning, whose predictions on the test images nothing looks at")
    if not note.is_file():
        raise UserError(f"The scores do not say which runs they are made of: {again}")
    made = json.loads(note.read_text(encoding="utf-8"))["made of"]
    own = {model: names for model, names in made.items() if not names[0].startswith("external/")}
    try:
        found = {model: [store.read(folder.parent / "runs" / name) for name in names] for model, names in own.items()}
    except UserError:
        raise UserError(f"The runs that the scores are made of are not on this disk: {again}") from None
    reference = captions.checked(found, "last")
    found |= {name: runs for name, runs in entries.external(folder / "external", reference).items() if name in made}
    if sum(array.nbytes for runs in found.values() for run in runs for array in run.logits.values()) > MOST:
        raise UserError("The predictions are too many for a browser: use the notebooks 05_tables and 06_protocols")
    if not (reference.targets == 1).any():
        raise UserError(captions.HIDDEN)
    return found


def _write_files(folder: Path, page: Page, out: Path) -> None:
    """Beside the experiment's page: its tables as files, figures, and of its runs predictions, records and pictures."""
    for path in [path for kind in KINDS for path in (folder / "tables").glob(f"*.{kind}")]:
        _copy(path, out / "tables" / path.name)
    for path in page.figures:
        _picture(out / "figures" / f"{path.stem}.webp", path, lambda path=path: Image.open(path).convert("RGB"))
    if not page.models:
        return
    reference = next(iter(page.models.values()))[0]
    data = {
        "experiment": page.name,
        "labels": reference.labels,
        "names": reference.names,
        "targets": _packed(reference.targets, np.int8),
        "pictures": _pictures(reference, out.parent),
        "draws": 1000,
        "models": {model: [_run(model, run, out) for run in runs] for model, runs in page.models.items()},
        "cells": {shown.name: shown.cell for shown in page.tables if shown.cell},
    }
    write_text(out / "predictions.js", f"const DATA = {json.dumps(data, ensure_ascii=False)};\n")


def _run(model: str, run: Run, out: Path) -> dict[str, Any]:
    """One run as predictions.js has it; its record and history are copied beside it."""
    made = store.provenance(run)
    if "external" in made:
        said = {"folder": f"external/{made['external']}", "seed": "", "files": [], "command": ""}
    else:
        name = "/".join(run.folder.parts[-3:])
        files = [file for file in ("run.yaml", "history.csv", "metrics.json") if (run.folder / file).exists()]
        for file in files:
            _copy(run.folder / file, out / "runs" / name / file)
        command = f"python -m mlclib train {run.about['experiment']} --model {model} --seed {run.seed}"
        changed = " with uncommitted changes" if made["changed"] else ""
        said = {"folder": name, "seed": run.seed, "files": files, "command": command, "device": made["device"],
                "commit": made["commit"][:10] + changed, "ended": run.about["ended"][:10]}  # fmt: skip
    return said | {"logits": {key: _packed(array, np.float32) for key, array in run.logits.items()}}


def _pictures(reference: Run, out: Path) -> str:
    """The folder in `out` that holds each test image, small; "" where the project did not draw them itself."""
    if reference.about["data"]["name"] != "scenes":
        return ""
    seed = reference.about["configuration"]["dataset"].get("seed", 0)
    folder = f"pictures/scenes-{seed}"
    for name in reference.names:
        index = int(name.rpartition("_")[2])
        _picture(out / folder / f"{name}.webp", Path(draw_scene.__code__.co_filename),
                 lambda index=index: draw_scene(seed, 1, index)[0], 70)  # fmt: skip
    return folder


def _picture(path: Path, source: Path, made, quality: int = 80) -> None:
    """Write the picture that `made` gives as WebP, unless it is there and no older than its source."""
    if path.exists() and path.stat().st_mtime >= source.stat().st_mtime:
        return
    with written_whole(path) as part:
        made().save(part, "webp", quality=quality)


def _copy(path: Path, to: Path) -> None:
    with written_whole(to) as part:
        shutil.copyfile(path, part)


def _packed(array: np.ndarray, kind: type) -> str:
    return base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _html(text: str) -> str:
    """Markdown as HTML that a template takes as it is."""
    return jinja2.filters.Markup(markdown2html(text))


def _cells(notebook: Any) -> list[dict[str, Any]]:
    """The cells of an executed notebook: source as HTML or code, and each output as HTML."""
    return [
        {
            "number": number,
            "code": cell.source if cell.cell_type == "code" else "",
            "text": _html(cell.source) if cell.cell_type == "markdown" else "",
            "outputs": [shown for output in cell.get("outputs", ()) if (shown := _output(output))],
        }
        for number, cell in enumerate(notebook.cells)
    ]


def _output(output: Any) -> str:
    """One output of a cell as HTML: the richest form that needs no script; "" for progress on the error stream."""
    data = output.get("data", {})
    if output.output_type == "stream":
        text = f"<pre>{html.escape(output.text)}</pre>" if output.name == "stdout" else ""
    elif output.output_type == "error":
        text = f"<pre>{ansi2html(chr(10).join(output.traceback))}</pre>"
    elif "text/markdown" in data:
        return _html(data["text/markdown"])
    elif "image/png" in data:
        text = f'<img alt="Figure of this cell" src="data:image/png;base64,{data["image/png"].strip()}">'
    else:
        text = data.get("text/html") or f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"
    return jinja2.filters.Markup(text)


def _models(readme: str) -> list[dict[str, Any]]:
    """Every model of the registry: README's row of it, its paper's line and its class's docstring."""
    table = re.search(r"^## Models.*?^\| name .*?\n\|[-: |]+\n(.*?)\n\n", readme, re.M | re.S)[1]
    rows = {}
    for line in table.splitlines():
        names, paper, options, parameters, quirk = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", names):
            rows[name] = {"paper": paper, "options": _html(options), "parameters": parameters, "quirk": _html(quirk)}
    return [
        {
            "name": name,
            "headline": inspect.getdoc(inspect.getmodule(kind)).splitlines()[0],
            "equations": inspect.getdoc(kind),
            "choices": inspect.getdoc(kind.Options),
            **rows[name],
        }
        for name, kind in models.MODELS.items()
    ]


def _sections(readme: str, *starts: str) -> str:
    """Those sections of the README whose headings begin so; links to files of the project become plain text."""
    parts = re.split(r"^(?=## )", readme, flags=re.M)
    text = "\n".join(part for start in starts for part in parts if part.startswith(f"## {start}"))
    return _html(re.sub(r"\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", text))


def _front(pages: list[Page]) -> list[dict[str, Any]]:
    """A row for each model of each experiment with scores."""
    return [
        {"page": page, **{key: row[key] for key in ("model", "mAP", "p", "CF1", "OF1")},
         "sd": row.get("mAP sd", np.nan), "low": row["mAP low"], "high": row["mAP high"]}
        for page in pages if page.scores is not None for row in page.scores.to_dict("records")
        if not pd.isna(row["mAP"])
    ]  # fmt: skip


def _answers(pages: list[Page]) -> list[tuple[Page, str]]:
    """For each experiment a sentence: which model scores highest, and how sure that is."""
    found = []
    for page in pages:
        rows = [row for row in _front([page])]
        if not rows:
            continue
        best, *others = sorted(rows, key=lambda row: -row["mAP"])
        text = f"{best['model']} scores highest, {best['mAP']:.1f} mAP (95 % {best['low']:.1f} to {best['high']:.1f})"
        sure = [row["model"] for row in others if row["p"] < 0.05]
        unsure = [row["model"] for row in others if not row["p"] < 0.05]
        text += f"; above {' and '.join(sure)} beyond chance (p < 0.05)" if sure else ""
        text += f"; from {' and '.join(unsure)} it cannot be told apart" if unsure else ""
        found.append((page, f"{text}."))
    return found


def _figure(pages: list[Page]) -> dict[str, Any]:
    """Where the front page's figure puts each model's mAP and interval: places in percent of the axis."""
    rows = _front(pages)
    low, high = (
        (5 * np.floor(min(row["low"] for row in rows) / 5), 5 * np.ceil(max(row["high"] for row in rows) / 5))
        if rows
        else (0, 100)
    )

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    ticks = [
        {"text": f"{tick:.0f}", "at": place(tick)} for tick in np.arange(low, high + 1, 5 if high - low < 45 else 10)
    ]
    places = [{**row, "at": place(row["mAP"]), "from": place(row["low"]), "to": place(row["high"])} for row in rows]
    return {"ticks": ticks, "rows": places}
