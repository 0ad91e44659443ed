"""One table in four formats: csv for machines, md for GitHub, html for a browser, tex for a paper.

The formats show the same figures. Nothing in them depends on when or where they were rendered. A fifth file, json, and
a folded part of the html page say which runs they are of (provenance.py).
"""

import html
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import great_tables
import pandas as pd

from mlclib.common.files import write_text
from mlclib.results import provenance
from mlclib.runs.store import FinishedRun

DASH = "—"  # nothing computed or published this figure


@dataclass(frozen=True)
class Table:
    """A table and all that its rendering needs.

    frame: text columns and number columns, a NaN where nothing was computed or published.
    spread: standard deviations for some cells of some number columns, same index.
    formats: how a column's numbers are written, as Python formats, ".1f" where not given; "p" for p-values.
    intervals: shown name -> the two number columns, low and high, that are shown together in place of the low one.
    best: the number columns whose highest value is set bold and second underlined, each column for itself or,
    with `across`, each row for itself; values that are written alike share their place.
    reference: the row that the others are compared with, as the full model of an ablation.
    marks: (row, column) -> marks set high beside the cell, each explained in footnotes: mark -> sentence.
    runs: what it is made of: the runs of a row, by its first cell, or of a column, by its name, or "" -> of all of it.
    """

    name: str
    title: str
    frame: pd.DataFrame
    caption: str
    spread: pd.DataFrame = field(default_factory=pd.DataFrame)
    formats: dict[str, str] = field(default_factory=dict)
    intervals: dict[str, tuple[str, str]] = field(default_factory=dict)
    best: tuple[str, ...] = ()
    reference: int | None = None
    across: bool = False
    marks: dict[tuple[int, str], str] = field(default_factory=dict)
    footnotes: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[FinishedRun]] = field(default_factory=dict)

    def write(self, folder: str | Path) -> "Table":
        """Write <name>.csv, .md, .html, .tex and .json into `folder`, each whole or not at all; the table itself."""
        texts = {"csv": csv(self), "md": markdown(self), "html": page(self), "tex": latex(self)}
        for kind, text in (texts | {"json": provenance.json_text(self.runs)}).items():
            write_text(Path(folder) / f"{self.name}.{kind}", text)
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
    """A GitHub table under a heading, its caption and footnotes below."""
    header, rows = cells(table)
    lines = [[plain(name) for name in header], ["---:" if n else ":---" for n in header.values()]]
    for row in rows:
        lines.append([_decorated(plain(c.text), c, "**{}**", "<u>{}</u>", "{}<sup>{}</sup>") for c in row])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"\n\n<sup>{mark}</sup> {plain(note)}" for mark, note in table.footnotes.items())
    return f"### {plain(table.title)}\n\n{body}\n\n{plain(table.caption)}{notes}\n"


def fragment(table: Table) -> str:
    """The table as a piece of HTML that stands alone: no script, no network."""
    header, rows = cells(table)
    decorated = [
        [_decorated(html.escape(c.text), c, "<strong>{}</strong>", "<u>{}</u>", "{}<sup>{}</sup>") for c in row]
        for row in rows
    ]
    keys = [f"c{i}" for i in range(len(header))]
    made = great_tables.GT(pd.DataFrame(decorated, columns=keys, dtype=object), id=f"table-{table.name}")
    made = made.fmt(str).cols_label(dict(zip(keys, header, strict=True)))
    for key, numeric in zip(keys, header.values(), strict=True):
        made = made.cols_align("right" if numeric else "left", columns=key)
    made = made.tab_options(table_margin_left="0px", table_font_size="14px", data_row_padding="5px")
    notes = "".join(f"<p><sup>{html.escape(m)}</sup> {html.escape(n)}</p>\n" for m, n in table.footnotes.items())
    return (
        f'<figure class="table" aria-label="{html.escape(table.title)}" style="margin:0">\n'
        f"<style>{CELLS.replace('#', f'#table-{table.name}')}</style>\n{made.as_raw_html()}\n"
        f'<figcaption style="max-width:50rem;font-size:.875rem;text-align:left">\n'
        f"<p>{html.escape(table.caption)}</p>\n{notes}</figcaption>\n</figure>\n"
    )


def page(table: Table) -> str:
    """A whole HTML page that opens from disk; a click on a column's head sorts by it, one on "Runs" lists them."""
    title = html.escape(table.title)
    return PAGE.format(
        title=title,
        style=provenance.STYLE,
        body=f"<main>\n<h1>{title}</h1>\n{fragment(table)}{provenance.details(table.runs)}</main>",
        script=SORTABLE,
    )


