"""What each model's head costs beside its backbone: parameters, multiply-adds, time and memory.

    python -m benchmarks.heads

Heads read the maps of ResNet-101 at 448 px and take turns with each other and with the bare backbone, in one process;
a training step is the head's forward, loss and backward (to the maps too) and SGD. SSGRL stands beside the formulation
that its authors published.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report
from benchmarks.models import CUDA, DEVICE, INPUT, SIZES, build, peak, timed
from mlclib import models
from mlclib.models.backbones import STRIDES
from mlclib.models.ssgrl import SSGRL

BATCH = 16 if CUDA else 2
PUBLISHED = 4  # the batch of SSGRL's recipe


class PublishedSSGRL(SSGRL):
    """SSGRL as its authors wrote it: cells and words repeated to [B, h w, C, ...], and a matrix on each pair."""

    def decoupled(self, map: Tensor) -> tuple[Tensor, Tensor]:
        cells, words = map.flatten(2).transpose(1, 2), self.words(self.label_vectors)
        (batch, count, _), labels = cells.shape, len(words)
        repeated = cells[:, :, None].repeat(1, 1, labels, 1)  # [B, N, C, F]
        seen = self.cells(cells)[:, :, None].repeat(1, 1, labels, 1)
        met = torch.tanh(seen * words.repeat(batch, count, 1, 1))  # [B, N, C, width]
        attention = self.score(self.joint(met)).softmax(1)  # [B, N, C, 1]
        return (attention * repeated).sum(1), attention[..., 0].transpose(1, 2)


class Head(nn.Module):
    """A model without its backbone, and the maps and labels that it is measured on."""

    def __init__(self, name: str, labels: int, ratio: float, maps: Mapping[int, Tensor]):
        super().__init__()
        self.model = build(name, labels, ratio)
        wanted = self.model.backbone.layers
        self.model.backbone = nn.Identity()
        self.maps = {layer: maps[layer].detach().requires_grad_() for layer in wanted}
        self.targets = torch.where(torch.rand(len(maps[4]), labels, device=DEVICE) > 0.9, 1, -1).to(torch.int8)

    def forward(self) -> Tensor:
        return self.model.classify(self.maps).logits

    def loss(self) -> Tensor:
        return self.model.loss(self.model.classify(self.maps), self.targets)


class Learning:
    """A training step of a module by a loss: forward, backward and SGD; what it leaves behind is its momentum."""

    def __init__(self, module: nn.Module, loss: Callable[[], Tensor]):
        self.module, self.loss = module, loss
        self.optimizer = torch.optim.SGD(module.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4, fused=True)

    def __call__(self) -> None:
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for map in getattr(self.module, "maps", {}).values():
            map.grad = None


def scored(run: Callable[[], object], module: nn.Module) -> None:
    """`run` as a user who predicts would."""
    module.eval()
    with torch.no_grad():
        run()
    module.train()


def multiply_adds(run: Callable[[], object]) -> float:
    """Multiply-adds of the products (matrices, convolutions, attention) in `run`; elementwise work counts nothing."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the others are not counted on a CPU
        run()
    return counter.get_total_flops() / 2


def row(name: str, value: float, unit: str, detail: str) -> dict[str, object]:
    return {"name": name, "value": value, "unit": unit, "detail": detail}


def head_rows(size: str) -> list[dict[str, object]]:
    """Every model's head on the maps of a batch, beside the bare backbone."""
    labels, ratio = SIZES[size]
    images = torch.randn(BATCH, 3, INPUT, INPUT, device=DEVICE).to(memory_format=torch.channels_last)
    backbone = build("msrn", labels, ratio).backbone
    with torch.no_grad():
        maps = backbone(images)
    runs = {"backbone": (backbone, partial(backbone, images), lambda: sum(m.mean() for m in backbone(images).values()))}
    for name in models.NAMES:
        head = Head(name, labels, ratio, maps)
        runs[name] = head, head, head.loss
    forward = timed(*(partial(scored, run, module) for module, run, _ in runs.values()))
    steps = [Learning(module, loss) for module, _, loss in runs.values()]
    trained = timed(*steps)
    rows, bare, note = [], {}, f"ResNet-101, {INPUT} px, {labels} labels, batch {BATCH}"
    for (name, (module, run, _)), step, seconds, both in zip(runs.items(), steps, forward, trained, strict=True):
        found = {
            "parameters": (sum(p.numel() for p in module.parameters()) / 1e6, "M"),
            "multiply-adds": (multiply_adds(run) / BATCH / 1e9, "G an image"),
            "forward": (1e3 * seconds / BATCH, "ms an image"),
            "training step": (1e3 * both / BATCH, "ms an image"),
            "peak memory of a training step": (peak(step) / 2**20, "MiB"),
        }
        if name == "backbone":
            bare = found
        for what, (value, unit) in found.items():
            share = "" if name == "backbone" else f", {100 * value / bare[what][0]:.3g} % of the backbone's"
            rows.append(row(f"head, {name}, {labels} labels, {what}", value, unit, note + share))
    return rows


def published_rows(size: str) -> list[dict[str, object]]:
    """SSGRL against its published formulation, after their logits and gradients were compared."""
    labels, ratio = SIZES[size]
    side = INPUT // STRIDES[4]
    maps = {4: torch.randn(PUBLISHED, 2048, side, side, device=DEVICE).relu()}
    ours = Head("ssgrl", labels, ratio, maps)
    theirs = Head("ssgrl", labels, ratio, maps)
    theirs.model.__class__ = PublishedSSGRL
    theirs.load_state_dict(ours.state_dict())
    theirs.targets = ours.targets
    for head in (ours, theirs):
        head.loss().backward()
    for key, parameter in ours.named_parameters():
        if key not in ("model.joint.bias", "model.score.bias"):  # rounding: they move no softmax
            torch.testing.assert_close(parameter.grad, theirs.get_parameter(key).grad, rtol=1e-3, atol=1e-5)
    steps = [Learning(head, head.loss) for head in (ours, theirs)]
    gradients = sum(parameter.nbytes for parameter in ours.parameters()) / 2**20
    runs = {"forward": [partial(scored, head, head) for head in (ours, theirs)], "training step": steps}
    rows = []
    for what, (own, published) in runs.items():
        seconds, held = timed(own, published), [peak(own), peak(published)]
        note = f"[{PUBLISHED}, {side // 2}, {side // 2}, {labels}, 2048]: "
        times = f"{1e3 * seconds[0]:.3g} ms against {1e3 * seconds[1]:.3g} ms"
        sizes = f"{held[0] / 2**20:.4g} MiB against {held[1] / 2**20:.4g} MiB"
        if what == "training step":
            sizes += f", {gradients:.4g} MiB of both the weights' gradients"
        name = f"head, ssgrl, {labels} labels, {what}"
        rows.append(row(f"{name} against the published", seconds[1] / seconds[0], "x the speed", note + times))
        rows.append(row(f"{name}, memory against the published", held[0] / held[1], "of it", note + sizes))
    return rows


def main() -> None:
    for rows in (head_rows, published_rows):
        print(rows.__doc__.splitlines()[0])
        for size in SIZES:
            measured = rows(size)
            for line in measured:
                print(f"  {line['name']}: {line['value']:.3g} {line['unit']} ({line['detail']})", flush=True)
            path = report.write(measured)
    print(f"written to {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    torch.manual_seed(0)
    if not CUDA:
        torch.set_num_threads(1)
    main()
