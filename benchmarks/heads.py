"""What each model's head costs beside its backbone: parameters, multiply-adds, time and memory.

    python -m benchmarks.heads

Heads read the maps of ResNet-101 at 448 px and take turns with each other and with the bare backbone, in one process;
a training step is the head's forward, loss and backward (to the maps too) and SGD. Heads that are written otherwise
than their authors wrote them stand beside the published formulation, after logits and gradients were compared in
float64 (in float32 a unit that rounding moves across the kink of its ReLU changes gradients by parts of a thousand).
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.models import CUDA, DEVICE, INPUT, SIZES, build, peak, timed
from benchmarks.report import row
from mlclib import models
from mlclib.models.add_gcn import ADDGCN
from mlclib.models.base import Output
from mlclib.models.cost import head_multiply_adds, multiply_adds
from mlclib.models.csra import CSRA, MAXIMUM, TEMPERATURES
from mlclib.models.ml_decoder import MLDecoder
from mlclib.models.query2label import Query2Label
from mlclib.models.ssgrl import SSGRL
from mlclib.models.transformer import Layer

BATCH = 16 if CUDA else 2
PUBLISHED_BATCH = 4  # of SSGRL's recipe


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


class PublishedADDGCN(ADDGCN):
    """ADD-GCN: every label's vector by every label's weights [B, C, C], of which a mask keeps the diagonal.

    Ours too transforms all cells before it sums them. The sum first would take a quarter of the multiply-adds at 20
    labels, and rounds otherwise: a unit that so crosses the kink of its LeakyReLU moved a gradient norm of the golden
    arrays by 0.3 %, where parity allows 0.01 %.
    """

    def scored(self, z: Tensor) -> Tensor:
        return (self.last(z) * torch.eye(z.shape[2], device=z.device)).sum(2)


class PublishedCSRA(CSRA):
    """CSRA: a convolution a head, and scores, not classifiers, divided by the classifiers' norms."""

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        logits = 0
        for head, temperature in zip(self.heads, TEMPERATURES[self.options.heads], strict=True):
            scores = (head(maps[4]) / head.weight.norm(dim=1, keepdim=True).transpose(0, 1)).flatten(2)
            top = scores.amax(2) if temperature == MAXIMUM else (scores * (scores * temperature).softmax(2)).sum(2)
            logits = logits + scores.mean(2) + self.options.lam * top
        return Output(logits)


class PublishedLayer(Layer):
    """A transformer layer that makes attention weights that nobody looks at, and holds its hidden units twice."""

    def forward(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, weights: bool = True):
        attended, attention = self.attention(query, key, value)
        x = self.norm_attended(x + self.dropout(attended))
        return self.norm(x + self.dropout(self.linear2(self.dropout(self.linear1(x).relu())))), attention


class PublishedQuery2Label(Query2Label):
    """Query2Label: layers that make their attention weights."""


class PublishedMLDecoder(MLDecoder):
    """ML-Decoder: the same, and a loop over the queries in place of one product."""

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        memory = self.embed(maps[4].flatten(2).transpose(1, 2)).relu()
        decoded, _ = self.decode(self.queries.expand(memory.shape[0], -1, -1), memory)
        logits = [decoded[:, k] @ self.weight[k] for k in range(len(self.weight))]
        return Output(torch.stack(logits, 1).flatten(1)[:, : len(self.bias)] + self.bias)


PUBLISHED = {
    "ssgrl": PublishedSSGRL,
    "query2label": PublishedQuery2Label,
    "ml_decoder": PublishedMLDecoder,
    "add_gcn": PublishedADDGCN,
    "csra": PublishedCSRA,
}


def as_published(model: models.Classifier, name: str) -> None:
    """Turn a model, weights and all, into its authors' formulation. Those not in PUBLISHED are theirs already."""
    model.__class__ = PUBLISHED[name]
    for module in model.modules():
        if isinstance(module, Layer):
            module.__class__ = PublishedLayer


