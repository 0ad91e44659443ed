"""One table in four formats: csv for machines, md for GitHub, html for a notebook, tex for a paper.

All formats show the same figures. Nothing in them depends on when or where they were written. A fifth file, json, says
which runs they are of, and when and by which commit each was made.
"""

import html
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mlclib.common.files import write_text
from mlclib.runs import store
from mlclib.runs.store import FinishedRun

DASH = "—"  # nothing computed or published this figure
FOLD = "How these numbers were made"
FORMATS = {"p": "p", "q": "p"}


@dataclass(frozen=True)
class Table:
    """A table and all that its rendering needs.

    frame: text columns and number columns, a NaN where nothing was computed or published. Two columns "<x> low" and
    "<x> high" are shown together, as "<x> 95 %".
    caption: what a reader needs to read the table, two lines. protocol: how its numbers were made, shown on demand.
    spread: standard deviations for some cells of some number columns, same index.
    formats: how a column's numbers are written, as Python formats, or "p" for p-values; FORMATS where not given, else
    with a sign for differences ("Δ ..."), else ".1f".
    best: the number columns whose highest value is set bold and second underlined, each column for itself or,
    with `across`, each row for itself; values that are written alike share their place.
    reference: the row that the others are compared with, as the full model of an ablation.
    marks: (row, column) -> marks set high beside the cell, each explained in footnotes: mark -> sentence.
    runs: what it is made of: the runs of a row, by its first cell, or of a column, by its name, or "" -> of all of it.
    shown: texts of cells and names of columns -> what readers see in their place; csv and json keep them as they are.
    """

    name: str
    title: str
    frame: pd.DataFrame
    caption: str
    protocol: str = ""
    spread: pd.DataFrame = field(default_factory=pd.DataFrame)
    formats: dict[str, str] = field(default_factory=dict)
    best: tuple[str, ...] = ()
    reference: int | None = None
    across: bool = False
    marks: dict[tuple[int, str], str] = field(default_factory=dict)
    footnotes: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[FinishedRun]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def write(self, folder: str | Path) -> "Table":
        """Write <name>.csv, .md, .html, .tex and .json into `folder`, each whole or not at all; the table itself."""
        formats = {"csv": csv, "md": markdown, "html": fragment, "tex": latex, "json": provenance}
        for ending, render in formats.items():
            write_text(Path(folder) / f"{self.name}.{ending}", render(self))
        return self

    def _repr_html_(self) -> str:
        return fragment(self)

    def _repr_markdown_(self) -> str:
        return markdown(self)


@dataclass(frozen=True)
class Cell:
    """One cell as it is shown: its text, its place ("best", "second" or none) and its marks."""

    text: str
    place: str = ""
    marks: str = ""


def csv(table: Table) -> str:
    """Plain numbers, a standard deviation in a column `<column> sd` of its own, nothing for an unknown one."""
    columns = {}
    for column in table.frame:
        columns[column] = table.frame[column]
        if column in table.spread:
            columns[f"{column} sd"] = table.spread[column]
    if table.marks:
        columns["marks"] = [
            "; ".join(f"{column} {mark}" for (at, column), mark in table.marks.items() if at == row)
            for row in range(len(table.frame))
        ]
    return pd.DataFrame(columns).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def markdown(table: Table) -> str:
    """A GitHub table under a heading; below it the caption, the footnotes and, folded, the protocol."""
    texts = _texts(table, escape_markdown, "**{}**", "<u>{}</u>", "{}<sup>{}</sup>")
    rules = ["---:" if numeric else ":---" for numeric in cells(table)[0].values()]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [texts.columns, rules, *texts.to_numpy()])
    parts = [f"### {escape_markdown(table.title)}", body, escape_markdown(table.caption)]
    parts += [f"<sup>{mark}</sup> {escape_markdown(note)}" for mark, note in table.footnotes.items()]
    if table.protocol:
        parts += [f"<details><summary>{FOLD}</summary>", escape_markdown(table.protocol), "</details>"]
    return "\n\n".join(parts) + "\n"


