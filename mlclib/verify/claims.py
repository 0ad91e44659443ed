"""Sentences with figures, held to the tables that they rest on (claims.yaml).

A claim is a piece of a text, and rules over cells of tables that must hold as long as the text stands. Every figure in
the README's prose, and in the titles and notes of experiments, must lie in a claim that makes use of it, or among the
`given` figures, which rest on no table and say on what instead. A figure is a number in digits, but not in code, in a
link's target, or in a name (`names`: "VOC 2007"). `tables` gives CSV files, by their path from the repository's root,
the names that rules call them by.

A rule takes one quantity and states what it is:

    cell: [table, row, column]        difference: [cell, cell]        count: table (its rows)
    least, most: [table, [patterns of rows], column]                  order: [cell, cell, ...], falling
    is (to the decimals that it is written with), at least, at most, between: [low, high]; times: a factor before

A row is told by its first cell, or a list of its first cells; patterns are as of file names ("layers *").
"""

import math
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlclib.common.errors import UserError, misfit, unknown

FILE = Path("claims.yaml")
README = "README.md"
FIGURE = re.compile(r"(?<![\w.,])(?<![A-Za-z]-)(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?(?:e-?\d++)?(?!_)")
# What a reader takes for no figure: code, comments, targets of links, numbers of papers.
NO_PROSE = re.compile(
    r"<!-- findings:begin -->.*?<!-- findings:end -->|"  # computed, and held by the tables that they are made of
    r"```.*?```|^ {4}.*?$|`[^`]*`|<!--.*?-->|(?<=\])\([^)]*\)|arXiv \d{4}\.\d{5}",
    re.DOTALL | re.MULTILINE,
)

Number = str | int | float
Cell = tuple[str, str | list[str], str]
Cells = tuple[str, list[str], str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=False)


class Rule(_Strict):
    """One quantity, and what it is."""

    cell: Cell | None = None
    difference: tuple[Cell, Cell] | None = None
    least: Cells | None = None
    most: Cells | None = None
    count: str | None = None
    order: list[Cell] | None = None
    times: float = 1
    equal: Number | None = Field(None, alias="is")
    at_least: Number | None = Field(None, alias="at least")
    at_most: Number | None = Field(None, alias="at most")
    between: tuple[Number, Number] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Rule":
        quantities = (self.cell, self.difference, self.least, self.most, self.count, self.order)
        if sum(quantity is not None for quantity in quantities) != 1:
            raise ValueError("a rule takes one quantity: cell, difference, least, most, count or order")
        if not self.order and all(one is None for one in (self.equal, self.at_least, self.at_most, self.between)):
            raise ValueError("a rule states what it is: is, at least, at most or between")
        return self

    def broken(self, tables: "_Tables") -> str:
        """What the tables say instead, a phrase; empty where the rule holds. Raises UserError for a cell that is not
        there.
        """
        if self.order:
            values = [tables.number(*cell) for cell in self.order]
            held = all(a > b for a, b in zip(values, values[1:], strict=False))
            return "" if held else f"in that order they are {', '.join(f'{value:g}' for value in values)}"
        value = self.times * self._value(tables)
        if self.equal is not None:
            decimals = len(str(self.equal).partition(".")[2])
            told = format(value, f".{decimals}f")
            return "" if float(told) == float(self.equal) else f"it is {told}"
        low = -math.inf if self.at_least is None else float(self.at_least)
        high = math.inf if self.at_most is None else float(self.at_most)
        if self.between:
            low, high = map(float, self.between)
        return "" if low <= value <= high else f"it is {value:.6g}"

    def reads(self) -> set[str]:
        """The names of the tables that the rule reads."""
        cells = [self.cell, *(self.difference or ()), self.least, self.most, *(self.order or ())]
        return {cell[0] for cell in cells if cell} | ({self.count} if self.count else set())

    def _value(self, tables: "_Tables") -> float:
        if self.cell:
            return tables.number(*self.cell)
        if self.difference:
            one, other = (tables.number(*cell) for cell in self.difference)
            return one - other
        if self.count:
            return len(tables.read(self.count))
        values = tables.numbers(*(self.least or self.most))
        return min(values) if self.least else max(values)


class Claim(_Strict):
    """A piece of `place`, told by its words, and the rules that it stands on."""

    text: str
    rules: list[Rule] = Field(min_length=1)
    place: str = Field(README, alias="in")


class Given(_Strict):
    """Figures that rest on no table of ours, and on what instead. Words at the head of a table stand for all of it."""

    text: str
    because: str
    place: str = Field(README, alias="in")


class Claims(_Strict):
    """What claims.yaml holds."""

    names: list[str] = []
    tables: dict[str, str] = {}
    given: list[Given] = []
    claims: list[Claim]


def read(path: Path = FILE) -> Claims:
    """The claims of a file. Raises UserError where it cannot be read or a key or value is wrong."""
    try:
        return Claims.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except ValidationError as errors:
        error = errors.errors()[0]
        raise UserError(f"{'.'.join(map(str, error['loc']))} of {path} {misfit(error)}") from None


def broken(claims: Claims, root: Path, results: Path | None = None, experiment: str = "") -> list[str]:
    """A sentence for each claim that its tables do not bear out.

    results: the folder that stands for root/results; experiment: only claims on tables of that one.
    """
    tables, found = _Tables(claims.tables, root, results or root / "results"), []
    for claim in claims.claims:
        for rule in claim.rules:
            read = (claims.tables.get(name, "") for name in rule.reads())
            if experiment and not any(path.startswith(f"results/{experiment}/") for path in read):
                continue
            try:
                said = rule.broken(tables)
            except UserError as error:
                said = str(error)
            if said:
                found.append(f"{claim.place} says {claim.text!r}, but {said} ({_told(rule)})")
    return found


