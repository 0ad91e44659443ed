"""The pages that show results: a README an experiment, and one index.html that leads to all of them.

Both are put together from the files that stand in results/, and open from disk with no network.
"""

import html
import json
import re
from collections.abc import Collection
from pathlib import Path

import nbformat
import pandas as pd
import yaml
from nbconvert import HTMLExporter

from mlclib.common.files import write_text
from mlclib.runs.study import Study
from mlclib.tables.rendering import DASH, PAGE

# Linked from a README, not shown in it: an experiment may have dozens.
LONG = re.compile(r"ablation_.*_per_class|localisation-.*-labels")
FINDINGS = "tables/findings.md"
# Tables are shown in this order, by the beginning of their names, then by name.
ORDER = (
    "leaderboard",
    "pairs",
    "scores",
    "tuning",
    "gap",
    "further",
    "published",
    "per_class",
    "ablation",
    "protocols",
)


def write(study: Study, shown: Collection[str]) -> Path:
    """Write results/<experiment>/README.md from the experiment's tables and figures, then results/index.html anew.

    shown: the files to show, relative to the experiment's folder.
    """
    experiment, folder = study.experiment, study.folder
    command = f"make reproduce EXPERIMENT={experiment.name}"
    parts = [
        f"# {experiment.title}",
        _findings(folder, shown),
        "\n".join(f"- {note}" for note in experiment.notes),
        f"Made by `{command}` from `experiments/{experiment.name}.yaml`; where the data set is elsewhere, add "
        "`DATA=/its/folder`. Every table stands in [tables](tables) as csv, html, md and tex too, with the runs that "
        "each row or column is made of in json, and its caption says how its numbers were made.",
    ]
    tables = [path.with_suffix(".md") for path in table_pages(folder) if path.relative_to(folder).as_posix() in shown]
    if inline := [path for path in tables if not LONG.match(path.name)]:
        parts += ["## Tables", *(path.read_text(encoding="utf-8").strip() for path in inline)]
    if linked := [path for path in tables if LONG.match(path.name)]:
        parts.append("Further tables:\n\n" + "\n".join(f"- [{_words(path)}](tables/{path.name})" for path in linked))
    if figures := [path for path in _figures(folder) if path.relative_to(folder).as_posix() in shown]:
        parts += ["## Figures", *(f"![{_words(path)}](figures/{path.name})" for path in figures)]
    write_text(folder / "README.md", "\n\n".join(filter(None, parts)) + "\n")
    index(study.results)
    return folder / "README.md"


def _findings(folder: Path, shown: Collection[str]) -> str:
    """What the runs say, as 05_tables found it."""
    return (folder / FINDINGS).read_text(encoding="utf-8").strip() if FINDINGS in shown else ""


def index(results: Path) -> Path:
    """Write results/index.html: every experiment's tables, figures and executed notebooks, and all run folders.

    Executed notebooks are rendered to HTML beside them where that is missing or older.
    """
    folders = sorted(path.parent for path in results.glob("*/README.md"))
    titles = {folder: (folder / "README.md").read_text(encoding="utf-8").splitlines()[0][2:] for folder in folders}
    links = "".join(f'<li><a href="#{f.name}">{html.escape(title)}</a></li>\n' for f, title in titles.items())
    body = [
        "<header>\n<h1>Results</h1>\n<p>Tables, figures, executed notebooks and runs of every experiment on this disk. "
        "Each caption says how its numbers were made.</p>\n</header>",
        f'<nav aria-label="Experiments">\n<ul>\n{links}<li><a href="#runs">All runs</a></li>\n</ul>\n</nav>\n<main>',
        *(_section(folder, title) for folder, title in titles.items()),
        _runs(results),
        "</main>",
    ]
    page = PAGE.format(title="Results", style=STYLE, body="\n".join(body), script="")
    write_text(results / "index.html", page)
    return results / "index.html"


def _section(folder: Path, title: str) -> str:
    name, parts = folder.name, []
    if (scores := folder / "tables" / "scores.html").is_file():
        found = re.search(r"<figure.*</figure>", scores.read_text(encoding="utf-8"), re.DOTALL)
        parts.append(found[0].replace("table-scores", f"table-scores-{name}"))
    if tables := table_pages(folder):
        items = "".join(_table_item(name, path) for path in tables)
        parts.append(f"<h3>Tables</h3>\n<ul>\n{items}</ul>")
    if figures := _figures(folder):
        items = "".join(
            f'<figure><a href="{name}/figures/{path.name}"><img src="{name}/figures/{path.name}" loading="lazy" '
            f'alt="{_words(path)}"></a><figcaption>{_words(path)}</figcaption></figure>\n'
            for path in figures
        )
        parts.append(f'<h3>Figures</h3>\n<div class="grid">\n{items}</div>')
    if notebooks := sorted((folder / "notebooks").glob("*.ipynb")):
        items = "".join(
            f'<li><a href="{name}/notebooks/{_readable(path).name}">{path.stem}</a> '
            f'(<a href="{name}/notebooks/{path.name}">ipynb</a>)</li>\n'
            for path in notebooks
        )
        parts.append(f"<h3>Executed notebooks</h3>\n<ul>\n{items}</ul>")
    inner = "\n".join(parts)
    return (
        f'<section id="{name}">\n<h2>{html.escape(title)}</h2>\n'
        f'<p><a href="{name}/README.md">{name}/README.md</a></p>\n{inner}\n</section>'
    )