def fragment(table: Table) -> str:
    """The table as a piece of HTML that stands alone: no script, no network."""
    texts = _texts(table, html.escape, "<strong>{}</strong>", "<u>{}</u>", "{}<sup>{}</sup>")
    notes = "".join(f"<p><sup>{html.escape(m)}</sup> {html.escape(n)}</p>\n" for m, n in table.footnotes.items())
    fold = f"<details><summary>{FOLD}</summary><p>{html.escape(table.protocol)}</p></details>\n"
    name = f"table-{table.name}"
    words = [f"#{name} tr > :nth-child({n})" for n, numeric in enumerate(cells(table)[0].values(), 1) if not numeric]
    return (
        f'<figure class="table" id="{name}" aria-label="{html.escape(table.title)}" style="margin:0">\n'
        f"<style>{STYLE.replace('#', f'#{name}')}{', '.join(words)} {{ text-align: left; white-space: normal; }}\n"
        f"</style>\n{texts.style.hide(axis='index').to_html(exclude_styles=True)}"
        f'<figcaption style="max-width:50rem;font-size:.875rem;text-align:left">\n'
        f"<p>{html.escape(table.caption)}</p>\n{notes}{fold if table.protocol else ''}</figcaption>\n</figure>\n"
    )


def latex(table: Table) -> str:
    """A booktabs table to \\input: made narrower where it is wider than the line, turned if it has many columns."""
    texts = _texts(table, _tex, r"\textbf{{{}}}", r"\underline{{{}}}", r"{}\textsuperscript{{{}}}")
    numeric = cells(table)[0].values()
    wide = [texts[column].str.len().max() > 40 for column in texts]
    columns = ["r" if number else "p{4cm}" if long else "l" for number, long in zip(numeric, wide, strict=True)]
    notes = [rf"\textsuperscript{{{_tex(mark)}}} {_tex(note)}" for mark, note in table.footnotes.items()]
    text = texts.style.hide(axis="index").to_latex(
        caption=" ".join([_tex(f"{table.title}. {table.caption} {table.protocol}".rstrip()), *notes]),
        label=f"tab:{table.name}",
        column_format="".join(columns),
        environment="sidewaystable" if len(columns) > 9 else "table",
        position_float="centering",
        hrules=True,
    )
    text = text.replace(r"\begin{tabular}", "\\begin{adjustbox}{max width=\\linewidth}\n\\begin{tabular}")
    text = text.replace(r"\end{tabular}", "\\end{tabular}\n\\end{adjustbox}")
    return "% needs \\usepackage{adjustbox,booktabs,rotating}\n" + text


def provenance(table: Table) -> str:
    """JSON: {"made of": row or column -> run folders, "runs": run folder -> how it was made, and the day it ended}."""
    parts = {key: [_run_name(run) for run in runs] for key, runs in table.runs.items()}
    every = {
        _run_name(run): store.provenance(run) | ({"ended": run.about["ended"][:10]} if "ended" in run.about else {})
        for runs in table.runs.values()
        for run in runs
    }
    return json.dumps({"made of": parts, "runs": every}, indent=1, ensure_ascii=False) + "\n"


