"""What the models cost: semantic pooling against its published formulation, heads against their backbone.

    make bench

Ratios are of the best of a few runs that take turns, in one process, after the results were compared. On a CPU
they are of processor seconds on one thread, which other work on the machine spoils least, and `make bench` keeps freed
memory for the next step.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import report
from benchmarks.report import row
from mlclib import models
from mlclib.models.pooling import semantic_pooling

DEVICE = report.device()
CUDA = DEVICE.type == "cuda"
SIZES = {"VOC": (20, 0.2), "COCO": (80, 0.05)}  # labels and groups a label: 24 and 84 nodes
INPUT = 448
TRAINED = 16  # the least batch of MSRN's recipe
INFERRED = 16 if CUDA else 8
REPEATS = 10 if CUDA else 2


def published_pooling(features: Tensor, nodes: Tensor) -> Tensor:
    """The published formulation: features [B, N, D], nodes [K, D], by way of three tensors [B, N, K, D]."""
    scores = features[:, :, None] * nodes
    weights = torch.softmax(scores, dim=1)
    return (weights * features[:, :, None]).sum(1)


def now() -> float:
    """Seconds: of the wall once a GPU is done, of the processor on a CPU."""
    if CUDA:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed(*runs: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Seconds of the best of at least `repeats` calls of each of the runs, which take turns for a second or more, after
    one call to warm up.
    """
    for run in runs:
        run()
    taken = [[] for _ in runs]
    while len(taken[0]) < repeats or sum(map(sum, taken)) < 1:
        for run, seconds in zip(runs, taken, strict=True):
            start = now()
            run()
            seconds.append(now() - start)
    return [min(seconds) for seconds in taken]


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


def pool_forward(features: Tensor, nodes: Tensor, pool: Callable) -> Tensor:
    with torch.no_grad():
        return pool(features, nodes)


def pool_both(features: Tensor, nodes: Tensor, given: Tensor, pool: Callable) -> tuple[Tensor, ...]:
    pooled = pool(features, nodes)
    return pooled, *torch.autograd.grad(pooled, (features, nodes), given)


def pooling_rows() -> list[dict[str, object]]:
    """Semantic pooling of the stride-8 map of 448 px, 28 x 28 cells after its max pool, against its published form."""
    rows = []
    for name, (labels, ratio) in SIZES.items():
        count, batch = labels + int(ratio * labels), 16 if CUDA else 2
        shape = f"[{batch}, 784, {count}, 512]"
        features = torch.randn(batch, 512, 784, device=DEVICE).mT.requires_grad_()
        nodes = torch.randn(count, 512, device=DEVICE, requires_grad=True)
        given = torch.randn(batch, count, 512, device=DEVICE)

        forward, both = partial(pool_forward, features, nodes), partial(pool_both, features, nodes, given)
        for ours, plain in zip(both(semantic_pooling), both(published_pooling), strict=True):
            error = ((ours - plain).norm() / plain.norm()).item()
            if not error < 1e-4:
                raise AssertionError(f"semantic pooling at {shape} is off by {error:.1e}")
        for what, run in (("forward", forward), ("forward + backward", both)):
            ours, plain = timed(partial(run, semantic_pooling), partial(run, published_pooling), repeats=5)
            detail = f"{shape}: {1e3 * ours:.3g} ms against {1e3 * plain:.3g} ms"
            rows.append(row(f"semantic pooling, {name}, {what}", plain / ours, "x the published speed", detail))
        ours, plain = (peak(partial(both, pool)) for pool in (semantic_pooling, published_pooling))
        detail = f"{shape}, forward + backward: {ours / 2**20:.3g} MiB against {plain / 2**20:.4g} MiB"
        rows.append(row(f"semantic pooling, {name}, peak memory", ours / plain, "of the published", detail))
    return rows


