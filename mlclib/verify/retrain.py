"""A share of an experiment's runs trained anew, from the images on, and each of their scores compared with what stands.

On the same machine, with the same code, versions and number of threads, a CPU must give the same bits: anything else
contradicts. Elsewhere sums round otherwise, training carries the difference on, and a score ends where another seed
might have ended. Then the question is whether the new score may come from the distribution of the old seeds', and it is
asked twice, since not to find a difference is no proof that there is none:

- equivalence: is the new score's mean less than MARGIN standard deviations of the seeds away from the old ones'? The
  t-test of equivalence with a margin in standard deviations that are estimated too (Wellek, Testing Statistical
  Hypotheses of Equivalence and Noninferiority, 2nd ed. 2010, chapter 6.1), at level LEVEL;
- difference: Student's t of one new score against the old ones, two-sided, at level LEVEL over the number of scores.

Where neither test decides, as often with three seeds, nobody can tell. Each test takes its own configuration's seeds.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from mlclib.common.errors import UserError
from mlclib.results.comparison import all_scores
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study

SAME, CLOSE, NOISE, CONTRADICTED, UNKNOWN = VERDICTS = (
    "same bits",
    "same to float tolerance",
    "within seed noise",
    "contradicted",
    "cannot tell",
)
TOLERANCE = 1e-4  # relative: what golden arrays of the authors are held to
MARGIN = 3.0  # standard deviations of the seeds
LEVEL = 0.05
GROUND = ("code", "versions", "lock", "hardware")  # where these are the same, so are the bits


@dataclass(frozen=True)
class Number:
    """One score of one run, in percent: as it stands and as it came out anew."""

    run: str
    score: str
    before: float
    after: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.run}: {self.score} {self.before:.4f}, trained anew {self.after:.4f}: {self.verdict}"


def drawn(names: Sequence[str], share: float, seed: int) -> list[str]:
    """The runs to train anew: at random, at least one. Raises UserError for a share that is not in 0 to 1."""
    if not 0 < share <= 1:
        raise UserError(f"--retrain takes the share of the runs to train anew, above 0 and up to 1, not {share:g}")
    count = max(1, round(share * len(names)))
    return [names[i] for i in sorted(np.random.default_rng(seed).choice(len(names), count, replace=False))]


def retrained(study: Study, names: Sequence[str]) -> tuple[list[Number], list[str]]:
    """Train these runs of `Study.every_run` in a folder that is dropped again: their scores, and what contradicts.

    Layer maps of a frozen backbone are computed anew too. The folder lies where temporary files do (TMPDIR).
    """
    every, numbers, broken = study.runs, [], []
    with tempfile.TemporaryDirectory(prefix="mlclib-verify-") as folder:
        fresh = Study(study.experiment, study.root, Path(folder))
        for name in names:
            run = every[name]
            others = study.read_all(run.configuration)
            before = next(one for one in others if one.seed == run.seed)
            (after,) = fresh.train_all([fresh.runs[name]])
            found = _compared(name, before, after, others, len(names))
            numbers += found
            if _same_ground(before, after) and any(number.verdict != SAME for number in found):
                broken.append(
                    f"{name}: trained anew on the same machine with the same code and versions it gave other bits, "
                    "where a CPU promises the same"
                )
    return numbers, broken


def verdict(before: float, after: float, seeds: Sequence[float], comparisons: int = 1) -> str:
    """What a score that came out as `after` says of `before`, one of the `seeds`' scores, among so many comparisons."""
    if before == after or (math.isnan(before) and math.isnan(after)):
        return SAME
    if math.isclose(before, after, rel_tol=TOLERANCE):
        return CLOSE
    count = len(seeds)
    if count < 2 or not (spread := float(np.std(seeds, ddof=1))):
        return UNKNOWN
    reach = math.sqrt(1 + 1 / count)
    distance = abs(after - float(np.mean(seeds))) / (spread * reach)
    if distance**2 < stats.ncf.ppf(LEVEL, 1, count - 1, (MARGIN / reach) ** 2):
        return NOISE
    return CONTRADICTED if 2 * stats.t.sf(distance, count - 1) < LEVEL / comparisons else UNKNOWN


def _compared(name: str, before: FinishedRun, after: FinishedRun, seeds: list[FinishedRun], runs: int) -> list[Number]:
    """Every score of the score table, by the logits of the last epoch; runs: how many are compared in all."""
    old, new, each = all_scores(before, "last"), all_scores(after, "last"), [all_scores(run, "last") for run in seeds]
    said = {key: verdict(old[key], new[key], [one[key] for one in each], runs * len(old)) for key in old}
    return [Number(name, key, old[key], new[key], said[key]) for key in old]


def _same_ground(before: FinishedRun, after: FinishedRun) -> bool:
    """Whether both were made where a CPU promises the same bits."""
    same = all(before.about.get(key) == after.about.get(key) for key in GROUND)
    return same and not after.about["hardware"]["gpus"]
