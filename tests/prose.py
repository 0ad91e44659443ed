"""Figures in prose, in the README and in the titles and notes of experiments, that no claim of claims.yaml covers."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from mlclib.common.errors import unknown
from mlclib.verify.claims import FILE, README, Claim, Claims, Given

FIGURE = re.compile(r"(?<![\w.,])(?<![A-Za-z]-)(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?(?:e-?\d++)?(?!_)")
# What a reader takes for no figure: code, comments, targets of links, numbers of papers.
NO_PROSE = re.compile(
    r"<!-- findings:begin -->.*?<!-- findings:end -->|"  # computed, and held by the tables that they are made of
    r"```.*?```|^ {4}.*?$|`[^`]*`|<!--.*?-->|(?<=\])\([^)]*\)|arXiv \d{4}\.\d{5}",
    re.DOTALL | re.MULTILINE,
)


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
