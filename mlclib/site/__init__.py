"""The site: all that stands in results/ as pages to read in a browser, with no network, opened from the file system.

`build` writes it from tables, figures, executed notebooks, run folders and what `reproduce` left of its jobs. It trains
nothing. pages.py reads what an experiment's page shows, live.py the predictions that scores.js scores, ledger.py what
the papers state. The templates and scripts of the pages lie beside this file.
"""

import inspect
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2

from mlclib import models
from mlclib.common.errors import UserError
from mlclib.common.files import file_lock, write_text, written_whole
from mlclib.common.sources import ROOT
from mlclib.results import report
from mlclib.runs import plan
from mlclib.runs.times import words
from mlclib.site import ledger, live, pages

HERE = Path(__file__).parent
WRITTEN = ".written.json"  # in the folder of the site: the files that the last build wrote
RECORDS = ("run.yaml", "history.csv", "metrics.json")  # of a run, copied into the site


class Folder:
    """The folder of the site. It notes the files that it was given, so that those of older builds can be removed."""

    def __init__(self, path: Path):
        self.path, self.given = path, set()

    def put(self, name: str, content: bytes | str | Callable[[], bytes], source: Path | None = None) -> None:
        """Write a file, unless it has this content already or is no older than its source."""
        path = self.path / name
        self.given.add(name)
        if source and path.exists() and path.stat().st_mtime >= source.stat().st_mtime:
            return
        content = content() if callable(content) else content.encode() if isinstance(content, str) else content
        if not path.exists() or path.read_bytes() != content:
            with written_whole(path) as part:
                part.write_bytes(content)

    def clear(self) -> None:
        """Remove the files of the build before that were not given this time, and note those that were."""
        note = self.path / WRITTEN
        before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else []
        for name in set(before) - self.given:
            (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):  # a folder that is not empty stays
                os.removedirs((self.path / name).parent)
        write_text(note, json.dumps(sorted(self.given)))


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
    environment.filters |= {"markdown": pages.markdown, "title": models.title, "words": report.words}
    environment.filters["time"] = words
    environment.filters["named"] = report.named
    runs = pages.trained(results)
    folders = {path.parent for name in ("README.md", plan.JOBS) for path in results.glob(f"*/{name}")}
    contests = report.contests(results)  # the strongest first; what is no contest comes after them
    order = [*contests, *sorted(folders.difference(contests))]
    every = [pages.read(folder, runs) for folder in order]

    def write(path: str, template: str, **values: Any) -> None:
        shared = {"root": "../" * path.count("/"), "here": path, "pages": every}
        out.put(path, environment.get_template(template).render(**shared, **values))

    copies = [HERE / name for name in ("site.css", "site.js", "scores.js", "live.js")]
    copies += [run["folder"] / name for run in runs for name in RECORDS if (run["folder"] / name).exists()]
    copies += [path for page in every for path in page.folder.glob("figures/*.png")]
    copies += [path for page in every for kind in pages.KINDS for path in page.folder.glob(f"tables/*.{kind}")]
    for path in copies:
        out.put(str(path.relative_to(HERE if path.parent == HERE else results)), path.read_bytes())
    for page in every:
        try:
            models_of = live.predictions(page)
            out.put(f"{page.name}/predictions.js", live.script(page, models_of, live.pictures(models_of, out)))
        except UserError as error:
            page.unavailable = f"{error}."
        write(f"{page.name}.html", "experiment.html", page=page)
        for name, notebook in page.notebooks.items():
            body, figures = pages.executed(notebook, name)
            links = {f"../{page.name}.html": page.title}
            write(f"{page.name}/{name}.html", "text.html", title=f"{name}, {page.name}", links=links, body=body)
            for path, content in figures.items():
                out.put(f"{page.name}/{path}", content)
    write("index.html", "index.html", contest=next((page for page in every if page.answer), None))
    write("papers.html", "papers.html", entries=ledger.entries(results))
    write("models.html", "models.html", models=models.MODELS, doc=inspect.getdoc, module=inspect.getmodule)
    texts = {f"{path.stem.lower()}.html": path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
    links = {name: name.removesuffix(".html") for name in texts}
    for name, path in texts.items():
        text = re.sub(r"!?\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", path.read_text(encoding="utf-8"))
        write(f"docs/{name}", "text.html", title=links[name], links=links, body=pages.markdown(text))
    out.clear()
    return out.path / "index.html"
