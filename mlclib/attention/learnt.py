"""What a trained model has learnt about its labels: embeddings, what is near to what, groups."""

from collections.abc import Sequence

import numpy as np
import torch

from mlclib.models.base import Classifier


def embeddings(model: Classifier) -> tuple[np.ndarray | None, np.ndarray]:
    """The labels' vectors before training [C, V] (None for a model that starts without) and as learnt [C, D]."""
    with torch.no_grad():
        before, after = model.embeddings()
    return None if before is None else before.detach().numpy(), after.detach().numpy()


def similarity(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarity [C, C] of the rows of `vectors`."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return unit @ unit.T


def nearest(vectors: np.ndarray, labels: Sequence[str], count: int = 3) -> list[str]:
    """For each label the `count` labels of highest cosine similarity, with the similarity in brackets."""
    values = similarity(vectors) - 3 * np.eye(len(labels))
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return [", ".join(f"{labels[j]} ({values[i, j]:.2f})" for j in row) for i, row in enumerate(order)]


def assignment(model: Classifier) -> np.ndarray:
    """The soft assignment of labels to groups [C, G]; G is 0 for a model without groups."""
    with torch.no_grad():
        return model.assignment().numpy()