class Head(nn.Module):
    """A model without its backbone, and the maps and labels that it is measured on."""

    def __init__(self, name: str, labels: int, ratio: float, maps: Mapping[int, Tensor], **options: object):
        super().__init__()
        self.model = build(name, labels, ratio, **options)
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
        alone = name == "backbone"
        products = multiply_adds(run) / BATCH if alone else head_multiply_adds(module.model, module.maps)
        costs = {
            "parameters": (sum(p.numel() for p in module.parameters()) / 1e6, "M"),
            "multiply-adds": (products / 1e9, "G an image"),
            "forward": (1e3 * seconds / BATCH, "ms an image"),
            "training step": (1e3 * both / BATCH, "ms an image"),
            "peak memory of a training step": (peak(step) / 2**20, "MiB"),
        }
        bare = costs if alone else bare
        for what, (value, unit) in costs.items():
            share = "" if alone else f", {100 * value / bare[what][0]:.3g} % of the backbone's"
            rows.append(row(f"head, {name}, {labels} labels, {what}", value, unit, note + share))
    return rows


def same_gradients(ours: Head, theirs: Head) -> None:
    """Raise AssertionError where two heads in float64 differ in a logit or a gradient."""
    torch.testing.assert_close(ours().double(), theirs().double(), rtol=1e-6, atol=1e-6)
    for head in (ours, theirs):
        head.loss().backward()
    whole = torch.stack([parameter.grad.abs().max() for parameter in ours.parameters()]).max().item()
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(key).grad, rtol=1e-5, atol=1e-7 * whole)


def kept(head: Head) -> int:
    """Bytes that a head's forward and loss keep for the backward pass, beside its maps, weights and buffers."""
    beside = (*head.parameters(), *head.buffers(), *head.maps.values())
    given = {tensor.untyped_storage().data_ptr() for tensor in beside}
    held = {}

    def hold(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        head.loss()
    return sum(storage.nbytes() for place, storage in held.items() if place not in given)


def published_rows(size: str) -> list[dict[str, object]]:
    """Heads against their published formulations, in speed and in memory."""
    labels, ratio = SIZES[size]
    side = INPUT // 32  # the stride of layer 4
    map = torch.randn(PUBLISHED_BATCH, 2048, side, side, device=DEVICE).relu()
    maps = {4: map.to(memory_format=torch.channels_last)}  # as a backbone makes them
    rows = []
    for name in PUBLISHED:
        options = {"heads": 6, "lam": 0.4} if (name, size) == ("csra", "COCO") else {}  # its recipe there
        ours, theirs = (Head(name, labels, ratio, maps, **options).eval() for _ in range(2))  # no dropout to compare
        as_published(theirs.model, name)
        theirs.load_state_dict(ours.state_dict())
        theirs.targets = ours.targets
        pair = [copy.deepcopy(head).double() for head in (ours, theirs)]
        for head in pair:
            head.maps = {layer: map.detach().double().requires_grad_() for layer, map in maps.items()}
        same_gradients(*pair)
        del pair
        steps = [Learning(head.train(), head.loss) for head in (ours, theirs)]
        forward = [partial(scored, head, head) for head in (ours, theirs)]
        gradients = sum(parameter.nbytes for parameter in ours.parameters())
        gradients += sum(map.nbytes for map in ours.maps.values())
        note, line = f"{labels} labels, batch {PUBLISHED_BATCH}: ", f"head, {name}, {labels} labels"
        for what, runs in (("forward", forward), ("training step", steps)):
            own, published = timed(*runs)
            times = f"{1e3 * own:.3g} ms against {1e3 * published:.3g} ms"
            rows.append(row(f"{line}, {what} against the published", published / own, "x the speed", note + times))
        for what, held in (
            ("memory of forward", [peak(run) for run in forward]),
            ("memory of a training step", [peak(step) for step in steps]),
            ("memory kept for the backward pass", [kept(head) for head in (ours, theirs)]),
        ):
            sizes = f"{held[0] / 2**20:.4g} MiB against {held[1] / 2**20:.4g} MiB"
            if what == "memory of a training step":
                sizes += f", {gradients / 2**20:.4g} MiB of both the gradients of weights and maps"
            rows.append(row(f"{line}, {what} against the published", held[0] / held[1], "of it", note + sizes))
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
