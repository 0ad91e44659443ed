"""Errors that a user can cause and correct."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any


class UserError(Exception):
    """A mistake the user can mend; its message is one sentence: what, where, what to do."""


def unknown(what: str, name: object, known: Iterable[object], where: str = "") -> UserError:
    """The error for a name that is none of the known ones; `where` is the file or section it stands in."""
    known = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    place = f" in {where}" if where else ""
    return UserError(f"unknown {what} {str(name)!r}{place}{hint}; known: {', '.join(known) or 'none'}")


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
}


def misfit(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, as the end of a sentence, of one of the errors() of pydantic's ValidationError."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    wanted = WANTED.get(error["type"])
    told = f"must {wanted}" if wanted else re.sub(r"^\w+ should", "must", error["msg"])
    return f"{told}, not {error['input']!r:.80}"


def choices(error: Mapping[str, Any]) -> list[str]:
    """The values that one of the errors() of pydantic's ValidationError would have allowed."""
    return re.findall(r"'([^']+)'", error["ctx"]["expected"])
