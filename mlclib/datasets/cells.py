"""The labels of pictures in the cells of a table: marks such as 1 and 0, or lists in many forms."""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mlclib.common.errors import UserError

Meaning = Literal["present", "absent", "unknown"]
Unknown = Literal["absent", "present", "difficult"]

MANY = 0.1  # the share of unknown cells above which the user must say what they count as
_MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(("1", "true", "yes"), "present"),
    **dict.fromkeys(("0", "false", "no"), "absent"),
}
_CODES = {"present": 1, "absent": -1, "difficult": 0}
_SEPARATORS = {"|": "bars", ";": "semicolons", "\t": "tabs", "\n": "line breaks", ",": "commas", "/": "slashes"}
_SEPARATORS |= {" ": "blanks"}


# Columns of single labels


def _mark(cell: object) -> str:
    """A cell as one of 1, 0, -1, true, ...: without case and decimals."""
    return re.sub(r"\.0+$", "", str(cell)).lower()


def is_mark(cell: object) -> bool:
    """Whether a cell can mark a label as present, absent or unknown."""
    return _mark(cell) in (*_MEANINGS, "-1", "")


def marks(
    path: Path, frame: pd.DataFrame, values: Mapping[str, Meaning], unknown_as: Unknown | None
) -> tuple[np.ndarray, list[str]]:
    """Targets, int8 [N, C], of cells that mark labels, and a note where they are not 1 and 0 alone."""
    cells = frame.map(_mark)
    counts = Counter(cells.to_numpy().ravel().tolist())
    meanings = _default_meanings(path, counts, values) | {_mark(key): value for key, value in values.items()}
    for row, column in np.argwhere(~cells.isin(list(meanings)).to_numpy(bool)):
        raise UserError(
            f"{path}, row {row + 1}, label {frame.columns[column]!r}: expected 1, 0 or -1, got "
            f"{frame.iat[row, column]!r}; correct it, or say what it means, such as "
            f"values: {{{json.dumps(cells.iat[row, column], ensure_ascii=False)}: unknown}}"
        )
    missing = sum(count for mark, count in counts.items() if meanings[mark] == "unknown")
    means = [f"{mark or 'blank'} {meanings[mark]} ({count:,})" for mark, count in sorted(counts.items())]
    note = f"of {cells.size:,} cells of labels were taken: {', '.join(means)}"
    if missing > MANY * cells.size and unknown_as is None:
        swapped = '; or, if 0 means absent, write values: {"-1": unknown, "0": absent}'
        swapped = swapped if "-1" in counts and not values else ""
        raise UserError(
            f"{path}: {note}, so {missing / cells.size:.0%} are unknown; say in the data set's options what they count "
            "as: unknown: absent, or unknown: present, or unknown: difficult (left out of the scores; a model's option "
            f"difficult says how they train){swapped}"
        )
    codes = {**_CODES, "unknown": _CODES[unknown_as or "difficult"]}
    targets = cells.map(lambda mark: codes[meanings[mark]]).to_numpy(np.int8)
    if missing:
        note += f"; {missing:,} ({missing / cells.size:.0%}) unknown, counted as {unknown_as or 'difficult'}"
    return targets, [note] if counts.keys() - _MEANINGS else []


def _default_meanings(path: Path, counts: Mapping[str, int], values: Mapping[str, Meaning]) -> dict[str, Meaning]:
    """What 1, 0, -1 and a blank cell mean together."""
    if "-1" not in counts:  # where no cell says absent, a blank does
        blank = "unknown" if counts.keys() & {"0", "false", "no"} else "absent"
        return {**_MEANINGS, "": blank}
    if "0" in counts and "" in counts and not values:
        raise UserError(
            f"{path}: cells of labels hold 1, 0, -1 and blanks; say in the data set's options what they mean, such as "
            'values: {"0": absent, "-1": unknown, "": absent} (as in CheXpert, where -1 is uncertain)'
        )
    return {**_MEANINGS, "-1": "absent", "": "unknown"} | ({} if values else {"0": "unknown"})


# One column with the labels of each picture


