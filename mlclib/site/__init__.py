"""The site: all that stands in results/ as pages to read in a browser, with no network, opened from the file system.

`build` makes it anew from tables, figures, executed notebooks, run folders and what `reproduce` left of its jobs, and
trains nothing. What a page says of models and of how to run comes from the README and the models' own docstrings; what
it scores comes from runs, whose predictions stand beside it for scores.js. Pages are templates beside this file.
"""

import base64
import hashlib
import html
import inspect
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np
import pandas as pd
import yaml
from nbconvert.filters import ansi2html, markdown2html
from PIL import Image

from mlclib import models
from mlclib.common.errors import UserError
from mlclib.common.files import file_lock, write_text, written_whole
from mlclib.common.sources import ROOT
from mlclib.datasets.scenes.picture import draw_scene
from mlclib.results import captions, entries
from mlclib.results import report as reports
from mlclib.results.captions import Models
from mlclib.runs import batch, plan, store
from mlclib.runs.store import FinishedRun
from mlclib.site import jobs, ledger

HERE = Path(__file__).parent
MOST = 64 * 2**20  # bytes of logits that a browser is given at once
KINDS = ("csv", "md", "tex")
WRITTEN = ".written.json"  # in the folder of the site: the files that the last build wrote
REPRODUCE = "make reproduce EXPERIMENT="


@dataclass(frozen=True)
class Shown:
    """A table as a page shows it: HTML of its cells and of its caption with the footnotes (`_parts`).

    kinds: the files that it stands in beside the page. long: whether it is shown on demand alone. cell: the notebook
    and the number of the cell that made it; () where its executed notebook is not there.
    """

    name: str
    title: str
    cells: str
    caption: str
    kinds: list[str]
    long: bool
    cell: tuple[str, int] | tuple[()] = ()


@dataclass
class Page:
    """What the pages of one experiment show.

    models: the runs of its scores; door: why the numbers cannot be opened, "" where they can. configuration, state,
    graph, jobs: what `reproduce` left (plan.read_jobs), if it did. runs: every run on this disk that the experiment trained.
    """

    name: str
    title: str
    about: str
    tables: list[Shown]
    figures: list[Path]
    notebooks: dict[str, Any]
    models: Models = field(default_factory=dict)
    door: str = ""
    scores: pd.DataFrame | None = None
    configuration: str = ""
    state: str = ""
    graph: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


class Folder:
    """The folder of the site. It knows what it was given, so that what no build gives any more can go."""

    def __init__(self, path: Path):
        self.path, self.given = path, set()

    def text(self, name: str, text: str) -> None:
        self._put(name, text.encode())

    def copy(self, name: str, source: Path) -> None:
        self._put(name, source.read_bytes())

    def picture(self, name: str, source: Path, made: Callable[[], Image.Image], quality: int = 80) -> None:
        """The picture that `made` gives as WebP, unless it is there and no older than its source."""
        path = self._new(name)
        if path.exists() and path.stat().st_mtime >= source.stat().st_mtime:
            return
        with written_whole(path) as part:
            made().save(part, "webp", quality=quality)

    def clear(self) -> None:
        """Remove the files of the build before that were not given this time, and note those that were."""
        note = self.path / WRITTEN
        before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else []
        for name in set(before) - self.given:
            path = self.path / name
            path.unlink(missing_ok=True)
            for parent in path.parents:
                if parent == self.path or not parent.is_dir() or any(parent.iterdir()):
                    break
                parent.rmdir()
        write_text(note, json.dumps(sorted(self.given)))

    def _put(self, name: str, content: bytes) -> None:
        path = self._new(name)
        if not path.exists() or path.read_bytes() != content:
            with written_whole(path) as part:
                part.write_bytes(content)

    def _new(self, name: str) -> Path:
        self.given.add(name)
        return self.path / name


def build(results: str | Path, out: str | Path) -> Path:
    """Write the site of `results` into the folder `out`, and return its front page.

    Files that stay the same are not written again. Of what else lies in `out` only files of a build before are removed,
    where this one has no such file: pages of experiments that are gone.
    """
    with file_lock(Path(out) / ".lock", f"the site in {out}"):
        return _build(Path(results), Folder(Path(out)))


def _build(results: Path, out: Folder) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["markdown"] = _html
    folders = {path.parent for name in ("README.md", plan.JOBS) for path in results.glob(f"*/{name}")}
    pages = [_page(folder) for folder in sorted(folders)]

    def write(path: str, template: str, **values: Any) -> None:
        shared = {"root": "../" * path.count("/"), "here": path, "pages": pages}
        out.text(path, environment.get_template(template).render(**shared, **values))

    for file in ("site.css", "site.js", "scores.js"):
        out.copy(file, HERE / file)
    for page, runs in zip(pages, _trained(results, pages), strict=True):
        page.runs = runs
        _write_files(results, page, out)
        write(f"{page.name}.html", "experiment.html", page=page, command=REPRODUCE + page.name)
        for name, notebook in page.notebooks.items():
            source = results / page.name / "notebooks" / f"{name}.ipynb"
            cells = _cells(notebook, partial(_cell_picture, out, page.name, source))
            write(f"{page.name}/{name}.html", "notebook.html", page=page, name=name, cells=cells)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    write("papers.html", "papers.html", entries=ledger.entries(results))
    write("models.html", "models.html", models=_models(readme))
    write(
        "run.html", "run.html", sections=_sections(readme, "Two commands", "The papers'", "Your own", "Other people's")
    )
    write("index.html", "index.html", rows=_front(pages), answers=_answers(pages, results), figure=_figure(pages))
    out.clear()
    return out.path / "index.html"


