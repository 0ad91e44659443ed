"""A GPU, checked against the CPU first and then timed: `python -m benchmarks.gpu`, in one call of a few minutes.

Checked: logits, loss and gradients of every model agree with the CPU's. Timed at 448 px on ResNet-101: the bare
backbone's training step, the step with each head (compiled too for the models of --compiled), evaluation, semantic
pooling beside its plain formulation, and how many images the CPU cores decode and transform. Rows go to
results/benchmarks/<device>.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image

from benchmarks import report
from benchmarks.models import published_pooling
from benchmarks.report import row
from mlclib import models, transforms
from mlclib.models.backbones import Backbone
from mlclib.models.pooling import semantic_pooling

LABELS, SIZE = 80, 448
TOLERANCE = 2e-3  # of logits in float32 (TF32 off), relative to their largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--models", nargs="*", default=list(models.NAMES))
    parser.add_argument("--compiled", nargs="*", default=[], help="models to time compiled too, about two minutes each")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU is visible: this benchmark compares a GPU with the CPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows = [check(name) for name in arguments.models]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    rows += pooling() + steps(arguments.models, arguments.batch, arguments.compiled) + loading()
    for line in rows:
        print(f"{line['name']}: {line['value']:.4g} {line['unit']} ({line['detail']})")
    print(report.write(rows))


def built(name: str, backbone: str = "resnet101", **options: object) -> torch.nn.Module:
    """The model with random weights, label vectors and co-occurrence, from a fixed seed."""
    torch.manual_seed(0)
    counts = torch.randint(1, 50, (LABELS, LABELS))
    counts = (counts + counts.T).fill_diagonal_(0)
    info = {"label_vectors": torch.randn(LABELS, 50), "cooccurrence": (counts, counts.amax(1) * 2)}
    return models.build(name, labels=LABELS, backbone=backbone, **info, **options)


def check(name: str) -> dict[str, object]:
    """How far the GPU's logits and gradients are from the CPU's, relative to the largest; ends where too far."""
    model = built(name, "resnet18").eval()  # without dropout, which the two would draw apart
    images, targets = torch.randn(4, 3, 224, 224), 2 * torch.randint(0, 2, (4, LABELS), dtype=torch.int8) - 1
    values = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        output = model(images.to(device))
        model.loss(output, targets.to(device)).backward()
        gradients = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        values.append((output.logits.detach().cpu(), gradients))
    apart = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*values, strict=True))
    if not apart < TOLERANCE:
        sys.exit(f"{name} differs between CPU and GPU by {apart:.2g} of its largest value")
    return row(f"{name}, CPU against GPU", apart, "", "largest relative difference of logits and gradients, float32")


def pooling() -> list[dict[str, object]]:
    """Semantic pooling and its plain formulation, forward and backward."""
    rows = []
    for batch, cells, width, nodes in ((16, 784, 512, 84), (32, 784, 512, 24)):
        features = torch.randn(batch, cells, width, device="cuda", requires_grad=True)
        labels = torch.randn(nodes, width, device="cuda", requires_grad=True)
        apart = float((semantic_pooling(features, labels) - published_pooling(features, labels)).detach().abs().max())
        if not apart < 1e-3:
            sys.exit(f"semantic pooling differs from its formula by {apart:.2g}")
        for name, function in (("semantic pooling", semantic_pooling), ("its plain formulation", published_pooling)):
            detail = f"forward and backward, [{batch}, {cells}, {width}] and {nodes} nodes, float32"
            try:
                seconds = timed(partial(_backward, function, features, labels))
            except torch.OutOfMemoryError:
                continue
            rows.append(row(f"{name}, {nodes} nodes", 1000 * seconds, "ms", detail))
    return rows


def _backward(function: Callable, features: torch.Tensor, nodes: torch.Tensor) -> None:
    function(features, nodes).sum().backward()


def steps(names: list[str], batch: int, compiled: list[str]) -> list[dict[str, object]]:
    """A training step in bfloat16 of the bare backbone, and of each model; compiled too; and evaluation."""
    images = torch.randn(batch, 3, SIZE, SIZE, device="cuda").to(memory_format=torch.channels_last)
    targets = 2 * torch.randint(0, 2, (batch, LABELS), dtype=torch.int8, device="cuda") - 1
    bare = Backbone("resnet101").cuda().to(memory_format=torch.channels_last).train()

    def bare_step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = sum(map.float().mean() for map in bare(images).values())
        loss.backward()

    rows = [row("ResNet-101 alone, training step", batch / timed(bare_step), "images/s", f"{SIZE} px, batch {batch}")]
    for name in names:
        model = built(name).cuda().to(memory_format=torch.channels_last)

        def step(forward: Callable = model, model: torch.nn.Module = model) -> None:
            model.train()
            with torch.autocast("cuda", torch.bfloat16):
                loss = model.loss(forward(images), targets)
            loss.backward()

        def evaluate(model: torch.nn.Module = model) -> None:
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
                model.eval()(images)

        detail = f"{SIZE} px, {LABELS} labels, batch {batch}, bfloat16, channels_last"
        rows.append(row(f"{name}, training step", batch / timed(step), "images/s", detail))
        rows.append(row(f"{name}, evaluation", batch / timed(evaluate), "images/s", detail))
        if name in compiled:
            rate = batch / timed(partial(step, torch.compile(model)))
            rows.append(row(f"{name}, training step compiled", rate, "images/s", detail))
        del model
        torch.cuda.empty_cache()
    return rows


def loading() -> list[dict[str, object]]:
    """How many images of 500 x 375 px the cores decode and transform: what bounds a GPU that is faster."""
    from concurrent.futures import ProcessPoolExecutor

    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(load, range(2 * cores)))
        started = time.perf_counter()
        list(pool.map(load, range(32 * cores), chunksize=8))
        rate = 8 * 32 * cores / (time.perf_counter() - started)
    return [row("decode and transform", rate, "images/s", f"500 x 375 JPEG to {SIZE} px as MSRN trains, {cores} cores")]


def load(seed: int) -> int:
    """Encode once, then decode and transform one picture."""
    import io

    file, noise = io.BytesIO(), np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    transform = transforms.Transform(SIZE, (0.5,) * 3, (0.5,) * 3, recipe="msrn", trains=True)
    for _ in range(8):
        transform(Image.open(io.BytesIO(file.getvalue())).convert("RGB"), torch.Generator().manual_seed(seed))
    return seed


def timed(work: Callable[[], object], repeats: int = 10) -> float:
    """Seconds of one call, the median of `repeats` after two to warm up, by the device's own clock."""
    times = []
    for number in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if number >= 2:
            times.append(start.elapsed_time(end) / 1000)
    return float(np.median(times))


if __name__ == "__main__":
    main()
