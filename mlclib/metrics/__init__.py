"""Scores of predictions, how sure they are, and whether two models differ."""

from mlclib.metrics.scores import best_threshold, evaluate, examples, labels_with, ranking

__all__ = ["best_threshold", "evaluate", "examples", "labels_with", "ranking"]