def _page(folder: Path) -> Page:
    """What is there of the experiment whose results lie in `folder`."""
    notebooks = {
        path.stem: nbformat.read(path, as_version=4) for path in sorted((folder / "notebooks").glob("*.ipynb"))
    }
    outputs = {
        (name, number): json.dumps(cell.get("outputs", [])).replace('\\"', '"')
        for name, notebook in notebooks.items()
        for number, cell in enumerate(notebook.cells)
    }
    scores, kept = folder / "tables" / "scores.csv", plan.read_jobs(folder)
    page = Page(
        name=folder.name,
        title=folder.name,
        about="",
        tables=[_shown(path, outputs) for path in reports.tables_of(folder)],
        figures=sorted((folder / "figures").glob("*.png")),
        notebooks=notebooks,
        scores=pd.read_csv(scores) if scores.is_file() else None,
    )
    if kept:
        experiment, every = kept
        notes = "\n".join(f"- {note}" for note in experiment["notes"])
        page.title, page.about = experiment["title"], _html(f"{reports.findings(folder)}\n\n{notes}")
        costs = batch.costs(folder)
        page.configuration = yaml.safe_dump(experiment, sort_keys=False, allow_unicode=True, width=110)
        page.state, page.jobs = jobs.state(every), jobs.rows(every, costs)
        page.graph = jinja2.filters.Markup(jobs.graph(every, costs))
    else:
        title, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("\n")
        page.title = title.removeprefix("# ")
        page.about = _html(re.split(r"^Made by|^##", rest, maxsplit=1, flags=re.M)[0])
    try:
        page.models = _runs(folder)
    except UserError as error:
        page.door = f"{error}."
    return page


def _trained(results: Path, pages: Iterable[Page]) -> list[list[dict[str, Any]]]:
    """For each page the runs on this disk that its experiment trained, as run.yaml tells of them."""
    found: dict[str, list[dict[str, Any]]] = {page.name: [] for page in pages}
    for manifest in sorted(results.glob("runs/*/*/seed-*/manifest.json")):
        folder = manifest.parent
        about = store.about(folder)
        if about["experiment"] in found:
            score = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["last"]["mAP"]
            found[about["experiment"]].append(
                {
                    "folder": "/".join(folder.parts[-3:]),
                    "mAP": 100 * score,
                    "ended": about["ended"][:16].replace("T", " "),
                    "commit": about["commit"][:10],
                    "device": store.device(about),
                }
            )
    return list(found.values())


def _shown(path: Path, outputs: dict[tuple[str, int], str]) -> Shown:
    """A table from its md file; outputs: of each cell of the executed notebooks, as one text."""
    title, cells, caption = _parts(path.read_text(encoding="utf-8"))
    made = [cell for cell, text in outputs.items() if f'id="table-{path.stem}"' in text]
    return Shown(
        name=path.stem,
        title=title,
        cells=cells,
        caption=caption,
        kinds=[kind for kind in KINDS if path.with_suffix(f".{kind}").exists()],
        long=bool(reports.LONG.match(path.name)),
        cell=made[0] if made else (),
    )


def _parts(table: str) -> tuple[str, str, str]:
    """Of a table in Markdown its title as text, its cells and its caption as HTML.

    A caption shows its first sentence, which opens the rest and the footnotes.
    """
    title, _, rest = table.partition("\n")
    parts = rest.strip().split("\n\n")
    cells = "\n\n".join(part for part in parts if part.startswith("|"))
    below = "\n\n".join(part for part in parts if not part.startswith("|"))
    first, _, more = below.partition(". ")
    caption = f"<details><summary>{_html(f'{first}.')}</summary>{_html(more)}</details>" if more else _html(below)
    return re.sub(r"\\(.)", r"\1", title.removeprefix("### ")), _html(cells), jinja2.filters.Markup(caption)


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


