"""Errors that a user can cause and correct."""

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """A mistake the user can mend; its message is one sentence: what, where, what to do."""


def unknown(what: str, name: object, known: Iterable[object], where: str = "") -> UserError:
    """The error for a name that is none of the known ones; `where` is the file or section it stands in.

    >>> print(unknown("model", "msnr", ["dsdl", "msrn"]))
    unknown model 'msnr' (did you mean 'msrn'?); known: dsdl, msrn
    """
    names = sorted(str(one) for one in known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    place = f" in {where}" if where else ""
    return UserError(f"unknown {what} {str(name)!r}{place}{hint}; known: {', '.join(names) or 'none'}")


def some_of(names: Collection[object], shown: int, between: str = ", ") -> str:
    """The first names in a sentence: "a, b and 3 more"."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return between.join(map(str, list(names)[:shown])) + more


def check_name(what: str, name: object, known: Collection[object], where: str = "") -> None:
    """Raise the error of `unknown` for a name that is none of the known ones."""
    if name not in known:
        raise unknown(what, name, known, where)
