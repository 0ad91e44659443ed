"""Which runs a table is made of, and how each of them was made: a JSON file beside it, a folded part of its page."""

import html
import json
from typing import Any

from mlclib.runs import store
from mlclib.runs.store import FinishedRun

Runs = dict[str, list[FinishedRun]]  # a row's first cell, a column, or "" for the whole table -> its runs

SHORT = 10  # digits of a checksum that a page shows


def json_text(runs: Runs) -> str:
    """{"made of": row or column -> run folders, "runs": folder -> its provenance}, a line each."""
    made = {key: [_name(run) for run in found] for key, found in runs.items()}
    each = {_name(run): store.provenance(run) for found in runs.values() for run in found}

    def lines(held: dict[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(k, ensure_ascii=False)}: {json.dumps(v)}" for k, v in held.items())

    return f'{{\n "made of": {{\n{lines(made)}\n }},\n "runs": {{\n{lines(each)}\n }}\n}}\n'


def details(runs: Runs) -> str:
    """A folded HTML table: each run with what it is in the table, its seed, commit, lock file, data and device."""
    parts: dict[str, tuple[FinishedRun, list[str]]] = {}
    for key, found in runs.items():
        for run in found:
            parts.setdefault(_name(run), (run, []))[1].append(key)
    if not parts:
        return ""
    heads = ("run", "in this table", "seed", "commit", "locked versions", "data", "device")
    rows = [
        [name, ", ".join(filter(None, keys)), *_cells(store.provenance(run))] for name, (run, keys) in parts.items()
    ]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<details class="runs">\n<summary>The {len(rows)} runs that it is made of</summary>\n<div>\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n</details>\n"
    )


def _name(run: FinishedRun) -> str:
    """<data set>/<configuration>/seed-<k>, or external/<file>."""
    return f"external/{run.about['external']}" if "external" in run.about else "/".join(run.folder.parts[-3:])


def _cells(made: dict[str, Any]) -> list[str]:
    if "external" in made:
        return ["", "predictions from outside", "", "", ""]
    commit = made["commit"][:SHORT] + (", changed" if made["changed"] else "")
    return [str(made["seed"]), commit, (made["lock"] or "not recorded")[:SHORT], made["data"][:SHORT], made["device"]]


STYLE = """details.runs { margin-top: 1rem; font-size: .875rem; }
details.runs summary { cursor: pointer; }
details.runs div { overflow-x: auto; }
details.runs table { border-collapse: collapse; }
details.runs :is(th, td) { text-align: left; padding: .2rem .8rem .2rem 0; white-space: nowrap; }
details.runs td:nth-child(2) { white-space: normal; min-width: 12rem; }"""
