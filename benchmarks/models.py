"""What the models cost: semantic pooling against its published formulation, heads against the bare backbone.

    python -m benchmarks.models

Ratios are of the best of a few runs that alternate, in one process, after the results were compared.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import report
from mlclib import models
from mlclib.models.backbones import Backbone
from mlclib.models.pooling import semantic_pooling

DEVICE = report.device()
CUDA = DEVICE.type == "cuda"
SIZES = {"VOC": (20, 0.2), "COCO": (80, 0.05)}  # labels and groups a label: 24 and 84 nodes
INPUT = 448
BATCH = 16 if CUDA else 4
REPEATS = 10 if CUDA else 3


def published_pooling(features: Tensor, nodes: Tensor) -> Tensor:
    """The published formulation: features [B, N, D], nodes [K, D], by way of three tensors [B, N, K, D]."""
    scores = features[:, :, None] * nodes
    weights = torch.softmax(scores, dim=1)
    return (weights * features[:, :, None]).sum(1)


def timed(*runs: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Seconds of the best of `repeats` calls of each of the runs, which take turns, after one call to warm up."""
    best = [float("inf")] * len(runs)
    for repeat in range(repeats + 1):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if CUDA:
                torch.cuda.synchronize()
            if repeat:
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def peak(run: Callable[[], object]) -> int:
    """Bytes that `run` holds at most, beyond what was held before it."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def pooling_rows() -> list[dict[str, object]]:
    """Semantic pooling of a stride-16 map at 448 px, or of a stride-8 map after its 2 x 2 max pool, both 784 cells."""
    rows = []
    for name, (labels, ratio) in SIZES.items():
        count, batch = labels + int(ratio * labels), 16 if CUDA else 2
        shape = f"[{batch}, 784, {count}, 512]"
        features = torch.randn(batch, 512, 784, device=DEVICE).mT.requires_grad_()
        nodes = torch.randn(count, 512, device=DEVICE, requires_grad=True)
        given = torch.randn(batch, count, 512, device=DEVICE)

        def forward(pool, features=features, nodes=nodes):
            with torch.no_grad():
                return pool(features, nodes)

        def both(pool, features=features, nodes=nodes, given=given):
            pooled = pool(features, nodes)
            return pooled, *torch.autograd.grad(pooled, (features, nodes), given)

        for ours, plain in zip(both(semantic_pooling), both(published_pooling), strict=True):
            error = ((ours - plain).norm() / plain.norm()).item()
            if not error < 1e-4:
                raise AssertionError(f"semantic pooling at {shape} is off by {error:.1e}")
        for what, run in (("forward", forward), ("forward + backward", both)):
            ours, plain = timed(lambda run=run: run(semantic_pooling), lambda run=run: run(published_pooling))
            rows.append(
                {
                    "name": f"semantic pooling, {name}, {what}",
                    "value": plain / ours,
                    "unit": "x the published speed",
                    "detail": f"{shape}: {1e3 * ours:.3g} ms against {1e3 * plain:.3g} ms",
                }
            )
        ours, plain = (peak(lambda pool=pool, both=both: both(pool)) for pool in (semantic_pooling, published_pooling))
        rows.append(
            {
                "name": f"semantic pooling, {name}, peak memory",
                "value": ours / plain,
                "unit": "of the published",
                "detail": f"{shape}, forward + backward: {ours / 2**20:.3g} MiB against {plain / 2**20:.4g} MiB",
            }
        )
    return rows


def build(name: str, labels: int, ratio: float) -> models.Classifier:
    options = {"group_ratio": ratio} if name == "msrn" else {}
    counts = torch.randint(0, 50, (labels, labels)).fill_diagonal_(0)
    knowledge = {"label_vectors": torch.randn(labels, 300), "cooccurrence": (counts, torch.full((labels,), 100))}
    model = models.build(name, labels=labels, backbone="resnet101", **knowledge, **options)
    return model.to(DEVICE, memory_format=torch.channels_last)


def step_rows() -> list[dict[str, object]]:
    """The part of a training step (forward, loss, backward, SGD) that a head adds to ResNet-101's own."""
    images = torch.randn(BATCH, 3, INPUT, INPUT, device=DEVICE).to(memory_format=torch.channels_last)
    bare = Backbone("resnet101").to(DEVICE, memory_format=torch.channels_last)
    rows = []

    def stepper(module, loss):
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)

        def step():
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=CUDA):
                value = loss()
            value.backward()
            optimizer.step()

        return step

    for name, size in (("msrn", "VOC"), ("msrn", "COCO"), ("dsdl", "COCO")):
        labels, ratio = SIZES[size]
        model = build(name, labels, ratio)
        targets = torch.where(torch.rand(BATCH, labels, device=DEVICE) > 0.9, 1, -1).to(torch.int8)
        alone = stepper(bare, lambda: sum(map.float().mean() for map in bare(images).values()))
        whole = stepper(model, lambda model=model, targets=targets: model.loss(model(images), targets))
        a, b = timed(alone, whole, repeats=REPEATS if CUDA else 2)
        rows.append(
            {
                "name": f"training step, {name} at {size} size, share of the head",
                "value": 100 * (b - a) / b,
                "unit": "% of the step",
                "detail": f"ResNet-101, {INPUT} px, batch {BATCH}, {'bfloat16' if CUDA else 'float32'}: "
                f"{b:.3g} s, of which the backbone {a:.3g} s",
            }
        )
        del model, alone, whole
    return rows


def inference_rows() -> list[dict[str, object]]:
    """Images a second through whole models in evaluation mode, plainly and with channels_last and bfloat16."""
    images = torch.randn(BATCH, 3, INPUT, INPUT, device=DEVICE)
    rows = []
    for name in models.NAMES:
        model = build(name, *SIZES["COCO"]).eval()

        def run(fast, model=model):
            layout = torch.channels_last if fast else torch.contiguous_format
            model.to(memory_format=layout)
            with torch.inference_mode(), torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=fast):
                return model(images.to(memory_format=layout)).logits

        for fast, what in ((False, "float32"), (True, "channels_last and bfloat16")):
            seconds = timed(lambda fast=fast, run=run: run(fast), repeats=REPEATS if CUDA else 2)[0]
            rows.append(
                {
                    "name": f"inference, {name} at COCO size, {what}",
                    "value": BATCH / seconds,
                    "unit": "images/s",
                    "detail": f"ResNet-101, {INPUT} px, batch {BATCH}",
                }
            )
    return rows


def main() -> None:
    for rows in (pooling_rows, step_rows, inference_rows):
        print(rows.__doc__.splitlines()[0])
        measured = rows()
        for row in measured:
            print(f"  {row['name']}: {row['value']:.3g} {row['unit']} ({row['detail']})", flush=True)
        path = report.write(measured)
    print(f"written to {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