def lists(path: Path, column: str, cells: list, separator: str | None) -> tuple[list[list[str]], str]:
    """The labels of each cell, and how they were read."""
    if any(isinstance(cell, list) for cell in cells):
        return [_flat(cell) for cell in cells], "from lists"
    texts = dict.fromkeys(cell for cell in cells if cell)
    parsed = {text: _parsed(text) for text in texts if text[0] in "[{"}
    if separator is None and any(parsed.values()):
        if broken := [text for text, labels in parsed.items() if labels is None]:
            raise UserError(
                f"{path}, row {cells.index(broken[0]) + 1}, column {column!r}: {broken[0]!r:.80} begins as a list "
                "but cannot be read as one; write it as the others, or a|b everywhere"
            )
        return [_flat(parsed.get(cell, cell)) for cell in cells], "from cells that hold the text of a list"
    separator = separator or _separator(path, column, sorted(texts))
    if separator == "none":
        return [[cell] if cell else [] for cell in cells], "one per image"
    lists = [_parts(cell, separator) for cell in cells]
    labels = {label for names in lists for label in names}
    for row, label in ((row, label) for row, names in enumerate(lists) for label in names):
        where = f"{path}, row {row + 1}, column {column!r}"
        if separator == "," and label[0] in "[{":
            raise UserError(f"{where}: {cells[row]!r} is the text of a list; leave the option separator out")
        for sign in [sign for sign in _SEPARATORS if sign not in (separator, " ")]:
            if len(parts := set(_parts(label, sign))) > 1 and parts <= labels:
                raise UserError(
                    f"{where}: expected {separator!r} between labels, but {sign!r} parts {label!r} into other labels; "
                    f"write {separator!r} there, or rename the label"
                )
    return lists, f"parted by {_SEPARATORS.get(separator, repr(separator))}"


def _separator(path: Path, column: str, cells: list[str]) -> str:
    """The separator of the different cells of a column, "none" where each holds one label."""
    for sign in ("|", ";", "\t", "\n"):  # no label's name holds them
        if any(sign in cell for cell in cells):
            return sign
    for sign, certain in ((",", 1), ("/", None), (" ", 2)):
        lists = [set(_parts(cell, sign)) for cell in cells]
        several = [parts for parts in lists if len(parts) > 1]
        uses = Counter(part for parts in lists for part in parts)
        if not several:
            continue
        # Parts that no other cell holds are the words of one name ("T-shirt/top"). Those that most cells share with
        # another one are labels; two at once where blanks part them, as "stop sign" and "traffic sign" are names.
        shared = [
            max(len(parts & other) for other in lists if other is not parts) for parts in several if len(lists) > 1
        ]
        if certain and sum(count >= certain for count in shared) * 2 >= len(several):
            return sign
        if certain == 1 or max(uses.values()) > 1:
            cell = next(cell for cell in cells if sign in cell)
            raise UserError(
                f"{path}, column {column!r}: {cell!r} may be one label, or several parted by {_SEPARATORS[sign]}; say "
                f"in the data set's options separator: {json.dumps(sign)} or separator: none"
            )
    return "none"


def _parts(cell: str, sign: str) -> list[str]:
    return [part.strip() for part in cell.split(sign) if part.strip()]


def _flat(value: object) -> list[str]:
    """The texts in a list of lists; of a mapping (Label Studio's "choices") those of its lists."""
    if isinstance(value, dict):
        value = [part for part in value.values() if isinstance(part, list)]
    if isinstance(value, list | tuple | set):
        return [text for part in value for text in _flat(part)]
    return [text] if (text := str(value).strip()) else []


def _parsed(cell: str) -> list[str] | None:
    """The labels in the text of a list, as JSON, Python and numpy write it; None where it is none."""
    if not re.search(r"""['"]\s+['"]""", cell):  # Python would join two texts without a comma between them
        for parse in (json.loads, ast.literal_eval):
            try:
                return _flat(parse(cell))
            except (ValueError, SyntaxError):
                continue
    inner = cell[1:-1]
    if cell[0] + cell[-1] != "[]" or set("[]{}") & set(inner):
        return None
    quoted = re.findall(r"""'([^']*)'|"([^"]*)\"""", inner)  # numpy writes ['a' 'b']
    return _flat([one or other for one, other in quoted] or inner.split(","))
