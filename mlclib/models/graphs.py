"""The label graph that ML-GCN introduced and MSRN took over."""

import torch
from torch import Tensor

from mlclib.common.errors import UserError

GRAPHS = ("cooccurrence", "identity", "random")


def check_threshold(threshold: float) -> None:
    """Raise UserError for a threshold that no probability lies about."""
    if not 0 <= threshold <= 1:
        raise UserError(f"graph_threshold is {threshold}; give a probability, 0 to 1")


def adjacency(counts: Tensor, totals: Tensor, graph: str, threshold: float) -> Tensor:
    """The normalised label graph A^ [C, C] of co-occurrence counts [C, C] and label counts [C] (ML-GCN, CVPR 2019).

    P(j|i) = counts[i, j] / totals[i] (0 for a label without images), 1 where it reaches the threshold and 0 elsewhere,
    scaled by 0.25 / (column sum + 1e-6), plus I; A^ = (A Q)^T Q with Q = diag(rowsum(A)^-1/2).
    """
    probability = counts / totals.where(totals > 0, 1)[:, None]
    edges = (probability >= threshold).double()
    if graph == "identity":
        edges.zero_()
    if graph == "random":
        pairs = ~torch.eye(len(counts), dtype=torch.bool)
        shuffled = torch.randperm(int(pairs.sum()), generator=torch.Generator().manual_seed(0))
        edges[pairs] = edges[pairs][shuffled]
    matrix = edges * 0.25 / (edges.sum(0) + 1e-6) + torch.eye(len(counts))
    scale = matrix.sum(1) ** -0.5
    return ((matrix * scale).T * scale).float()