def build(name: str, labels: int, ratio: float, **options: object) -> models.Classifier:
    if name == "msrn":
        options["group_ratio"] = ratio
    counts = torch.randint(0, 50, (labels, labels)).fill_diagonal_(0)
    knowledge = {"label_vectors": torch.randn(labels, 300), "cooccurrence": (counts, torch.full((labels,), 100))}
    model = models.build(name, labels=labels, backbone="resnet101", **knowledge, **options)
    return model.to(DEVICE, memory_format=torch.channels_last)


class Step:
    """A training step (forward, loss, backward, SGD) in the two parts of its time: the head's, and all of it.

    The head learns from the maps as leaves and hands their gradient on, so both parts are timed in the same step.
    """

    def __init__(self, model: models.Classifier):
        self.model = model
        head, backbone = model.parameter_groups(1e-4, 0.1)
        settings = {"momentum": 0.9, "weight_decay": 1e-4, "fused": True}
        self.head, self.backbone = (torch.optim.SGD([group], **settings) for group in (head, backbone))

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[float, float]:
        self.head.zero_grad()
        self.backbone.zero_grad()
        autocast = partial(torch.autocast, DEVICE.type, dtype=torch.bfloat16, enabled=CUDA)
        start = now()
        with autocast():
            maps = self.model.backbone(images)
        leaves = {layer: map.detach().requires_grad_() for layer, map in maps.items()}
        begun = now()
        with autocast():
            loss = self.model.loss(self.model.classify(leaves), targets)
        loss.backward()
        self.head.step()
        ended = now()
        torch.autograd.backward(list(maps.values()), [leaf.grad for leaf in leaves.values()])
        self.backbone.step()
        return ended - begun, now() - start


def step_rows() -> list[dict[str, object]]:
    """The part of a training step of a ResNet-101 model that its head takes."""
    images = torch.randn(TRAINED, 3, INPUT, INPUT, device=DEVICE).to(memory_format=torch.channels_last)
    rows = []
    for name, size in (("msrn", "VOC"), ("msrn", "COCO"), ("dsdl", "COCO")):
        step = Step(build(name, *SIZES[size]))
        targets = torch.where(torch.rand(TRAINED, SIZES[size][0], device=DEVICE) > 0.9, 1, -1).to(torch.int8)
        step(images, targets)
        head, whole = min((step(images, targets) for _ in range(REPEATS)), key=lambda times: times[1])
        detail = f"ResNet-101, {INPUT} px, batch {TRAINED}, {'bfloat16' if CUDA else 'float32'}: "
        detail += f"{head:.3g} s of {whole:.3g} s"
        name = f"training step, {name} at {size} size, share of the head"
        rows.append(row(name, 100 * head / whole, "% of the step", detail))
    return rows


def infer(model: models.Classifier, images: Tensor, fast: bool) -> Tensor:
    layout = torch.channels_last if fast else torch.contiguous_format
    model.to(memory_format=layout)
    with torch.inference_mode(), torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=fast):
        return model(images.to(memory_format=layout)).logits


def inference_rows() -> list[dict[str, object]]:
    """Images a second through whole models in evaluation mode, plainly and with channels_last and bfloat16."""
    images = torch.randn(INFERRED, 3, INPUT, INPUT, device=DEVICE)
    rows = []
    for name in models.NAMES:
        model = build(name, *SIZES["COCO"]).eval()

        for fast, what in ((False, "float32"), (True, "channels_last and bfloat16")):
            seconds = timed(partial(infer, model, images, fast))[0]
            detail = f"ResNet-101, {INPUT} px, batch {INFERRED}"
            rows.append(row(f"inference, {name} at COCO size, {what}", INFERRED / seconds, "images/s", detail))
    return rows


def main() -> None:
    for rows in (pooling_rows, step_rows, inference_rows):
        print(rows.__doc__.splitlines()[0])
        measured = rows()
        for line in measured:
            print(f"  {line['name']}: {line['value']:.3g} {line['unit']} ({line['detail']})", flush=True)
        path = report.write(measured)
    print(f"written to {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    torch.manual_seed(0)
    if not CUDA:
        torch.set_num_threads(1)
    main()