def latex(table: Table) -> str:
    """A booktabs table to \\input: scaled where it is wider than the line, turned where it has many columns."""
    header, rows = cells(table)
    lines = [" & ".join(_tex(name) for name in header) + r" \\", r"\midrule"]
    for row in rows:
        texts = [
            _decorated(_tex(c.text), c, r"\textbf{{{}}}", r"\underline{{{}}}", r"{}\textsuperscript{{{}}}", _tex)
            for c in row
        ]
        lines.append(" & ".join(texts) + r" \\")
    widths = [max(len(row[at].text) for row in rows) for at in range(len(header))]
    kinds = ["r" if numeric else "l" for numeric in header.values()]
    columns = "".join("p{4cm}" if k == "l" and width > 30 else k for k, width in zip(kinds, widths, strict=True))
    float_ = "sidewaystable" if len(header) > 9 else "table"
    notes = [rf"\par\smallskip\footnotesize\textsuperscript{{{_tex(m)}}} {_tex(n)}" for m, n in table.footnotes.items()]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx,rotating}",
            rf"\begin{{{float_}}}",
            r"\centering",
            rf"\caption{{{_tex(table.title)}. {_tex(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\sbox0{{\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            *notes,
            rf"\end{{{float_}}}",
            "",
        ]
    )


def cells(table: Table) -> tuple[dict[str, bool], list[list[Cell]]]:
    """The shown columns, name -> whether it holds numbers, and the shown cells row by row."""
    frame = table.frame
    pairs = {low: (name, high) for name, (low, high) in table.intervals.items()}
    hidden = {high for _, high in table.intervals.values()}
    numeric = {column: pd.api.types.is_numeric_dtype(frame[column]) for column in frame}
    header = {pairs[c][0] if c in pairs else c: numeric[c] for c in frame if c not in hidden}
    places = _places(table)
    rows = []
    for row in range(len(frame)):
        shown = []
        for column in frame:
            if column in hidden:
                continue
            if column in pairs:
                text = _between(*(number(table, row, c) for c in (column, pairs[column][1])))
            elif numeric[column]:
                text = _with_spread(table, row, column)
            else:
                value = frame[column].iloc[row]
                text = DASH if pd.isna(value) or value == "" else str(value)
            shown.append(Cell(text, places.get((row, column), ""), table.marks.get((row, column), "")))
        rows.append(shown)
    return header, rows


def number(table: Table, row: int, column: str) -> str:
    """The number of a cell as it is written, a dash where there is none."""
    return written(table.frame[column].iloc[row], table.formats.get(column, ".1f"))


def written(value: float, how: str) -> str:
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


def _with_spread(table: Table, row: int, column: str) -> str:
    text = number(table, row, column)
    if text == DASH or column not in table.spread or math.isnan(table.spread[column].iloc[row]):
        return text
    return f"{text} ± {written(table.spread[column].iloc[row], table.formats.get(column, '.1f').lstrip('+'))}"


def _between(low: str, high: str) -> str:
    return DASH if DASH in (low, high) else f"{low} to {high}"


def _places(table: Table) -> dict[tuple[int, str], str]:
    rows = range(len(table.frame))
    lines = (
        [[(row, column) for column in table.best] for row in rows]
        if table.across
        else [[(row, column) for row in rows] for column in table.best]
    )
    places = {}
    for line in lines:
        known = {at: table.frame[at[1]].iloc[at[0]] for at in line if not pd.isna(table.frame[at[1]].iloc[at[0]])}
        if len(known) > 1:
            written = {at: number(table, *at) for at in known}
            ranked = list(dict.fromkeys(written[at] for at in sorted(known, key=known.get, reverse=True)))[:2]
            places.update({at: ("best", "second")[ranked.index(t)] for at, t in written.items() if t in ranked})
    return places


def _decorated(text: str, cell: Cell, best: str, second: str, marked: str, escape=str) -> str:
    text = {"best": best, "second": second, "": "{}"}[cell.place].format(text)
    return marked.format(text, escape(cell.marks)) if cell.marks else text


def plain(text: str) -> str:
    """Text that means itself in a GitHub table."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text)


TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "/": r"/\allowbreak{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "—": "---",
    "–": "--",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "∞": r"$\infty$",
}


def _tex(text: str) -> str:
    return "".join(TEX.get(c, c) for c in text)


# Figures keep to one line; the first column stays in sight while a wide table is scrolled.
CELLS = """# .gt_right { white-space: nowrap; }
# .gt_left + .gt_left { min-width: 9rem; }
# .gt_right + .gt_left { white-space: nowrap; }
# tr > :first-child { position: sticky; left: 0; background: #fff; }"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; line-height: 1.5; color: #1b1b1b; background: #fff; margin: 1rem auto;
  padding: 0 1rem; max-width: 80rem; }}
h1 {{ font-size: 1.4rem; line-height: 1.25; }}
{style}
</style>
</head>
<body>
{body}
{script}</body>
</html>
"""

SORTABLE = """<script>
for (const head of document.querySelectorAll("figure table thead th")) {
  head.tabIndex = 0;
  head.style.cursor = "pointer";
  head.title = "Sort by this column";
  const sort = () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    const falling = head.getAttribute("aria-sort") !== "descending";
    const value = row => row.cells[column].textContent.replace("\\u2212", "-").replace("<", "");
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)], [m, n] = [parseFloat(x), parseFloat(y)];
      if (isNaN(m) && isNaN(n)) return falling ? y.localeCompare(x) : x.localeCompare(y);
      if (isNaN(m) || isNaN(n)) return isNaN(m) ? 1 : -1;
      return falling ? n - m : m - n;
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
</script>
"""
