"""How fast images reach a model: decoders against one another, and the whole pipeline by worker processes.

    python -m benchmarks.input DATASET ROOT        e.g. voc2007 data

`rows` gives one dict a measurement; images per second are the median of three passes over the same images.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms.v2 import functional as F

from benchmarks import report
from mlclib import datasets, transforms
from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb
from mlclib.models import backbones
from mlclib.training.inputs import Images, as_is, batches

SIZE = 448
BATCH = 16
PASSES = 3
LARGE = (4000, 3000)  # a camera's picture, where scaling while decoding could pay
MEAN = STD = (0.5, 0.5, 0.5)


def pillow(path: Path) -> torch.Tensor:
    """What the project uses: decode in full, resize with Pillow's antialiased bilinear filter."""
    return F.pil_to_tensor(open_rgb(path).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def pillow_draft(path: Path) -> torch.Tensor:
    """Let libjpeg scale by 1/2, 1/4 or 1/8 while decoding, as far as both sides stay at or above SIZE."""
    with Image.open(path) as image:
        image.draft("RGB", (SIZE, SIZE))
        return F.pil_to_tensor(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def torchvision_io(path: Path) -> torch.Tensor:
    """torchvision's own decoder, resized as a tensor with antialiasing."""
    return F.resize(decode_image(read_file(str(path)), ImageReadMode.RGB), [SIZE, SIZE], antialias=True)


def timed(run: Callable[[], object]) -> float:
    """Median seconds of PASSES calls, after one that warms caches."""
    run()
    spent = []
    for _ in range(PASSES):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def decoders(paths: list[Path], what: str) -> list[dict[str, object]]:
    """Each decoder on one core: speed, and how far its pixels (0 to 255) lie from those of Pillow."""
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    truth = [pillow(path).numpy().astype(int) for path in paths]
    for decode in (pillow, pillow_draft, torchvision_io):
        off = [np.abs(decode(path).numpy() - pixels) for path, pixels in zip(paths, truth, strict=True)]
        rows.append(
            {
                "benchmark": "decode",
                "what": f"{what}, {decode.__name__}",
                "images_per_second": len(paths) / timed(lambda decode=decode: [decode(path) for path in paths]),
                "mean_difference": float(np.mean([o.mean() for o in off])),
                "largest_difference": int(max(o.max() for o in off)),
            }
        )
    torch.set_num_threads(threads)
    return rows


def loader(split: Split, workers: int) -> DataLoader:
    transform = transforms.Transform(SIZE, MEAN, STD, recipe="msrn", trains=True)
    return DataLoader(
        Images(split, transform),
        batch_sampler=list(batches(np.arange(len(split)), BATCH)),
        collate_fn=as_is,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def pipeline(split: Split, workers: int, model: torch.nn.Module) -> dict[str, object]:
    """Batches alone, and the share of its time that a model's forward pass on this machine waits for them."""
    source = loader(split, workers)
    seconds = timed(lambda: [None for _ in source])
    waited, start = 0.0, time.perf_counter()
    moments = iter(source)
    while True:
        asked = time.perf_counter()
        batch = next(moments, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            model(batch[0].to(memory_format=torch.channels_last))
    total = time.perf_counter() - start
    return {
        "benchmark": "pipeline",
        "what": f"{workers} workers, {SIZE} px, msrn",
        "images_per_second": len(split) / seconds,
        "with_model_images_per_second": len(split) / total,
        "waiting_share": waited / total,
    }


def rows(name: str, root: str | Path, count: int = 192) -> list[dict[str, object]]:
    """All measurements on the first `count` training images of data set `name`."""
    whole = datasets.load(name, root).splits["train"]
    split = Split(whole.names[:count], whole.paths[:count], whole.targets[:count])
    rows = decoders([p for p in split.paths if p.suffix == ".jpg"], "as stored")
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.jpg"
        open_rgb(split.paths[0]).resize(LARGE).save(large, quality=90)
        rows += decoders([large] * 8, f"{LARGE[0]} x {LARGE[1]}")
    model = (
        backbones.Backbone("tf_efficientnet_lite0", "offline", (2, 3, 4)).eval().to(memory_format=torch.channels_last)
    )
    return rows + [pipeline(split, workers, model) for workers in (0, 1, 2)]


def reported(row: dict[str, object]) -> list[dict[str, object]]:
    """A measurement as rows of the device's table."""
    what = f"{row['benchmark']}, {row['what']}"
    apart = f"differs from Pillow by at most {row['largest_difference']} of 255" if "largest_difference" in row else ""
    rows = [{"name": what, "value": row["images_per_second"], "unit": "images/s", "detail": apart or "loading alone"}]
    if "waiting_share" in row:
        waits = {"name": f"{what}: waiting", "value": 100 * row["waiting_share"], "unit": "% of the time"}
        rows.append({**waits, "detail": "that a tf_efficientnet_lite0 forward pass waits for images"})
    return rows


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(report.write([entry for row in rows(sys.argv[1], sys.argv[2]) for entry in reported(row)]))
