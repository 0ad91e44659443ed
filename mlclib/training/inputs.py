"""Splits as batches for a model: transformed images, or the cached layer maps of a frozen backbone."""

import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from mlclib import transforms
from mlclib.datasets import images
from mlclib.datasets.base import Split
from mlclib.models import backbones


class Images(torch.utils.data.Dataset):
    """The images of a split as batches: `Images(...)[keys] -> (images float32 [B, 3, H, W], targets int8 [B, C])`.

    A key is (epoch, row); the transform's random draws come from (seed, epoch, row) alone,
    so that they depend neither on the order of the batches nor on the number of workers.
    rows: of the split, some of them several times; all where none are named.
    """

    def __init__(self, split: Split, transform, seed: int = 0, rows: np.ndarray | None = None):
        self.split, self.transform, self.seed = split, transform, seed
        self.rows = np.arange(len(split)) if rows is None else rows
        self.targets = split.targets[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures = [self.image(epoch, int(self.rows[row])) for epoch, row in keys]
        return torch.stack(pictures), torch.from_numpy(self.targets[[row for _, row in keys]])

    def image(self, epoch: int, row: int) -> torch.Tensor:
        """One transformed image of the split, float32 [3, H, W]."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, row))
        return self.transform(images.open_rgb(self.split.paths[row]), generator)


class Maps(torch.utils.data.Dataset):
    """Cached layer maps as batches: `(dict layer -> float32 [B, C_l, h, w], targets int8 [B, C])`.

    maps: layer -> float16 [N, C_l, h, w], in files, or after `on` in the memory of a GPU. rows: as of Images.
    """

    def __init__(
        self, maps: "Mapping[int, np.ndarray | torch.Tensor]", targets: np.ndarray, rows: np.ndarray | None = None
    ):
        self.maps, self.rows = maps, np.arange(len(targets)) if rows is None else rows
        self.targets = targets[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        asked = [row for _, row in keys]
        maps = {layer: torch.as_tensor(map[self.rows[asked]]).float() for layer, map in self.maps.items()}
        return maps, torch.from_numpy(self.targets[asked])

    def on(self, device: torch.device) -> "Maps":
        """These maps in the memory of a GPU, read once per process: a step on cached maps takes less time than reading
        them from files does. On another device, or where they take more than half of what is free, they stay.
        """
        maps = self.maps.values()
        if device.type != "cuda" or not all(isinstance(map, np.memmap) for map in maps):
            return self
        if 2 * sum(map.nbytes for map in maps) >= torch.cuda.mem_get_info(device)[0]:
            return self
        moved = copy.copy(self)
        moved.maps = {k: _resident(str(map.filename), device).permute(0, 3, 1, 2) for k, map in self.maps.items()}
        return moved


@lru_cache(maxsize=9)  # three layers of three splits
def _resident(path: str, device: torch.device) -> torch.Tensor:
    """The array [N, h, w, C] of a file, float16, on a device."""
    return torch.from_numpy(np.load(path, mmap_mode="c")).to(device)


def transform_of(configuration: Mapping[str, Any], varied: bool = False) -> transforms.Transform:
    """How a run's model is shown a picture; varied: as its recipe varies training images.

    configuration: the run's, as run.yaml holds it.
    """
    mean, std, interpolation = backbones.preprocessing(configuration["backbone"]["name"])
    training = configuration["training"]
    if not training["normalise"]:
        mean, std = (0.0,) * 3, (1.0,) * 3
    recipe = None if training["augmentation"] == "none" else training["augmentation"]
    return transforms.Transform(configuration["input_size"], mean, std, interpolation, recipe, trains=varied)


def seed_of(*numbers: int) -> int:
    """One 63-bit seed from several numbers (seed, epoch, image, ...), well mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def as_is(batch):
    """Collate function for data sets that give whole batches."""
    return batch


def batches(rows: np.ndarray, size: int, epoch: int = 0) -> Iterator[list[tuple[int, int]]]:
    """Keys (epoch, row) of consecutive batches over `rows`."""
    for start in range(0, len(rows), size):
        yield [(epoch, int(row)) for row in rows[start : start + size]]