def uncovered(claims: Claims, root: Path) -> list[str]:
    """A sentence for each figure that no claim covers, and for each claim whose words stand nowhere, or whose rules
    make no use of a figure in them.
    """
    found = []
    places = [README, *(f"experiments/{path.name}" for path in sorted((root / "experiments").glob("*.yaml")))]
    for place in places:
        text = _prose(root / place)
        covered = [False] * len(text)
        for one in (*claims.claims, *claims.given):
            if one.place != place:
                continue
            spans = [match.span() for match in re.finditer(_words(one.text), text)]
            if not spans:
                found.append(f"{place} does not say {one.text!r} any more: take it out of {FILE}")
            for start, end in spans:
                end = _table_end(text, start, end) if isinstance(one, Given) else end
                covered[start:end] = [True] * (end - start)
            if isinstance(one, Claim):
                used = {_figure(f) for rule in one.rules for f in _figures(str(rule.model_dump(exclude_none=True)))}
                for figure in _figures(_without(one.text, claims.names)):
                    if _figure(figure) not in used:
                        found.append(f"no rule of the claim {one.text!r} makes use of its {figure}")
        for match in FIGURE.finditer(_without(text, claims.names)):
            if not all(covered[match.start() : match.end()]):
                line = " ".join(text[max(0, match.start() - 60) : match.end() + 40].split())
                found.append(f"{place}: no claim of {FILE} covers {match[0]} in {line!r}")
    for one in (*claims.claims, *claims.given):
        if one.place not in places:
            found.append(str(unknown("text", one.place, places, where=str(FILE))))
    return found


class _Tables:
    """The CSV files that claims.yaml names, their cells as they are written."""

    def __init__(self, known: dict[str, str], root: Path, results: Path):
        self.known, self.root, self.results = known, root, results

    def read(self, table: str) -> pd.DataFrame:
        if table not in self.known:
            raise unknown("table", table, self.known, where=str(FILE))
        first, *rest = Path(self.known[table]).parts
        path = self.results.joinpath(*rest) if first == "results" else self.root.joinpath(first, *rest)
        if not path.is_file():
            raise UserError(f"there is no table {path}")
        return _csv(path, path.stat().st_mtime_ns)

    def number(self, table: str, row: str | list[str], column: str) -> float:
        frame = self.read(table)
        keys = [row] if isinstance(row, str) else row
        found = frame[(frame.iloc[:, : len(keys)] == keys).all(axis=1)]
        if not len(found):
            raise unknown("row", ", ".join(keys), frame.iloc[:, : len(keys)].agg(", ".join, axis=1), where=table)
        if len(found) > 1:
            raise UserError(
                f"{len(found)} rows of {table} begin with {', '.join(keys)!r}: tell them by more of their cells"
            )
        return self._numbers(table, found, column)[0]

    def numbers(self, table: str, patterns: list[str], column: str) -> list[float]:
        frame = self.read(table)
        found = frame[[any(fnmatch(row, pattern) for pattern in patterns) for row in frame.iloc[:, 0]]]
        if missing := [one for one in patterns if not any(fnmatch(row, one) for row in frame.iloc[:, 0])]:
            raise unknown("row", missing[0], frame.iloc[:, 0], where=table)
        return self._numbers(table, found, column)

    def _numbers(self, table: str, found: pd.DataFrame, column: str) -> list[float]:
        if column not in found:
            raise unknown("column", column, found.columns, where=table)
        values = pd.to_numeric(found[column], errors="coerce")
        if values.isna().any():
            raise UserError(f"{column} of {found.iloc[values.isna().argmax(), 0]} in {table} is no number")
        return values.tolist()


@cache
def _csv(path: Path, changed: int) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _prose(path: Path) -> str:
    """The text of a page, or the title and notes of an experiment, with what is no prose blanked out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return NO_PROSE.sub(lambda match: re.sub(r"\S", " ", match[0]), text)
    raw = yaml.safe_load(text)
    return "\n\n".join([raw.get("title", ""), *(raw.get("notes") or ())])


def _without(text: str, names: list[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){_words(name)}(?!\w)", lambda match: " " * len(match[0]), text)
    return text


def _words(text: str) -> str:
    """A pattern of these words, wherever lines break; code in them is blank, as in the prose."""
    blank = NO_PROSE.sub(" ", text)
    return r"\s+".join(map(re.escape, blank.split()))


def _table_end(text: str, start: int, end: int) -> int:
    """The end of the Markdown table that begins at `start`, or `end` where none does."""
    if text[start] != "|":
        return end
    rows = re.compile(r"(?:\|[^\n]*\n)+").match(text, start)
    return max(end, rows.end()) if rows else end


def _figures(text: str) -> Iterator[str]:
    return (match[0] for match in FIGURE.finditer(text))


def _figure(text: str) -> float:
    return float(text.replace(",", ""))


def _told(rule: Rule) -> str:
    plain: dict[str, Any] = rule.model_dump(exclude_none=True, by_alias=True, exclude_defaults=True)
    return "; ".join(f"{key}: {value}" for key, value in plain.items())