def _write_files(results: Path, page: Page, out: Folder) -> None:
    """Beside the experiment's page: its tables as files, figures, and of its runs predictions, records and pictures."""
    folder = results / page.name
    for path in [path for kind in KINDS for path in sorted((folder / "tables").glob(f"*.{kind}"))]:
        out.copy(f"{page.name}/tables/{path.name}", path)
    for path in page.figures:
        name = f"{page.name}/figures/{path.stem}.webp"
        out.picture(name, path, lambda path=path: Image.open(path).convert("RGB"))
    for run in page.runs:
        out.copy(f"{page.name}/runs/{run['folder']}/run.yaml", results / "runs" / run["folder"] / "run.yaml")
    if not page.models:
        return
    reference = next(iter(page.models.values()))[0]
    data = {
        "experiment": page.name,
        "labels": reference.labels,
        "names": reference.names,
        "targets": _packed(reference.targets, np.int8),
        "pictures": _pictures(reference, out),
        "draws": 1000,
        "models": {model: [_run(page, model, run, out) for run in runs] for model, runs in page.models.items()},
        "cells": {shown.name: shown.cell for shown in page.tables if shown.cell},
    }
    out.text(f"{page.name}/predictions.js", f"const DATA = {json.dumps(data, ensure_ascii=False)};\n")


def _run(page: Page, model: str, run: FinishedRun, out: Folder) -> dict[str, Any]:
    """One run as predictions.js has it; its record and history are copied beside it."""
    made = store.provenance(run)
    if "external" in made:
        said = {"folder": f"external/{made['external']}", "seed": "", "files": [], "command": ""}
    else:
        name = "/".join(run.folder.parts[-3:])
        files = [file for file in ("run.yaml", "history.csv", "metrics.json") if (run.folder / file).exists()]
        for file in files:
            out.copy(f"{page.name}/runs/{name}/{file}", run.folder / file)
        command = f"python -m mlclib train {run.about['experiment']} --model {model} --seed {run.seed}"
        changed = " with uncommitted changes" if made["changed"] else ""
        said = {"folder": name, "seed": run.seed, "files": files, "command": command, "device": made["device"],
                "commit": made["commit"][:10] + changed, "ended": run.about["ended"][:10]}  # fmt: skip
    return said | {"logits": {key: _packed(array, np.float32) for key, array in run.logits.items()}}


def _pictures(reference: FinishedRun, out: Folder) -> str:
    """The folder in the site that holds each test image, small; "" where the project did not draw them itself."""
    if reference.about["data"]["name"] != "scenes":
        return ""
    seed = reference.about["configuration"]["dataset"].get("seed", 0)
    folder = f"pictures/scenes-{seed}"
    for name in reference.names:
        index = int(name.rpartition("_")[2])
        out.picture(f"{folder}/{name}.webp", Path(draw_scene.__code__.co_filename),
                    lambda index=index: draw_scene(seed, 1, index)[0], 70)  # fmt: skip
    return folder


def _packed(array: np.ndarray, kind: type) -> str:
    return base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _html(text: str) -> str:
    """Markdown as HTML that a template takes as it is."""
    return jinja2.filters.Markup(markdown2html(text))


def _cell_picture(out: Folder, page: str, source: Path, encoded: str) -> str:
    """Write a PNG from the executed notebook `source`, in base64, beside its page, smaller; its path from there."""
    content = base64.b64decode(encoded)
    name = f"cells/{hashlib.sha256(content).hexdigest()[:16]}.webp"
    out.picture(f"{page}/{name}", source, lambda: Image.open(io.BytesIO(content)).convert("RGB"))
    return name


def _cells(notebook: Any, picture: Callable[[str], str]) -> list[dict[str, Any]]:
    """The cells of an executed notebook: source as HTML or code, and each output as HTML.

    picture: what keeps a PNG, given in base64, and gives its path.
    """
    return [
        {
            "number": number,
            "code": cell.source if cell.cell_type == "code" else "",
            "text": _html(cell.source) if cell.cell_type == "markdown" else "",
            "outputs": [shown for output in cell.get("outputs", ()) if (shown := _output(output, picture))],
        }
        for number, cell in enumerate(notebook.cells)
    ]


def _output(output: Any, picture: Callable[[str], str]) -> str:
    """One output of a cell as HTML: the richest form that needs no script; "" for progress on the error stream."""
    data = output.get("data", {})
    if output.output_type == "stream":
        text = f"<pre>{html.escape(output.text)}</pre>" if output.name == "stdout" else ""
    elif output.output_type == "error":
        text = f"<pre>{ansi2html(chr(10).join(output.traceback))}</pre>"
    elif (said := data.get("text/markdown", "")).startswith("### "):
        title, cells, caption = _parts(said)
        text = f'<h3>{html.escape(title)}</h3>{cells}<div class="caption">{caption}</div>'
    elif said:
        return _html(said)
    elif "image/png" in data:
        text = f'<img alt="Figure of this cell" loading="lazy" src="{picture(data["image/png"])}">'
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


def _answers(pages: list[Page], results: Path) -> list[tuple[Page, str]]:
    """For each experiment with scores the first of its findings, or only which model is highest where it has none."""
    found = []
    for page in pages:
        if rows := _front([page]):
            best = max(rows, key=lambda row: row["mAP"])
            said = re.findall(r"^- (.*)", reports.findings(results / page.name), re.M)
            found.append((page, said[0] if said else f"{best['model']} has the highest mAP, {best['mAP']:.1f} %."))
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
