"""What the runs say (05_tables), in three to five sentences that are made of the tables, so that they change with them.

A sentence that has nothing to rest on (no baseline, no ablation, a single model) is left out.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mlclib.common.files import write_text
from mlclib.metrics.pairwise import ALPHA, BETTER, EQUIVALENT, POWER, UNKNOWN, WORSE, Pair
from mlclib.results import captions, leaderboard, protocols
from mlclib.results.ablation import ALL_AXES, DELTA
from mlclib.results.comparison import BASELINE, all_scores, bootstrap, over_seeds
from mlclib.results.leaderboard import MARGIN, PairwiseComparison
from mlclib.results.table import Table

TITLE = "What the runs say"
# The choices of the protocol audit that can change an order by mAP.
RANKING = tuple(one for one in protocols.CHOICES if "mAP" in one.moves and "threshold" not in one.protocol)


def sentences(found: PairwiseComparison, ablations: Mapping[str, Table]) -> list[str]:
    """The findings of an experiment. ablations: model -> the table of all its variants, `ablation.every`'s first."""
    if not found.models:
        return [top(found)]
    said = [top(found), _baseline(found), _matters(ablations)]
    return list(filter(None, [*said, _untold(found), _turned(found)]))


def ablations(found: Mapping[str, Table]) -> str:
    """In a sentence: which variants differ from their full model, by the tables that `sentences` takes."""
    return _matters(found) or "No variant of a model is trained here."


def write(folder: str | Path, said: Iterable[str], selection: str = "last") -> str:
    """Write findings.md into `folder`, whole or not at all; its text, in Markdown."""
    listed = "\n".join(f"- {sentence}" for sentence in said)
    text = (
        f"**{TITLE}.**\n\n{listed}\n\n"
        "Each sentence is computed from the tables of the leaderboard, its pairs, the ablations and the protocols.\n"
    )
    write_text(Path(folder) / f"{captions.file_stem('findings', selection)}.md", text)
    return text


def top(found: PairwiseComparison) -> str:
    """The highest model, and whether others are tied with it."""
    if not found.models:
        return "No model has a mAP here: the labels of the test images are not public, or no such epoch is kept."
    mean, _ = over_seeds(found.models, found.selection, all_scores)
    best, *others = found.names
    low, high = (f"{100 * bound:.1f}" for bound in bootstrap(found.models[best], found.selection))
    first = f"{best} has the highest mAP on {captions.data_name(found.models)}, {mean['mAP'][best]:.1f} %"
    first = f"{first} (95 % interval {low} to {high})"
    if not others:
        return f"{first}; no other model is scored here."
    ours = {verdict: _against(found, 0, verdict) for verdict in (BETTER, EQUIVALENT, UNKNOWN)}
    if len(ours[BETTER]) == len(others):
        return f"{first}, and is shown to be better than {others[0] if len(others) == 1 else 'every other model'}."
    told = [
        f"is shown to be better than {_listed(ours[BETTER])}" if ours[BETTER] else "",
        f"is equivalent to {_listed(ours[EQUIVALENT])} within {MARGIN:g} point" if ours[EQUIVALENT] else "",
        f"cannot be told from {_listed(ours[UNKNOWN])}" if ours[UNKNOWN] else "",
    ]
    return f"{first}; it {_listed(filter(None, told))}."


def _baseline(found: PairwiseComparison) -> str:
    """Whether any model is above the strong linear baseline."""
    if BASELINE not in found.names or len(found.names) < 2:
        return ""
    at = found.names.index(BASELINE)
    above = [pair for pair in found.pairs if pair.b == at and pair.verdict == BETTER]
    named = [f"{found.names[pair.a]} ({_points(*100 * np.array(pair.difference[:3]))})" for pair in above]
    first = f"Shown to be above the {BASELINE} baseline: {_listed(named) or 'no model'}"
    parts = {
        "below it": _against(found, at, BETTER),
        f"equivalent within {MARGIN:g} point": _against(found, at, EQUIVALENT),
        "not to be told from it": _against(found, at, UNKNOWN),
    }
    return "; ".join([first, *(f"{words}: {_listed(names)}" for words, names in parts.items() if names)]) + "."


