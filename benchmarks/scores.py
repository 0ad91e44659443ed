"""How fast the scores of a COCO-size test set are computed: `python -m benchmarks.scores`.

Ratios to scikit-learn and to a plain loop over images, in one process and one run, correctness first.
"""

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks import report
from mlclib.metrics import scores as metrics

IMAGES, LABELS, SHARE = 40_137, 80, 0.036  # COCO 2014 val, and the share of its labels that is present


def seconds(function: Callable[[], object], runs: int = 3) -> float:
    """The shortest of some runs, in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def loop(scores: np.ndarray, targets: np.ndarray) -> float:
    """The AP of one label, image by image in the order of their scores, as the published meters compute it."""
    hits, total = 0, 0.0
    for rank, image in enumerate(np.argsort(-scores, kind="stable"), start=1):
        if targets[image] == 1:
            hits += 1
            total += hits / rank
    return total / hits


def main() -> None:
    generator = np.random.default_rng(0)
    targets = np.where(generator.random((IMAGES, LABELS)) < SHARE, 1, -1).astype(np.int8)
    logits = (generator.standard_normal(targets.shape) + targets).astype(np.float32)

    def scikit() -> list[float]:
        return [average_precision_score(targets[:, label] == 1, logits[:, label]) for label in range(LABELS)]

    def plain() -> list[float]:
        return [loop(logits[:, label], targets[:, label]) for label in range(LABELS)]

    ours = metrics.evaluate(logits, targets)["AP"]
    np.testing.assert_allclose(ours, scikit(), rtol=1e-9)
    np.testing.assert_allclose(ours, plain(), rtol=1e-5)  # a loop does not group the few ties
    size = f"{IMAGES:,} x {LABELS}"
    own = seconds(lambda: metrics.evaluate(logits, targets))
    rows = [
        ("scores: evaluate", own, "s", f"AP, mAP and all F1 scores, {size}"),
        ("scores: evaluate, top 3", seconds(lambda: metrics.evaluate(logits, targets, top=3)), "s", size),
        (
            "scores: ranking",
            seconds(lambda: metrics.ranking(logits, targets)),
            "s",
            f"coverage, LRAP, loss, AUC, {size}",
        ),
        ("scores: evaluate, sweep", seconds(lambda: metrics.evaluate(logits, targets, threshold="sweep")), "s", size),
        ("scores: scikit-learn's AP", seconds(scikit, 1) / own, "times ours", f"AP alone, {size}"),
        ("scores: plain loop's AP", seconds(plain, 1) / own, "times ours", f"AP alone, image by image, {size}"),
    ]
    print(report.write([dict(zip(report.COLUMNS, row, strict=True)) for row in rows]))


if __name__ == "__main__":
    main()
