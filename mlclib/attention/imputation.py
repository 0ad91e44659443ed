"""Holes in pictures, filled from around them."""

from functools import cache

import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor

CELLS = 56  # of the longer side: what fills a hole is smooth, and a finer grid takes long
NOISE = 0.01  # standard deviation of the noise on what is filled, in the picture's own units


def impute(picture: Tensor, hole: Tensor) -> Tensor:
    """The picture [3, H, W] with its hole, bool [H, W], filled, with zeros where no cell is left to fill from.

    The noisy linear imputation of ROAD (Rong et al., ICML 2022): what is missing is the weighted mean of its eight
    neighbours. One colour would tell a model where something was. A cell that the hole meets is filled whole.
    """
    size = [max(1, round(CELLS * side / max(hole.shape))) for side in hole.shape]
    missing = (F.adaptive_max_pool2d(hole[None].float(), size) > 0).flatten().numpy()
    if missing.all() or not missing.any():
        return picture * ~hole
    cells = F.adaptive_avg_pool2d(picture, size).flatten(1).T.double().numpy()
    rows = _grid_laplacian(*size)[missing]
    cells[missing] = spsolve(rows[:, missing].tocsc(), -(rows[:, ~missing] @ cells[~missing])).reshape(-1, 3)
    smooth = F.interpolate(torch.from_numpy(cells.T).view(1, 3, *size).float(), hole.shape, mode="bilinear")[0]
    noise = NOISE * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(hole, smooth + noise, picture)


@cache
def _grid_laplacian(height: int, width: int) -> sparse.csr_array:
    """Graph Laplacian of the pixel grid, with edge weight 1/6 to direct and 1/12 to diagonal neighbours."""
    down, across = (sparse.eye_array(side, k=1) + sparse.eye_array(side, k=-1) for side in (height, width))
    row, column = sparse.eye_array(height), sparse.eye_array(width)
    weights = (sparse.kron(down, column) + sparse.kron(row, across)) / 6 + sparse.kron(down, across) / 12
    return (sparse.diags_array(weights.sum(1)) - weights).tocsr()  # cells at the edge have fewer neighbours