def _matters(ablations: Mapping[str, Table]) -> str:
    """How many of all variants differ from their full model, and which differs most."""
    frames = {model: table.frame for model, table in ablations.items()}
    named = {
        model: frame.set_axis(
            frame.iloc[:, 0] if frame.columns[0] == ALL_AXES else f"{frame.columns[0]} " + frame.iloc[:, 0].astype(str)
        )
        for model, frame in frames.items()
        if frame["q"].notna().any()
    }
    if not named:
        return ""
    known = pd.concat(named).query("q.notna()")
    shown = known[known["q"] < ALPHA]
    variants = f"{len(known)} variant{'s' if len(known) > 1 else ''} of {_listed(named)}"
    differ = f"{len(shown) or 'none'} {'differ' if len(shown) > 1 else 'differs'}"
    first = f"Of {variants}, {differ} from the full model (q < {ALPHA:g})"
    if shown.empty:
        return f"{first}."
    row = shown.loc[shown[DELTA].abs().idxmax()]
    return f"{first}, most of all {' with '.join(row.name)}: {_points(row[DELTA], row['Δ low'], row['Δ high'])}."


def _untold(found: PairwiseComparison) -> str:
    """How many pairs are told apart, and the gaps that can be."""
    if not found.pairs:
        return ""
    verdicts = [pair.verdict for pair in found.pairs]
    told = sum(verdict in (BETTER, WORSE) for verdict in verdicts)
    gaps = sorted(100 * pair.parts.smallest_gap for pair in found.pairs)
    shown = f"{gaps[0]:.1f} points" if len(gaps) == 1 else f"{gaps[0]:.1f} to {gaps[-1]:.1f} points, by the pair"
    said = (
        f"Of {len(verdicts)} pairs of models this test set tells {told} apart, shows {verdicts.count(EQUIVALENT)} "
        f"equivalent within {MARGIN:g} point and cannot tell {verdicts.count(UNKNOWN)}; to be shown with "
        f"{100 * POWER:.0f} % power a gap must be {shown}."
    )
    top = next(pair for pair in found.pairs if (pair.a, pair.b) == (0, 1))
    return f"{said} {_needed(found, top)}" if top.verdict == UNKNOWN else said


def _needed(found: PairwiseComparison, pair: Pair) -> str:
    """What it would take to tell a pair apart."""
    gap, here = pair.difference.delta, len(found.models[found.names[0]][0].names)
    needed = {"images": pair.parts.images_needed(gap, here), "seeds": pair.parts.seeds_needed(gap)}
    what = f"the {100 * gap:.1f} points of {leaderboard.title(found.names[pair.a], found.names[pair.b])}"
    enough = [
        f"{number:,.0f} {name.removesuffix('s') if number == 1 else name}"
        for name, number in needed.items()
        if np.isfinite(number)
    ]
    never = [f"more {name} alone" for name, number in needed.items() if np.isinf(number)]
    if not enough:
        return f"No number of {_listed(needed, 'or')} alone would show {what}."
    return f"To show {what} would take {_listed(enough, 'or')}{f'; {never[0]} would not do' if never else ''}."


def _turned(found: PairwiseComparison) -> str:
    """Whether a choice of protocol turns a pair that is told apart, or puts a model first that is only tied."""
    if found.selection != "last" or not found.pairs:
        return ""
    frame = protocols.audit(found.models, RANKING).query("score == 'mAP'")
    scores = frame.groupby(["kind", "choice", "model"], sort=False)["value"].mean().unstack("model")
    scores = scores.drop(index=protocols.DEFAULT.kind, level="kind")[found.names].dropna()
    kinds = _listed(dict.fromkeys(scores.index.get_level_values("kind")), "or")
    turned, first = [], {}
    for (kind, choice), row in scores.iterrows():
        values = row.to_numpy()
        pairs = np.argwhere(found.better & (values[:, None] < values))
        if len(pairs):
            names = [leaderboard.title(found.names[high], found.names[low]) for high, low in pairs]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            turned.append(f"{', '.join(names[:3])}{more} ({kind}: {choice})")
        if values.max() > values[0]:
            first.setdefault(row.idxmax(), []).append(f"{kind}: {choice}")
    said = f"Turned by a choice of protocol, of the pairs that are told apart: {_listed(turned)}"
    said = said if turned else f"No choice of protocol ({kinds}) turns a pair that is told apart"
    others = [f"{model} ({'; '.join(choices)})" for model, choices in first.items()]
    return f"{said}; another model comes first by some: {_listed(others)}." if others else f"{said}."


def _against(found: PairwiseComparison, at: int, verdict: str) -> list[str]:
    """The models that have this verdict against model number `at`, which stands above those it is BETTER than."""
    pairs = [pair for pair in found.pairs if pair.verdict == verdict and at in (pair.a, pair.b)]
    if verdict == BETTER:
        pairs = [pair for pair in pairs if pair.a == at]
    return [found.names[pair.b if pair.a == at else pair.a] for pair in pairs]


def _points(delta: float, low: float, high: float) -> str:
    return f"{delta:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}".replace("-", "−")


def _listed(names: Iterable[str], last: str = "and") -> str:
    names = list(names)
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
