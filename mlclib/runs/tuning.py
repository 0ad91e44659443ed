"""Equal tuning effort for all models of an experiment (its key `tuning`): trials, their score, the settings chosen.

Every model has the same number of trials, and each is an ordinary run. The first is the configuration as it stands in
the file. The settings of the others are points of two scrambled Sobol sequences (Owen, J. Complexity 14, 1998). One is
over the ranges that all models share, and its points are the same for every model; the other is over the model's own
ranges. So trial n is a function of the tuning's seed, the ranges, the model and n alone: all are known before anything
ran, in any order and on any machine. scipy draws them. Optuna's QMCSampler calls the same generator, but leaves lists
of values out of the sequence, and keeps its place in it in a storage that trials share.

A trial is scored by mAP on the validation images alone, after Musgrave, Belongie and Lim, A Metric Learning Reality
Check, ECCV 2020: the same search for every method, and nothing chosen on the test set.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.special import comb

from mlclib import config
from mlclib.common.files import write_text
from mlclib.config import Experiment, Range, RunConfig
from mlclib.metrics import scores as metrics
from mlclib.runs.store import FinishedRun

Trials = dict[str, list[list[FinishedRun]]]  # model -> trials in order -> one run per seed, on validation images


def trials(experiment: Experiment, model: str) -> list[RunConfig]:
    """The configurations of the model's trials, each another; the first is that of the file.

    Raises UserError for settings that do not go together.
    """
    from scipy.stats import qmc  # here, as it takes long and most experiments do without

    ranges, seed = experiment.ranges(model), experiment.tuning.seed
    shared, own = (sorted(experiment.tuning.ranges.get(owner, {})) for owner in ("*", model))
    sequences = [
        (keys, qmc.Sobol(len(keys), rng=np.random.default_rng(start)))
        for keys, start in ((shared, [seed]), (own, [seed, *model.encode()]))
        if keys
    ]
    trials, identities = [experiment.run_config(model)], [experiment.run_config(model).identity()]
    while len(trials) < experiment.tuning.trials:
        shares: dict[str, float] = {}  # a model's own draws are laid over the shared ones
        for keys, points in sequences:
            shares |= dict(zip(keys, points.random(1)[0], strict=True))
        run = experiment.changed(model, {key: _at(values, shares[key]) for key, values in ranges.items()})
        if (identity := run.identity()) not in identities:
            trials.append(run)
            identities.append(identity)
    return trials


def score(runs: list[FinishedRun]) -> float:
    """The validation mAP of one trial in percent, mean over its seeds, of the last epoch's logits."""
    return float(np.mean([100 * metrics.evaluate(run.logits["last"], run.targets)["mAP"] for run in runs]))


def scores(trials: Trials) -> dict[str, np.ndarray]:
    """`score` of every trial, by model."""
    return {model: np.array([score(runs) for runs in each]) for model, each in trials.items()}


def expected_best(scores: np.ndarray) -> np.ndarray:
    """What the best of k of these n trials scores on average over all choices of k trials, k = 1..n.

    After Dodge et al., Show Your Work, EMNLP 2019, but drawn without replacement, which is unbiased (Tang et al.,
    Showing Your Work Doesn't Always Work, ACL 2020): of all choices of k, the i-th lowest score is the best in
    comb(i - 1, k - 1).
    """
    count = len(scores)
    k, rank = np.arange(1, count + 1)[:, None], np.arange(1, count + 1)
    return (comb(rank - 1, k - 1) @ np.sort(scores)) / comb(count, k[:, 0])


def settings(experiment: Experiment, model: str, trial: int) -> dict[str, Any]:
    """What a trial of the model sets of all that is tuned: "training.learning_rate" -> value, ..."""
    identity = trials(experiment, model)[trial].identity()
    parts = {name: name.partition(".") for name in experiment.ranges(model)}
    return {name: identity[part][key] for name, (part, _, key) in parts.items()}


def overlay(experiment: Experiment, trials: Trials) -> str:
    """The settings of each model's best trial as YAML that an experiment includes.

    The first of equals is the best. A comment says what made it, and each model's validation mAP.
    """
    lines = [
        f"# Written by `make reproduce EXPERIMENT={experiment.name}` (07_tuning): of {experiment.tuning.trials} trials "
        "of each model",
        "# the one with the highest mAP on the validation images of the data set.",
        "models:",
    ]
    for model, values in scores(trials).items():
        best = int(values.argmax())
        own: dict[str, dict[str, Any]] = {}
        for name, value in settings(experiment, model, best).items():
            part, _, key = name.partition(".")
            own.setdefault(part, {})[key] = value
        lines.append(f"  # trial {best}: validation mAP {values[best]:.2f}, by the file's settings {values[0]:.2f}")
        text = yaml.safe_dump({model: own}, sort_keys=False, width=110, default_flow_style=None)
        lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def write(experiment: Experiment, trials: Trials, name: str) -> Path:
    """Write `overlay` beside the YAML file of the experiment, `name` as `config.load` was given it; where that is."""
    path = config.file_of(name).with_name(f"{config.TUNED}{experiment.name}.yaml")
    write_text(path, overlay(experiment, trials))
    return path


def _at(values: list[Any] | Range, share: float) -> Any:
    """The value that lies at `share`, from 0 to below 1, of a list or range; of a range with three digits."""
    if isinstance(values, list):
        return values[int(share * len(values))]
    low, high = values.low, values.high
    drawn = low * (high / low) ** share if values.log else low + share * (high - low)
    return float(np.clip(float(f"{drawn:.3g}"), low, high))
