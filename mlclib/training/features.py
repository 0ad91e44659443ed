"""Layer maps of a frozen backbone, computed once and kept, so that every later run starts at once."""

import json
import os
import shutil
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

LAYERS = tuple(backbones.STRIDES)


def cached_maps(
    split: Split, folder: Path, config: BackboneConfig, input_size: int, layers: tuple[int, ...] = LAYERS
) -> Maps:
    """The maps of `layers` of a split, from the cache `folder`, or computed and cached there now.

    Kept as float16 arrays [N, C_l, h, w], memory-mapped. A cache whose checksums do not hold is computed again.
    Folders of other layers must have other names.
    """
    if not verified(folder):
        with file_lock(folder.with_name(f".{folder.name}.lock"), f"the caching of layer maps in {folder}"):
            if not verified(folder):
                _compute(split, config, input_size, folder, layers)
    return Maps({layer: np.load(folder / f"layer{layer}.npy", mmap_mode="r") for layer in layers}, split.targets)


def verified(folder: Path) -> bool:
    """Whether the layer maps cached in `folder` are whole: their checksums hold."""
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all(sha256(folder / name) == digest for name, digest in sums.items())
    except (OSError, ValueError):
        return False


def _compute(split: Split, config: BackboneConfig, input_size: int, folder: Path, layers: tuple[int, ...]) -> None:
    """Run the backbone over the split into a folder beside `folder`, which it replaces when whole."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = backbones.Backbone(config.name, config.weights, layers).eval()
    backbone.to(device, memory_format=torch.channels_last)
    transform = transforms.evaluation(input_size, *backbones.preprocessing(config.name))
    loader = DataLoader(
        Images(split, transform),
        batch_sampler=list(batches(np.arange(len(split)), 32)),
        collate_fn=as_is,
        num_workers=min(4, os.cpu_count() or 1),
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
                if layer not in arrays:
                    shape = (len(split), *values.shape[1:])
                    arrays[layer] = np.lib.format.open_memmap(part / f"layer{layer}.npy", "w+", np.float16, shape)
                arrays[layer][done : done + len(values)] = values.cpu().contiguous().numpy()
            done += len(pictures)
    for array in arrays.values():
        array.flush()
    write_text(part / "manifest.json", json.dumps({f"layer{k}.npy": sha256(part / f"layer{k}.npy") for k in arrays}))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
