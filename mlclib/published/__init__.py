"""The figures that papers and repositories state, with their sources, and what is odd about them."""

from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mlclib.common.errors import unknown

TABLES = ("voc2007", "voc2012", "coco2014", "corel5k", "summary")


class Finding(NamedTuple):
    """Something odd in one published row; the sentence is fit for a footnote."""

    table: str
    method: str
    sentence: str


def load(name: str) -> pd.DataFrame:
    """The published rows of the table `name`, figures in percent, a figure nobody states NaN.

    "voc2007" and "voc2012" hold the AP of each class and mAP; "coco2014" mAP and CP, CR, CF1, OP, OR, OF1, over all
    labels and over the top three (suffix "-3"); "corel5k" P, R, F1 and N+ of five words an image; "summary" one mAP a
    row, with data set, backbone, input size and pretraining. The column `source` says where each row stands, `protocol`
    what is known of how it was scored (NaN: nothing). Raises UserError for another name.
    """
    if name not in TABLES:
        raise unknown("published table", name, TABLES)
    return pd.read_csv(Path(__file__).parent / f"{name}.csv")


def oddities(tables: dict[str, pd.DataFrame] | None = None) -> list[Finding]:
    """What in the published rows cannot be right, sorted by table, method and sentence.

    Found are rows whose figures stand in another row too, a mAP that is not the mean of its row's APs, and an F1 that
    is not the harmonic mean of its precision and recall; each only where rounding of all figures to one decimal
    cannot be the reason. `tables` are those shipped unless given, by name.
    """
    tables = {name: load(name) for name in TABLES} if tables is None else tables
    found = _repeated(tables)
    for name, table in tables.items():
        for row in table.to_dict("records"):
            found += [Finding(name, row["method"], text) for text in [*_wrong_mean(row), *_wrong_f1(row)]]
    return sorted(found)


_ROUNDING = 0.05 + 1e-9  # how far a figure of one decimal may lie from what was measured
_F1S = [(kind + "P" + top, kind + "R" + top, kind + "F1" + top) for kind in "CO" for top in ("", "-3")]


_NO_FIGURES = {"method", "backbone", "pretraining", "input_size", "dataset", "protocol", "source"}


def _figures(row: dict) -> dict[str, float]:
    """The figures a row states."""
    return {key: value for key, value in row.items() if key not in _NO_FIGURES and not pd.isna(value)}


def _repeated(tables: dict[str, pd.DataFrame]) -> list[Finding]:
    rows = [(name, row["method"], _figures(row)) for name, table in tables.items() for row in table.to_dict("records")]
    return [
        Finding(table, method, f"all {len(figures)} figures are those of {first_method} in {first_table}")
        for (first_table, first_method, first), (table, method, figures) in combinations(rows, 2)
        if len(figures) > 1 and figures == first
    ]


def _wrong_mean(row: dict) -> list[str]:
    no_aps = {"mAP", *_NO_FIGURES, *(column for columns in _F1S for column in columns)}
    stated, aps = row.get("mAP"), [value for key, value in row.items() if key not in no_aps]
    if pd.isna([stated, *aps]).any() or not aps:
        return []
    # the mean of rounded figures lies within one rounding of the true mean, which the stated one rounds again
    mean = sum(aps) / len(aps)
    if abs(stated - mean) <= 2 * _ROUNDING:
        return []
    return [f"mAP is stated as {stated} but the mean of the {len(aps)} APs is {mean:.2f}"]


def _wrong_f1(row: dict) -> list[str]:
    figures, found = _figures(row), []
    for precision, recall, f1 in _F1S:
        if not {precision, recall, f1} <= figures.keys():
            continue
        p, r, stated = figures[precision], figures[recall], figures[f1]
        low, high = (2 * (p + e) * (r + e) / (p + r + 2 * e) + e for e in (-_ROUNDING, _ROUNDING))
        if not low <= stated <= high:
            harmonic = 2 * p * r / (p + r)
            found.append(f"{f1} is stated as {stated} but {precision} {p} and {recall} {r} give {harmonic:.2f}")
    return found
