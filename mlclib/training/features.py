"""Layer maps of a frozen backbone, computed once and kept, so that every later run starts at once."""

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from mlclib import transforms
from mlclib.common.files import file_lock, holds, sealed
from mlclib.config import Backbone as BackboneConfig
from mlclib.datasets.base import Split
from mlclib.models import backbones
from mlclib.training.inputs import Images, Maps, as_is, batches


def cached_maps(split: Split, folder: Path, config: BackboneConfig, input_size: int, layers: tuple[int, ...]) -> Maps:
    """The maps of these layers of a split, from the cache `folder`, or computed and cached there now.

    Kept as float16 arrays [N, h, w, C_l], memory-mapped: a batch then needs no copy to be channels_last. What is not
    cached, or has not its checksum, is computed.
    """
    if not verified(folder, layers):
        with file_lock(folder.with_name(f".{folder.name}.lock"), f"the caching of layer maps in {folder}"):
            for left in folder.glob(".*.part"):  # by a process that was killed
                left.unlink()
            if lacking := tuple(layer for layer in layers if not verified(folder, (layer,))):
                _compute(split, folder, config, input_size, lacking)
    arrays = {layer: np.load(folder / f"layer{layer}.npy", mmap_mode="r") for layer in layers}
    return Maps({layer: array.transpose(0, 3, 1, 2) for layer, array in arrays.items()}, split.targets)


def verified(folder: Path, layers: tuple[int, ...]) -> bool:
    """Whether the maps of these layers are cached in `folder`, and whole."""
    return all(holds(folder / f"layer{layer}.npy") for layer in layers)


def _compute(split: Split, folder: Path, config: BackboneConfig, input_size: int, layers: tuple[int, ...]) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = backbones.Backbone(config.name, config.weights, layers).eval()
    backbone.to(device, memory_format=torch.channels_last)
    transform = transforms.Transform(input_size, *backbones.preprocessing(config.name))
    loader = DataLoader(
        Images(split, transform),
        batch_sampler=list(batches(np.arange(len(split)), 32)),
        collate_fn=as_is,
        num_workers=min(16, os.cpu_count() or 1),
    )
    arrays: dict[int, np.memmap] = {}
    done = 0
    with ExitStack() as stack, torch.inference_mode():  # half precision is slow on many CPUs, and not the same on all
        parts = {layer: stack.enter_context(sealed(folder / f"layer{layer}.npy")) for layer in layers}
        for pictures, _ in tqdm(loader, desc=f"layer maps of {len(split)} images", leave=False, disable=None):
            maps = backbone(pictures.to(device, memory_format=torch.channels_last))
            for layer, values in maps.items():
                values = values.permute(0, 2, 3, 1).cpu()
                if layer not in arrays:
                    shape = (len(split), *values.shape[1:])
                    arrays[layer] = np.lib.format.open_memmap(parts[layer], "w+", np.float16, shape)
                arrays[layer][done : done + len(values)] = values.numpy()
            done += len(pictures)
        for array in arrays.values():
            array.flush()
