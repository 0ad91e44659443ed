"""What the page of an experiment shows: its tables and figures, executed notebooks, jobs, runs and configuration."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import nbformat
import pandas as pd
import yaml
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from nbconvert.preprocessors import ExtractOutputPreprocessor

from mlclib.models import title
from mlclib.results import across
from mlclib.results import report as reports
from mlclib.results.captions import MAP
from mlclib.results.leaderboard import spoken
from mlclib.results.table import listed
from mlclib.runs import plan, store, times

KINDS = ("csv", "md", "tex")
FRONT = ("learning_curves", "leaderboard", "tuning")  # figures, the one that says most of its experiment first


def read(folder: Path, runs: list[dict[str, Any]]) -> SimpleNamespace:
    """What the page of the experiment whose results lie in `folder` shows. runs: all runs on this disk (`trained`).

    about: Markdown. answer: who leads, "" where there is no leaderboard. scores: the rows of scores.csv. scope: its
    models, images and seeds, in words. front: the figure for the front page. jobs, costs by `Job.file`, configuration:
    what `reproduce` left. runs: those that it trained. unavailable: why its numbers cannot be opened, or "".
    """
    settings, jobs = plan.read_jobs(folder) or ({"title": folder.name, "notes": []}, [])
    name, about = settings["title"], "\n".join(f"- {note}" for note in settings["notes"])
    if (readme := folder / "README.md").exists():
        name, _, rest = readme.read_text(encoding="utf-8").removeprefix("# ").partition("\n")
        about = re.split(r"^Made by|^##", rest, maxsplit=1, flags=re.M)[0]
    paths = sorted(folder.glob("notebooks/*.ipynb"))
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in paths}
    scores, board = (folder / "tables" / f"{name}.csv" for name in ("scores", "leaderboard"))
    figures = [path.stem for path in sorted(folder.glob("figures/*.png"))]
    return SimpleNamespace(
        folder=folder,
        name=folder.name,
        title=name,
        about=about,
        answer=answer(pd.read_csv(board)) if board.is_file() else "",
        notebooks=notebooks,
        tables=[_table(path, notebooks) for path in reports.tables_of(folder)],
        figures=figures,
        front=next((name for name in FRONT if name in figures), ""),
        scores=_headlines(scores) if scores.is_file() else [],
        scope=_scope(folder / "tables"),
        jobs=jobs,
        costs=times.costs(folder),
        configuration=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=110) if jobs else "",
        runs=[run for run in runs if run["experiment"] == folder.name],
        unavailable="",
    )


def trained(results: Path) -> list[dict[str, Any]]:
    """The finished runs on this disk that are scored on test images, as they tell of themselves."""
    rows = []
    manifests = sorted(results.glob("runs/*/*/seed-*/manifest.json"))
    for folder in (path.parent for path in manifests if path.with_name("metrics.json").exists()):
        about, scores = store.about(folder), json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        row = {key: about[key] for key in ("experiment", "ended", "commit")}
        rows.append({"folder": folder, "mAP": 100 * scores["last"]["mAP"], "device": store.device(about), **row})
    return rows


def markdown(text: str) -> jinja2.filters.Markup:
    """Markdown as HTML that a template takes as it is."""
    return jinja2.filters.Markup(markdown2html(text))


def executed(notebook: Any, name: str) -> tuple[jinja2.filters.Markup, dict[str, bytes]]:
    """An executed notebook as HTML, and its figures by their path from its page."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_preprocessor(ExtractOutputPreprocessor(), enabled=True)
    body, resources = exporter.from_notebook_node(notebook, {"output_files_dir": "cells", "unique_key": name})
    body = body.replace("No description has been provided for this image", "Figure of this cell")
    return jinja2.filters.Markup(body), resources.get("outputs", {})


def answer(board: pd.DataFrame) -> str:
    """Who leads a leaderboard, with what interval, and over how many of the others it is shown to be better."""
    name, leader = across.headline(board), board.iloc[0]
    model, mAP, low, high = leader[["model", name, f"{name} low", f"{name} high"]]
    tied = [title(row.model) for row in board[1:].itertuples() if set(row.ties) & set(leader["ties"])]
    first = f"{spoken(model, begins=True)} has the highest {name}, {mAP:.1f} % (95 % interval {low:.1f} to {high:.1f})"
    others = len(board) - 1
    but = f", all but {listed(tied)}" if 0 < len(tied) < min(4, others) else ""
    return f"{first}: shown to be better than {others - len(tied)} of {others} others{but}."


def _scope(tables: Path) -> str:
    """How many models, images and seeds an experiment's first table rests on, as its caption says it; "" of none."""
    path = next((tables / f"{name}.md" for name in ("scores", "tuning") if (tables / f"{name}.csv").is_file()), None)
    if path is None:
        return ""
    text, models = path.read_text(encoding="utf-8"), len(pd.read_csv(path.with_suffix(".csv")))
    images = re.search(r"[\d,]+ (test|validation) images", text)
    seeds = re.search(r"seeds? (\d+(?:, \d+)*)", text, re.I)
    count = 1 + seeds[1].count(",") if seeds else 0
    parts = [f"{models} model{'s' * (models > 1)}"]
    parts += [images[0]] if images else []
    parts += [f"{count} seed{'s' * (count > 1)}"] if seeds else []
    return ", ".join(parts)


def _headlines(path: Path) -> list[dict[str, Any]]:
    """The rows of scores.csv that have a mAP; the headline one is named mAP, over whatever labels it is."""
    frame = pd.read_csv(path)
    headline = across.headline(frame)
    return frame.rename(columns=lambda name: name.replace(headline, MAP)).dropna(subset=MAP).to_dict("records")


def _table(path: Path, notebooks: dict[str, Any]) -> dict[str, Any]:
    """A table from its md file. The cell of a notebook that showed it has an output with the same heading."""
    text = path.read_text(encoding="utf-8")
    heading = text.partition("\n")[0] + "\n"
    cells = [(f"{name}.html#cell-id={cell.id}", cell) for name, each in notebooks.items() for cell in each.cells]
    links = [
        link
        for link, cell in cells
        for output in cell.get("outputs", ())
        if output.get("data", {}).get("text/markdown", "").startswith(heading)
    ]
    kinds = [kind for kind in KINDS if path.with_suffix(f".{kind}").exists()]
    long = bool(reports.LONG.match(path.name))
    return {"name": path.stem, "text": text, "kinds": kinds, "long": long, "cell": links[0] if links else ""}
