"""Whether a probability can be believed: of the labels given 0.8, are 80 of 100 present?

Every cell of an image and a label is one prediction of its own, the sigmoid of its logit; difficult cells are left out.
Logits, targets and their shapes are those of metrics/scores.py.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit

from mlclib.common.errors import UserError
from mlclib.metrics.scores import checked, mean_defined

BINS = 15  # as in Guo et al.
HIGHEST = 100.0  # temperatures from its inverse to itself are tried


def reliability(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> pd.DataFrame:
    """One row for each of BINS bins of equal width of the probability: count of cells, their mean probability, and the
    share of them that are present; NaN in an empty bin. Bin m holds probabilities in ((m - 1) / BINS, m / BINS].

    Example:
        >>> reliability(np.array([[0.0], [0.1], [9.0]]), np.array([[1], [-1], [1]])).loc[[7, 14], "present"].tolist()
        [0.5, 1.0]
    """
    logits, targets = checked(logits, targets, "ignore")
    counted = targets != 0
    probability = np.exp(-np.logaddexp(0, -logits[counted].astype(np.float64) / temperature))
    bins = _bins(probability)
    count, sums, hits = (np.bincount(bins, weights, BINS) for weights in (None, probability, targets[counted] == 1))
    filled = np.where(count > 0, count, np.nan)
    return pd.DataFrame({"count": count, "probability": sums / filled, "present": hits / filled})


def expected_error(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> float:
    """Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3) of the
    probability that a label is present, over all cells: the mean over cells of |share present - mean probability| of
    their bin. A fraction; NaN where no cell is known.

    Example:
        >>> round(expected_error(np.zeros((4, 1)), np.array([[1], [1], [1], [-1]])), 3)
        0.25
    """
    bins = reliability(logits, targets, temperature)
    gaps = (bins["present"] - bins["probability"]).abs() * bins["count"]
    return float(gaps.sum() / bins["count"].sum()) if bins["count"].any() else float("nan")


def expected_error_by_label(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """`expected_error` of each label by itself, [C]; NaN where no cell of it is known.

    Example:
        >>> expected_error_by_label(np.zeros((2, 2)), np.array([[1, 0], [-1, 0]])).tolist()
        [0.0, nan]
    """
    columns = range(np.shape(logits)[1])
    return np.array([expected_error(logits[:, [c]], targets[:, [c]], temperature) for c in columns])


def log_loss(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> float:
    """Mean over the cells of the negative log-likelihood of the target, in nats; NaN where no cell is known.

    Example:
        >>> round(log_loss(np.zeros((2, 1)), np.array([[1], [-1]])), 3)
        0.693
    """
    margins = _margins(logits, targets)
    return float(np.logaddexp(0, -margins / temperature).mean()) if margins.size else float("nan")


def brier_score(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> float:
    """Mean over the cells of the squared distance from the probability to 1 where the label is present, to 0 where it
    is absent (Brier, Monthly Weather Review 78, 1950); NaN where no cell is known.

    Example:
        >>> brier_score(np.zeros((2, 1)), np.array([[1], [-1]]))
        0.25
    """
    margins = _margins(logits, targets)
    return float((expit(-margins / temperature) ** 2).mean()) if margins.size else float("nan")


class Floor(NamedTuple):
    """The mean over labels of `expected_error` that a calibrated model would have by chance alone: its mean, and the
    value that only one of 20 test sets would exceed.
    """

    mean: float
    high: float


def error_floor(
    logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0, *, draws: int = 200, seed: int = 0
) -> Floor:
    """What `expected_error_by_label` would be, in the mean over the labels, if the probabilities were right.

    Labels are drawn `draws` times from the model's own probabilities. With few cells in a bin even a calibrated model
    has an error above 0. Only what lies above `high` is evidence of miscalibration.

    Example:
        >>> error_floor(np.zeros((400, 2)), np.ones((400, 2), int)).high < 0.05
        True
    """
    logits, targets = checked(logits, targets, "ignore")
    rng, errors = np.random.default_rng(seed), []
    for column, target in zip(logits.T, targets.T, strict=True):
        probability = expit(column[target != 0].astype(np.float64) / temperature)
        bins = _bins(probability)
        members = (bins == np.arange(BINS)[:, None]).astype(np.float64)
        surplus = members @ ((rng.random((probability.size, draws)) < probability[:, None]) - probability[:, None])
        errors.append(np.abs(surplus).sum(axis=0) / (probability.size or np.nan))
    means = mean_defined(np.transpose(errors))
    return Floor(float(means.mean()), float(np.quantile(means, 0.95)))


def fitted_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature T that minimises `log_loss` of logits / T (temperature scaling, Guo et al., section 4.2).

    Fit it on a validation part: on the test part it would flatter. It changes no ranking and no decision at logit 0.
    Raises UserError where no known cell is wrong at logit 0: then no T is too small.

    Example:
        >>> round(fitted_temperature(np.array([[2.0], [2.0], [2.0], [2.0]]), np.array([[1], [1], [1], [-1]])), 2)
        1.82
    """
    margins = _margins(logits, targets)
    if not (margins < 0).any():
        raise UserError(
            "no temperature can be fitted where no label is wrong at logit 0: every smaller one fits better"
        )
    reach = np.log(HIGHEST)
    best = minimize_scalar(
        lambda log: np.logaddexp(0, -margins / np.exp(log)).mean(),
        bounds=(-reach, reach),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(best.x))


def _bins(probability: np.ndarray) -> np.ndarray:
    """The number of the bin of each probability, from 0."""
    return np.clip(np.ceil(probability * BINS).astype(int) - 1, 0, BINS - 1)


def _margins(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Logits of the cells that are known, flat, with the sign turned where the label is absent."""
    logits, targets = checked(logits, targets, "ignore")
    return (logits * targets)[targets != 0].astype(np.float64)
