"""Errors that a user can cause and correct."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend; its message is one sentence: what, where, what to do."""


def unknown(what: str, name: object, known: Iterable[object], where: str = "") -> UserError:
    """The error for a name that is none of the known ones; `where` is the file or section it stands in."""
    known = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    place = f" in {where}" if where else ""
    return UserError(f"unknown {what} {str(name)!r}{place}{hint}; known: {', '.join(known) or 'none'}")
