"""Sentences with figures, held to the tables that they rest on (claims.yaml).

A claim is a piece of a text, and rules over cells of tables that must hold as long as the text stands. Every figure in
the README's prose, and in the titles and notes of experiments, must lie in a claim that makes use of it, or among the
`given` figures, which rest on no table and say on what instead (tests/prose.py holds it). A figure is a number in
digits, but not in code, in a link's target, or in a name (`names`: "VOC 2007"). `tables` gives CSV files, by their path
from the repository's root, the names that rules call them by.

A rule takes one quantity and states what it is:

    cell: [table, row, column]        difference: [cell, cell]        count: table (its rows)
    least, most: [table, [patterns of rows], column]                  order: [cell, cell, ...], falling
    is (to the decimals that it is written with), at least, at most, between: [low, high]; times: a factor before

A row is told by its first cell, or a list of its first cells; patterns are as of file names ("layers *").
"""

import math
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlclib.common.errors import UserError, unknown
from mlclib.common.validation import validation_message

FILE = Path("claims.yaml")
README = "README.md"

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
        raise UserError(f"{'.'.join(map(str, error['loc']))} of {path} {validation_message(error)}") from None


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


def _told(rule: Rule) -> str:
    plain: dict[str, Any] = rule.model_dump(exclude_none=True, by_alias=True, exclude_defaults=True)
    return "; ".join(f"{key}: {value}" for key, value in plain.items())
