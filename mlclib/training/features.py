"""Layer maps of a frozen backbone, computed once and kept, so that every later run starts at once."""

import json
import os
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from mlclib import transforms
from mlclib.common.files import file_lock, sha256, write_text
from mlclib.config import Backbone as BackboneConfig
from mlclib.datasets.base import Split
from mlclib.models import backbones
from mlclib.training.inputs import Images, Maps, as_is, batches


def cached_maps(split: Split, folder: Path, config: BackboneConfig, input_size: int, layers: tuple[int, ...]) -> Maps:
    """The maps of these layers of a split, from the cache `folder`, or computed and cached there now.

    Kept as float16 arrays [N, h, w, C_l], memory-mapped: a batch then needs no copy to be channels_last. A cache whose
    checksums do not hold, or that lacks one of the layers, is computed again, with the layers that it holds.
    """
    if not verified(folder, layers):
        with file_lock(folder.with_name(f".{folder.name}.lock"), f"the caching of layer maps in {folder}"):
            if not verified(folder, layers):
                _compute(split, config, input_size, folder, tuple(sorted({*layers, *_cached(folder)})))
    arrays = {layer: np.load(folder / f"layer{layer}.npy", mmap_mode="r") for layer in layers}
    return Maps({layer: array.transpose(0, 3, 1, 2) for layer, array in arrays.items()}, split.targets)


def verified(folder: Path, layers: tuple[int, ...]) -> bool:
    """Whether the maps of these layers are cached in `folder`, and whole: their checksums hold."""
    names = [f"layer{layer}.npy" for layer in layers]
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        seen = [(stat.st_size, stat.st_mtime_ns) for stat in ((folder / name).stat() for name in names)]
        return all(_holds(folder / name, *stat, sums[name]) for name, stat in zip(names, seen, strict=True))
    except (OSError, ValueError, KeyError):
        return False


@lru_cache(maxsize=64)
def _holds(path: Path, size: int, changed: int, digest: str) -> bool:
    """Whether a file of maps has this checksum; each state of it is read once a process, however many runs take it."""
    return sha256(path) == digest


def _cached(folder: Path) -> list[int]:
    """The layers that a cache holds by its manifest."""
    try:
        names = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [int(name.removeprefix("layer").removesuffix(".npy")) for name in names]


def _compute(split: Split, config: BackboneConfig, input_size: int, folder: Path, layers: tuple[int, ...]) -> None:
    """Run the backbone over the split into a folder beside `folder`, which it replaces when whole."""
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
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    arrays: dict[int, np.memmap] = {}
    done = 0
    with torch.inference_mode():  # in float32: half precision is slow on many CPUs, and not the same on all
        for pictures, _ in tqdm(loader, desc=f"layer maps of {len(split)} images", leave=False, disable=None):
            maps = backbone(pictures.to(device, memory_format=torch.channels_last))
            for layer, values in maps.items():
                values = values.permute(0, 2, 3, 1).cpu()
                if layer not in arrays:
                    shape = (len(split), *values.shape[1:])
                    arrays[layer] = np.lib.format.open_memmap(part / f"layer{layer}.npy", "w+", np.float16, shape)
                arrays[layer][done : done + len(values)] = values.numpy()
            done += len(pictures)
    for array in arrays.values():
        array.flush()
    write_text(part / "manifest.json", json.dumps({f"layer{k}.npy": sha256(part / f"layer{k}.npy") for k in arrays}))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
