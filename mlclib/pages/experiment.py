"""One page of a whole experiment, a single file to send or to keep: its jobs, times, tables, figures, configuration.

Figures stand in it as data, so it needs nothing beside it; only its links to executed notebooks lead out of it.
"""

import base64
import dataclasses
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import networkx as nx
import yaml

from mlclib.common.files import write_text
from mlclib.pages import reports
from mlclib.runs.batch import Cost
from mlclib.runs.plan import Job
from mlclib.runs.study import Study
from mlclib.runs.watch import words
from mlclib.tables.rendering import DASH, PAGE

KINDS = ("maps", "train", "notebook", "page")  # the columns of the graph
WIDE, HIGH, APART, ROW = 220, 44, 90, 58  # a box, and what lies between two


@dataclasses.dataclass(frozen=True)
class Group:
    """Jobs that are alike (`Job.like`): a box of the graph."""

    name: str
    kind: str
    jobs: list[Job]
    seconds: float | None  # of all together, as far as it is known

    @property
    def said(self) -> str:
        """How many there are, how many of them are to run, how long they took."""
        todo = sum(bool(job.reasons) for job in self.jobs)
        state = "up to date" if not todo else "to run" if todo == len(self.jobs) else f"{todo} to run"
        return ", ".join(
            [
                *([f"{len(self.jobs)} jobs"] if len(self.jobs) > 1 else []),
                state,
                *([words(self.seconds)] if self.seconds is not None else []),
            ]
        )


def write(study: Study, jobs: list[Job], costs: Mapping[str, Cost]) -> Path:
    """Write results/<experiment>/report.html.

    jobs: all of the plan, those that are current too. costs: what each took when it last ran, by `Job.file`.
    """
    setting, folder = study.experiment, study.folder
    todo = sum(bool(job.reasons) for job in jobs)
    state = f"{todo} of {len(jobs)} jobs are still to run" if todo else f"all {len(jobs)} jobs are up to date"
    parts = {
        "jobs": ("Jobs", f"<p>{state}.</p>\n{_graph(_groups(jobs, costs))}\n{_list(folder, jobs, costs)}"),
        "tables": ("Tables", "\n".join(_tables(folder))),
        "figures": ("Figures", "\n".join(_figures(folder))),
        "configuration": ("Configuration", f"<pre>{html.escape(_configuration(study))}</pre>"),
    }
    links = "".join(f'<li><a href="#{key}">{title}</a></li>\n' for key, (title, _) in parts.items())
    notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in setting.notes)
    body = [
        f"<header>\n<h1>{html.escape(setting.title)}</h1>\n<ul>\n{notes}</ul>\n</header>",
        f'<nav aria-label="Parts">\n<ul>\n{links}</ul>\n</nav>\n<main>',
        *(f'<section id="{key}">\n<h2>{title}</h2>\n{inner}\n</section>' for key, (title, inner) in parts.items()),
        "</main>",
    ]
    style = f"{reports.STYLE}\n{STYLE}"
    page = PAGE.format(title=html.escape(setting.title), style=style, body="\n".join(body), script="")
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _groups(jobs: Iterable[Job], costs: Mapping[str, Cost]) -> list[Group]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.like, []).append(job)
    groups = []
    for name, alike in found.items():
        seconds = [costs[job.file].seconds for job in alike if job.file in costs]
        groups.append(Group(name, alike[0].kind, alike, sum(seconds) if seconds else None))
    return groups


