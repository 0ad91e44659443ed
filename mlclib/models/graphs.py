"""The label graph that ML-GCN introduced and MSRN took over."""

import torch
from torch import Tensor


def adjacency(counts: Tensor, totals: Tensor, graph: str, threshold: float) -> Tensor:
    """The normalised label graph A^ [C, C] of co-occurrence counts [C, C] and label counts [C] (ML-GCN, CVPR 2019).

    P(j|i) = counts[i, j] / totals[i] (0 for a label without images), 1 where it reaches the threshold and 0 elsewhere,
    scaled by 0.25 / (column sum + 1e-6), plus I; A^ = (A Q)^T Q with Q = diag(rowsum(A)^-1/2).

    graph: "cooccurrence", "identity" (no edge but to itself) or "random" (as many edges, drawn from a fixed seed).

    Example:
        >>> counts = torch.tensor([[0.0, 3.0], [3.0, 0.0]])
        >>> adjacency(counts, totals=torch.tensor([4.0, 30.0]), graph="cooccurrence", threshold=0.4)
        tensor([[0.8000, 0.0000],
                [0.2236, 1.0000]])
    """
    edges = (conditional(counts, totals) >= threshold).double()
    if graph == "identity":
        edges.zero_()
    if graph == "random":
        pairs = ~torch.eye(len(counts), dtype=torch.bool)
        shuffled = torch.randperm(int(pairs.sum()), generator=torch.Generator().manual_seed(0))
        edges[pairs] = edges[pairs][shuffled]
    # The paper says 0.2 and row sums; the authors' code, which the published weights were trained by, does this.
    matrix = edges * 0.25 / (edges.sum(0) + 1e-6) + torch.eye(len(counts))
    scale = matrix.sum(1) ** -0.5
    return ((matrix * scale).T * scale).float()


def conditional(counts: Tensor, totals: Tensor) -> Tensor:
    """P(j|i) = counts[i, j] / totals[i], [C, C]; a label without images has no neighbour.

    Example:
        >>> conditional(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), totals=torch.tensor([4.0, 0.0]))
        tensor([[0.0000, 0.7500],
                [3.0000, 0.0000]])
    """
    return counts / totals.where(totals > 0, 1)[:, None]