def cells(table: Table) -> tuple[dict[str, bool], list[tuple[Cell, ...]]]:
    """The shown columns, name -> whether it holds numbers, and the shown cells row by row."""
    frame, header, columns = table.frame, {}, []
    numbers = {
        name: [written(value, _format(table, name)) for value in frame[name]] for name in frame.select_dtypes("number")
    }
    places = _places(table, numbers)
    for column in frame:
        stem, _, end = column.rpartition(" ")
        if end == "high":
            continue
        name, texts = table.shown.get(column, column), numbers.get(column)
        if end == "low":
            name, ends = f"{stem} 95 %", zip(texts, numbers[f"{stem} high"], strict=True)
            texts = [DASH if DASH in both else " to ".join(both) for both in ends]
        elif texts is None:
            texts = [
                DASH if pd.isna(text) or text == "" else table.shown.get(text, str(text)) for text in frame[column]
            ]
        elif column in table.spread:
            how, spread = _format(table, column).lstrip("+"), table.spread[column]
            texts = [
                text if text == DASH or math.isnan(deviation) else f"{text} ± {written(deviation, how)}"
                for text, deviation in zip(texts, spread, strict=True)
            ]
        header[name] = column in numbers
        marks = [table.marks.get((row, column), "") for row in range(len(frame))]
        columns.append([Cell(text, places.get((row, column), ""), marks[row]) for row, text in enumerate(texts)])
    return header, list(zip(*columns, strict=True))


def written(value: float, how: str) -> str:
    """A number as the tables write it: `how` is a Python format, or "p" for p-values."""
    if pd.isna(value):
        return DASH
    if math.isinf(value):
        return "∞"
    if how == "p":
        return f"{value:.3f}" if value >= 0.0005 else "<0.001"
    text = format(value, how)
    # what rounds to nothing has no sign
    text = text.lstrip("+-") if not text.strip("+-0.") else text
    return text.replace("-", "−")


def listed(names: Iterable[str], last: str = "and") -> str:
    """Names in a sentence: "a, b and c"."""
    names = list(names)
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def escape_markdown(text: str) -> str:
    """Text that means itself in a GitHub table."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text)


def _texts(table: Table, escape: Callable[[str], str], best: str, second: str, marked: str) -> pd.DataFrame:
    """The shown cells in one format's notation: how it sets the best, the second, and a cell with marks."""
    header, rows = cells(table)
    places = {"best": best, "second": second, "": "{}"}
    lines = []
    for row in rows:
        texts = [(cell, places[cell.place].format(escape(cell.text))) for cell in row]
        lines.append([marked.format(text, escape(cell.marks)) if cell.marks else text for cell, text in texts])
    return pd.DataFrame(lines, columns=[escape(name) for name in header], dtype=object)


def _format(table: Table, column: str) -> str:
    return table.formats.get(column) or FORMATS.get(column, "+.1f" if column.startswith("Δ") else ".1f")


def _places(table: Table, numbers: dict[str, list[str]]) -> dict[tuple[int, str], str]:
    """(row, column) -> "best" or "second" of its column, or of its row. numbers: column -> its numbers as written."""
    rows = range(len(table.frame))
    lines = [[(row, column) for row in rows] for column in table.best]
    if table.across:
        lines = zip(*lines, strict=True)
    places = {}
    for line in lines:
        texts = {(row, column): numbers[column][row] for row, column in line if numbers[column][row] != DASH}
        falling = sorted(texts, key=lambda at: table.frame[at[1]].iloc[at[0]], reverse=True)
        ranked = list(dict.fromkeys(texts[at] for at in falling))[:2]
        if len(texts) > 1:
            places |= {at: ("best", "second")[ranked.index(text)] for at, text in texts.items() if text in ranked}
    return places


def _run_name(run: FinishedRun) -> str:
    """<data set>/<configuration>/seed-<k>, or external/<file>."""
    return "/".join(run.folder.parts[-3:]) if "external" not in run.about else f"external/{run.about['external']}"


def _tex(text: str) -> str:
    return text.translate(TEX)


TEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "/": r"/\allowbreak{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "—": "---",
        "–": "--",
        "±": r"$\pm$",
        "−": "$-$",
        "≈": r"$\approx$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "×": r"$\times$",
        "Δ": r"$\Delta$",
        "∞": r"$\infty$",
    }
)

# Figures keep to one line; the first column stays in sight while a wide table is scrolled.
STYLE = """# { overflow-x: auto; }
# :is(th, td) { text-align: right; white-space: nowrap; padding: .2rem .6rem; }
# tr > :first-child { position: sticky; left: 0; background: Canvas; }
"""
