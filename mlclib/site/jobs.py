"""The jobs of an experiment on its page: which come before which, how long each took, and which are still to run."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx

from mlclib.results.table import DASH
from mlclib.runs.batch import Cost
from mlclib.runs.plan import Job
from mlclib.runs.watch import words

KINDS = ("maps", "train", "notebook", "page")  # the columns of the graph
WIDE, HIGH, APART, ROW = 220, 44, 90, 58  # a box, and what lies between two


@dataclass(frozen=True)
class Group:
    """Jobs that are alike (`Job.like`): a box of the graph. seconds: of all together, as far as it is known."""

    name: str
    kind: str
    jobs: list[Job]
    seconds: float | None

    @property
    def said(self) -> str:
        """How many there are, how many of them are to run, how long they took."""
        todo = sum(bool(job.reasons) for job in self.jobs)
        count = [f"{len(self.jobs)} jobs"] if len(self.jobs) > 1 else []
        state = "up to date" if not todo else "to run" if todo == len(self.jobs) else f"{todo} to run"
        return ", ".join([*count, state, *([words(self.seconds)] if self.seconds is not None else [])])


def state(jobs: list[Job]) -> str:
    """In a sentence: how many of the jobs are still to run."""
    todo = sum(bool(job.reasons) for job in jobs)
    return f"{todo} of {len(jobs)} jobs are still to run." if todo else f"All {len(jobs)} jobs are up to date."


def graph(jobs: list[Job], costs: Mapping[str, Cost]) -> str:
    """Which jobs come before which, as SVG: a column a kind, a box for jobs that are alike.

    costs: what each took when it last ran, by `Job.file`.
    """
    groups = _groups(jobs, costs)
    columns = [[group for group in groups if group.kind == kind] for kind in KINDS]
    columns = [column for column in columns if column]
    place = {
        group.name: (x * (WIDE + APART), y * ROW) for x, column in enumerate(columns) for y, group in enumerate(column)
    }
    of = {job.name: group.name for group in groups for job in group.jobs}
    edges = {(of[need], group.name) for group in groups for job in group.jobs for need in job.needs if need in of}
    lines = []
    needed = nx.transitive_reduction(nx.DiGraph(edges))  # what follows from others is not drawn
    for before, after in sorted(needed.edges):
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
    told = html.escape("; ".join(f"{group.name}: {group.said}" for group in groups))
    return (
        f'<svg class="jobs" role="img" aria-label="{told}" viewBox="-2 -2 {wide + 4} {high}" width="{wide + 4}">\n'
        f"{''.join(lines)}\n{''.join(boxes)}\n</svg>"
    )


def rows(jobs: list[Job], costs: Mapping[str, Cost]) -> list[dict[str, Any]]:
    """Every job with its time, memory and state; share: its time as a part of the longest one's."""
    longest = max((costs[job.file].seconds for job in jobs if job.file in costs), default=1.0)
    found = []
    for job in jobs:
        cost = costs.get(job.file, Cost(None, None))
        found.append(
            {
                "name": job.name,
                "time": words(cost.seconds) if cost.seconds is not None else DASH,
                "share": f"{cost.seconds / longest:.3f}" if cost.seconds else "",
                "memory": f"{cost.memory / 1000:.1f} GB" if cost.memory else DASH,
                "state": "; ".join(job.reasons) or "up to date",
            }
        )
    return found


def _groups(jobs: list[Job], costs: Mapping[str, Cost]) -> list[Group]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.like, []).append(job)
    groups = []
    for name, alike in found.items():
        seconds = [costs[job.file].seconds for job in alike if job.file in costs]
        groups.append(Group(name, alike[0].kind, alike, sum(seconds) if seconds else None))
    return groups
