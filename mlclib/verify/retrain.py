"""A share of an experiment's runs, trained again from the images on, and each of their scores compared with the old.

On the same machine, with the same code, versions and number of threads, a CPU must give the same bits. Elsewhere sums
are rounded in another order, and a score ends where another seed might have ended. So two questions are asked of the
seeds of its configuration; where neither is answered, as often with three seeds, the verdict is "cannot tell":

- equivalence: does the new score's mean lie within MARGIN standard deviations of the old seeds' mean? (Wellek, Testing
  Statistical Hypotheses of Equivalence and Noninferiority, 2nd ed. 2010, chapter 6.1; a t-test at LEVEL)
- difference: Student's t of one new score against the old ones, two-sided, at LEVEL over the number of scores.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from mlclib.common.errors import UserError
from mlclib.results.comparison import all_scores
from mlclib.runs.study import Study

TOLERANCE = 1e-4  # relative: the tolerance of the golden arrays of the authors
MARGIN = 3.0  # standard deviations of the seeds
LEVEL = 0.05
GROUND = ("code", "versions", "lock", "hardware")  # where these are the same, so are the bits
SAME, CLOSE, NOISE, CONTRADICTED, UNKNOWN = VERDICTS = (
    "same bits",
    "same to float tolerance",
    f"within seed noise ({MARGIN:g} standard deviations)",
    "contradicted",
    "cannot tell",
)


def drawn(names: Sequence[str], share: float, seed: int) -> list[str]:
    """A random share of the runs, at least one. Raises UserError for a share that is not above 0 and up to 1."""
    if not 0 < share <= 1:
        raise UserError(f"--retrain takes the share of the runs to train anew, above 0 and up to 1, not {share:g}")
    count = max(1, round(share * len(names)))
    return [names[i] for i in sorted(np.random.default_rng(seed).choice(len(names), count, replace=False))]


def retrained(study: Study, names: Sequence[str]) -> dict[str, list[str]]:
    """Train these runs of `Study.runs` in a temporary folder (TMPDIR): verdict -> a sentence for each score.

    The layer maps of a frozen backbone are computed again too.
    """
    sentences = {verdict: [] for verdict in VERDICTS}
    with tempfile.TemporaryDirectory(prefix="mlclib-verify-") as folder:
        fresh = Study(study.experiment, study.root, Path(folder))
        for name in names:
            seed = study.runs[name].seed
            seeds = {one.seed: one for one in study.finished(study.runs[name].configuration)}
            fresh.train_all([fresh.runs[name]])
            again = fresh.read(fresh.runs[name])
            old, new = {k: all_scores(one, "last") for k, one in seeds.items()}, all_scores(again, "last")
            for key, after in new.items():
                before, each = old[seed][key], [scores[key] for scores in old.values()]
                outcome = verdict(before, after, each, len(names) * len(new))
                sentences[outcome].append(f"{name}: {key} {before:.4f}, trained anew {after:.4f}: {outcome}")
            same_ground = all(seeds[seed].about.get(key) == again.about.get(key) for key in GROUND)
            if same_ground and not again.about["hardware"]["gpus"] and old[seed] != new:
                sentences[CONTRADICTED].append(f"{name}: trained anew on the same machine it gave other bits")
    return sentences


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