def _graph(groups: list[Group]) -> str:
    """Which jobs come before which, as SVG: a column a kind, a box for jobs that are alike."""
    columns = [[group for group in groups if group.kind == kind] for kind in KINDS]
    columns = [column for column in columns if column]
    place = {
        group.name: (x * (WIDE + APART), y * ROW) for x, column in enumerate(columns) for y, group in enumerate(column)
    }
    of = {job.name: group.name for group in groups for job in group.jobs}
    edges = {(of[need], group.name) for group in groups for job in group.jobs for need in job.needs if need in of}
    lines = []
    for before, after in sorted(
        nx.transitive_reduction(nx.DiGraph(edges)).edges
    ):  # what follows from others is not drawn
        (x, y), (to_x, to_y) = place[before], place[after]
        x, y, to_y, bend = x + WIDE, y + HIGH / 2, to_y + HIGH / 2, APART / 2
        lines.append(f'<path d="M{x} {y} C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"/>')
    boxes = []
    for group in groups:
        x, y = place[group.name]
        kind = "todo" if any(job.reasons for job in group.jobs) else "current"
        boxes.append(
            f'<g class="{kind}" transform="translate({x} {y})"><rect width="{WIDE}" height="{HIGH}" rx="6"/>'
            f'<text x="10" y="18">{html.escape(group.name)}</text>'
            f'<text x="10" y="35" class="said">{html.escape(group.said)}</text></g>'
        )
    wide, high = len(columns) * (WIDE + APART) - APART, max(map(len, columns)) * ROW
    told = "; ".join(f"{group.name}: {group.said}" for group in groups)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Graph of jobs">\n<svg class="jobs" role="img" '
        f'aria-label="{html.escape(told)}" viewBox="-2 -2 {wide + 4} {high}" width="{wide + 4}">\n'
        f"{''.join(lines)}\n{''.join(boxes)}\n</svg>\n</div>"
    )


def _list(folder: Path, jobs: list[Job], costs: Mapping[str, Cost]) -> str:
    """Every job with its time, memory and state; its time as a bar beside those of the others."""
    longest = max((costs[job.file].seconds for job in jobs if job.file in costs), default=1.0)
    rows = []
    for job in jobs:
        cost = costs.get(job.file, Cost(None, None))
        bar = f'<meter min="0" max="{longest:.1f}" value="{cost.seconds:.1f}"></meter>' if cost.seconds else ""
        cells = [
            _linked(folder, job),
            f"{words(cost.seconds) if cost.seconds is not None else DASH} {bar}",
            f"{cost.memory / 1000:.1f} GB" if cost.memory else DASH,
            html.escape("; ".join(job.reasons)) or "up to date",
        ]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("job", "time", "memory", "state"))
    return (
        f"<details>\n<summary>All {len(jobs)} jobs, with their executed notebooks</summary>\n"
        '<div class="scroll" tabindex="0" role="region" aria-label="All jobs">\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(rows)}\n</tbody>\n</table>\n</div>\n</details>"
    )


def _linked(folder: Path, job: Job) -> str:
    """The job's name, and where it is a notebook links to its executed copy."""
    links = [
        f'<a href="notebooks/{job.name}.{kind}">{kind}</a>'
        for kind in ("html", "ipynb")
        if job.kind == "notebook" and (folder / "notebooks" / f"{job.name}.{kind}").exists()
    ]
    return html.escape(job.name) + (f" ({', '.join(links)})" if links else "")


def _tables(folder: Path) -> list[str]:
    found = []
    for path in reports.table_pages(folder):
        figure = re.search(r"<figure.*</figure>", path.read_text(encoding="utf-8"), re.DOTALL)
        title = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0].removeprefix("### ")
        text = f"<h3>{html.escape(title.replace(chr(92), ''))}</h3>\n{figure[0] if figure else ''}"
        if reports.LONG.match(path.name):
            text = f"<details>\n<summary>{html.escape(path.stem.replace('_', ' '))}</summary>\n{text}\n</details>"
        found.append(text)
    return found


def _figures(folder: Path) -> list[str]:
    found = []
    for path in sorted((folder / "figures").glob("*.png")):
        name = html.escape(path.stem.replace("_", " "))
        data = base64.b64encode(path.read_bytes()).decode()
        found.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{name}"><figcaption>{name}</figcaption></figure>'
        )
    return found


def _configuration(study: Study) -> str:
    """The experiment with all that it includes, and the defaults that it leaves as they are."""
    plain = json.loads(json.dumps(dataclasses.asdict(study.experiment), default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)


STYLE = """.jobs { max-width: none; height: auto; font-size: 13px; }
.jobs path { fill: none; stroke: #8c959f; }
.jobs rect { fill: #f6f8fa; stroke: #2da44e; stroke-width: 1.5; }
.jobs .todo rect { fill: #fff8e6; stroke: #bf8700; stroke-dasharray: 5 3; }
.jobs .said { fill: #454d55; font-size: 12px; }
meter { width: 8rem; }
#figures figure { margin: 1.5rem 0; }"""