def _table_item(name: str, path: Path) -> str:
    title = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0].removeprefix("### ").replace("\\", "")
    others = ", ".join(
        f'<a href="{name}/tables/{path.stem}.{kind}">{kind}</a>' for kind in ("csv", "md", "tex", "json")
    )
    return f'<li><a href="{name}/tables/{path.name}">{html.escape(title)}</a> ({others})</li>\n'


def _runs(results: Path) -> str:
    """All finished runs, by data set: what each was, and links to what it recorded of itself."""
    parts = []
    for data in sorted((results / "runs").glob("*/")):
        manifests = sorted(data.glob("*/seed-*/manifest.json"))
        if not manifests:
            continue
        rows = "".join(_run_row(results, path.parent) for path in manifests)
        heads = "".join(
            f'<th scope="col">{head}</th>' for head in ("run", "experiment", "mAP", "ended", "commit", "files")
        )
        parts.append(
            f"<details>\n<summary>{html.escape(data.name)}: {len(manifests)} runs</summary>\n"
            f'<div class="scroll" tabindex="0" role="region" aria-label="Runs on {html.escape(data.name)}">\n'
            f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n</details>"
        )
    listed = "\n".join(parts) or "<p>No run folders are on this disk; training makes them.</p>"
    return (
        '<section id="runs">\n<h2>All runs</h2>\n<p>run.yaml holds the configuration, seed, versions, commit, data '
        f"checksum, hardware and times of a run; mAP is that of its last epoch.</p>\n{listed}\n</section>"
    )


def _run_row(results: Path, folder: Path) -> str:
    about = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    score = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["last"]["mAP"]
    link = folder.relative_to(results).as_posix()
    files = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".json", ".csv")]
    cells = [
        html.escape(f"{folder.parent.name}, seed {about['seed']}"),
        html.escape(about["experiment"]),
        DASH if pd.isna(score) else f"{100 * score:.1f}",
        about["ended"][:16].replace("T", " "),
        html.escape(about["commit"][:10]),
        ", ".join(f'<a href="{link}/{file}">{file}</a>' for file in files),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _readable(notebook: Path) -> Path:
    """The executed notebook as an HTML page beside it, rendered anew where it is missing or older."""
    path = notebook.with_suffix(".html")
    if not path.exists() or path.stat().st_mtime < notebook.stat().st_mtime:
        options = ("exclude_input_prompt", "exclude_output_prompt", "exclude_anchor_links")
        exporter = HTMLExporter(template_name="basic", **dict.fromkeys(options, True))
        body, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))
        write_text(path, PAGE.format(title=notebook.stem, style=STYLE, body=f"<main>{body}</main>", script=""))
    return path


def table_pages(folder: Path) -> list[Path]:
    """The HTML files of tables that have an md file too, in the order to show them."""
    found = [path for path in (folder / "tables").glob("*.html") if path.with_suffix(".md").exists()]
    rank = {
        path: next((i for i, start in enumerate(ORDER) if path.stem.startswith(start)), len(ORDER)) for path in found
    }
    return sorted(found, key=lambda path: (rank[path], path.name))


def _figures(folder: Path) -> list[Path]:
    return sorted((folder / "figures").glob("*.png"))


def _words(path: Path) -> str:
    return path.stem.replace("_", " ")


STYLE = """h2 { margin-top: 2.5rem; padding-top: .75rem; border-top: 2px solid #d0d7de; }
nav ul { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
a { color: #0b57d0; }
img { max-width: 100%; height: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.25rem; }
.grid figure { margin: 0; }
figcaption { color: #454d55; font-size: .875rem; }
summary { cursor: pointer; padding: .4rem 0; }
.scroll, .jp-OutputArea-output { overflow-x: auto; }
section table:not(.gt_table) { border-collapse: collapse; font-size: .875rem; }
section table:not(.gt_table) :is(th, td) { text-align: left; padding: .3rem .7rem .3rem 0; white-space: nowrap;
  border-bottom: 1px solid #d0d7de; }
pre { overflow-x: auto; background: #f6f8fa; padding: .75rem; font-size: .85rem; }
li { margin: .2rem 0; }"""
