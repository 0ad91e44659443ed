"""One door for every configuration: plain values as an instance of an annotated dataclass, or one clear sentence.

Options of models, losses, data sets and experiments are dataclasses whose fields carry pydantic's annotations; what
holds between several fields is a ValueError of `__post_init__`.
"""

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlclib.common.errors import UserError, unknown

WANTED = {
    "string_type": "be a text (put it in quotes)",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "finite_number": "be a finite number",
    "bool_type": "be true or false",
    "tuple_type": "be a list",
    "list_type": "be a list",
    "dict_type": "be a mapping of keys to values",
    "dataclass_type": "be a mapping of keys to values",
    "too_short": "hold one or more",
    "string_too_short": "hold some letters",
    "string_pattern_mismatch": "be a name without slash and blank",
}

# Keys that experiment files had under another name.
RENAMED = {
    "watch_test": "eval_test_each_epoch",
    "scored": "n_localisation",
    "tried": "n_faithfulness",
}

_adapter = functools.cache(TypeAdapter)


class Strict:
    """Base of the dataclasses: no other keys, and no value is turned into another type."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def validated(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """`values` as an instance of the dataclass `kind`.

    where: the file or part that they stand in. Raises UserError, one sentence, for an unknown key (naming the nearest),
    a missing one, and a value of a wrong type or range.
    """
    try:
        # As JSON: a list may stand for a tuple and a mapping for a dataclass, and nothing else is converted.
        return _adapter(kind).validate_json(json.dumps(values, default=_plain))
    except UserError as error:  # of a validator of ours
        raise UserError(f"{where}: {error}") from None
    except ValidationError as errors:
        every = errors.errors()  # a key that is misspelt is also one that is missing
        error = next((one for one in every if one["type"] == "unexpected_keyword_argument"), every[0])
    path = [str(part) for part in error["loc"] if part != "[key]"]
    if not path:
        raise UserError(f"{where}: {validation_message(error)}")
    *parents, last = path
    place = f"{'.'.join(parents)} of {where}" if parents else where
    if error["type"] == "missing":
        raise UserError(f"{place} lacks the key {last!r}; add it")
    if error["type"] == "unexpected_keyword_argument":
        if last in RENAMED:
            raise UserError(f"the key {last!r} in {place} is called {RENAMED[last]!r} now: rename it")
        fields = dataclasses.fields(functools.reduce(_inner, error["loc"][:-1], kind))
        raise unknown("key", last, [field.name for field in fields if field.init], where=place)
    if error["type"] == "literal_error":  # of a list the part that is wrong has a number for its name
        what = f"value of {parents[-1]}" if last.isdigit() else last
        expected = error["ctx"]["expected"]
        choices = re.findall(r"'([^']+)'", expected) or re.findall(r"\d+", expected)
        raise unknown(what, error["input"], choices, where=place)
    message = validation_message(error)
    raise UserError(f"{'.'.join(path)} of {where}{' ' if message.startswith('must') else ': '}{message}")


def validation_message(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, as the end of a sentence, of one of the errors() of pydantic's ValidationError."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    wanted = WANTED.get(error["type"])
    demand = f"must {wanted}" if wanted else re.sub(r"^\w+ should", "must", error["msg"])
    return f"{demand}, not {error['input']!r:.80}"


def _plain(value: Any) -> Any:
    """A numpy number as Python's; anything else as its text."""
    return value.item() if hasattr(value, "item") else str(value)


def _inner(kind: Any, part: str | int) -> Any:
    """The type of the part `part` (a key, an index) of values of the type `kind`."""
    if dataclasses.is_dataclass(kind):
        kind = typing.get_type_hints(kind)[part]
    else:
        members = typing.get_args(kind)
        kind = members[1] if typing.get_origin(kind) is dict else members[0]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(one for one in typing.get_args(kind) if dataclasses.is_dataclass(one))
    return kind
