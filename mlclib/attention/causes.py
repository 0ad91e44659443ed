"""What a label's score rests on: pictures without a label (redrawn.py), or with their things in the wrong place.

Only for `scenes` is the ground truth known that label graphs and attention maps (causal_maps.py) should recover.
Photographs with boxes filled in are a weak substitute. Frames hold a column for each number, and "<number> low" and
"<number> high" for its 95 % interval.
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor

from mlclib.attention import redrawn
from mlclib.attention.maps import GRID, ModelOnSplit
from mlclib.datasets import scenes
from mlclib.datasets.labels import similarity
from mlclib.metrics import resampling
from mlclib.models import title
from mlclib.models.backbones import Backbone
from mlclib.runs.study import Study
from mlclib.transforms import Transform

BATCH = 8  # pictures at a time: larger batches leave a CPU's cache
DRAWS = 500  # resamples of an interval
SHIFTS = {"wrong place": True, "wrong company": False}  # whether the things of a scene stay together


class Panel:
    """The models of an experiment, each as every seed trained it, that look at one picture together.

    subjects: model -> seed -> the model as that seed trained it. A frozen backbone sees each picture once for all.
    draws: whether pictures are drawn again (`redrawn.is_synthetic`).
    """

    def __init__(self, study: Study, subjects: Mapping[str, Mapping[int, ModelOnSplit]]):
        self.is_synthetic = redrawn.is_synthetic(study)
        self.study, self.subjects, self.labels = study, subjects, list(study.dataset.labels)
        setting = study.experiment.backbone
        self.backbone = transparent(setting.name, setting.weights, study.layers) if setting.frozen else None

    def first(self) -> "Panel":
        """Each model as its first seed trained it."""
        one = copy.copy(self)
        one.subjects = {model: dict([next(iter(seeds.items()))]) for model, seeds in self.subjects.items()}
        return one

    def graph(self, model: str) -> np.ndarray | None:
        """The edges between labels of a model's graph [C, C], row i what label i learns from; None without any."""
        kind = next(iter(self.subjects[model].values())).model
        graph = kind.label_graph(self.study.label_info(self.study.experiment.run_config(model)), kind.options)
        return graph.numpy() if graph is not None and graph.fill_diagonal_(0).any() else None

    def seen(self, pictures: Sequence[Image.Image]) -> Callable[[ModelOnSplit], tuple[Tensor, dict[int, Tensor]]]:
        """How each model sees these pictures: as its input [B, 3, S, S], and as the layer maps that follow from it."""

        @cache
        def shared(transform: Transform) -> tuple[Tensor, dict[int, Tensor] | None]:
            images = torch.stack([transform(picture) for picture in pictures])
            # channels last is nearly twice as fast on a CPU
            inputs = images.contiguous(memory_format=torch.channels_last).requires_grad_()
            return inputs, None if self.backbone is None else self.backbone(inputs)

        def view(subject: ModelOnSplit) -> tuple[Tensor, dict[int, Tensor]]:
            inputs, maps = shared(subject.transform)
            return inputs, maps or subject.model.backbone(inputs)

        return view

    def logits(self, pictures: Sequence[Image.Image]) -> dict[str, np.ndarray]:
        """The logits of N pictures by model, float32 [S, N, C]."""
        batches = {model: [] for model in self.subjects}
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                view = self.seen(pictures[start : start + BATCH])
                for model, seeds in self.subjects.items():
                    seen = [subject.model.classify(view(subject)[1]).logits for subject in seeds.values()]
                    batches[model].append(torch.stack(seen))
        return {model: torch.cat(parts, 1).numpy() for model, parts in batches.items()}


def transparent(name: str, weights: str | None, layers: tuple[int, ...]) -> Backbone:
    """A backbone that learns nothing, and that gradients pass through to the picture."""
    return Backbone(name, weights, layers).eval().requires_grad_(False)


class Pairs(NamedTuple):
    """P pairs of pictures: one of N test images, and the same image without the things of one label.

    rows, labels: int [P], the image and the label that goes. regions: float32 [P, GRID, GRID], the share of each cell
    whose pixels change. untouched: bool [P, C], the other labels whose visible boxes do not. targets: int8 [N, C].
    whole, without: by model the logits of the images [S, N, C], and of those without a label [S, P, C].
    """

    rows: np.ndarray
    labels: np.ndarray
    regions: Tensor
    untouched: np.ndarray
    targets: np.ndarray
    whole: dict[str, np.ndarray]
    without: dict[str, np.ndarray]

    def falls(self, model: str) -> np.ndarray:
        """By how much the logit of each label falls, [S, P, C]."""
        return self.whole[model][:, self.rows] - self.without[model]


def pairs(panel: Panel, count: int) -> Pairs:
    """The first `count` test images, and each of them again without each of its labels (`redrawn.versions`)."""
    parts, pictures = [], []
    targets = panel.study.dataset.splits["test"].targets[:count]
    for row in range(len(targets)):
        shown = redrawn.removable(panel.study, row)
        (whole, boxes), *lacking = redrawn.versions(panel.study, row, shown)
        pictures.append(whole)
        for label, (picture, left) in zip(shown, lacking, strict=True):
            changed = (np.asarray(picture) != np.asarray(whole)).any(2)
            region = F.adaptive_avg_pool2d(torch.from_numpy(changed)[None].float(), GRID)[0]
            # a difficult thing has no box: it may have been touched
            apart = zip(panel.labels, targets[row], strict=True)
            untouched = [one != label and left.get(one) == boxes.get(one) and target != 0 for one, target in apart]
            parts.append((row, panel.labels.index(label), region, untouched, picture))
    rows, labels, regions, untouched, again = zip(*parts, strict=True)
    arrays = np.array(rows), np.array(labels), torch.stack(regions), np.array(untouched), targets
    return Pairs(*arrays, panel.logits(pictures), panel.logits(again))


def effects(panel: Panel, removed: Pairs) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """One row per model: how its logits depend on the things in the picture. And by model the support of label a for b,
    [C, C], in % of the mean fall: how far the logit of b falls when the things of a are removed, mean over the images
    where the visible boxes of b are unchanged.

    Columns: model; "fall" of the logit of the label that goes; "lost, %" of the recognised labels that go, those no
    longer predicted; "others, %", how far the logits of other labels move, up or down, as a share of the fall; the rank
    correlations of what labels lend each other "with co-occurrence" (the log odds ratio of two labels in the training
    images), "with own graph", and "with learnt vectors" (their cosine similarity).
    """
    odds = odds_ratios(panel.study)
    every = {model: _effects_of(panel, removed, model, odds) for model in panel.subjects}
    rows = [{"model": model} | row for model, (row, _) in every.items()]
    return pd.DataFrame(rows), {model: lent for model, (_, lent) in every.items()}


def _effects_of(panel: Panel, removed: Pairs, model: str, odds: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """`effects` of one model."""
    falls, graph, at = removed.falls(model), panel.graph(model), np.arange(len(removed.rows))
    vectors = [subject.model.embeddings()[1].detach().numpy() for subject in panel.subjects[model].values()]
    beside = {
        "with co-occurrence": odds,
        "with own graph": np.full_like(odds, np.nan) if graph is None else graph.T,
        "with learnt vectors": np.mean([similarity(one) for one in vectors], axis=0),
    }
    taken, other = removed.labels == np.arange(len(odds))[:, None], ~np.eye(len(odds), dtype=bool)
    predicted = removed.whole[model][:, removed.rows, removed.labels] >= 0
    lost, own = predicted & (removed.without[model][:, at, removed.labels] < 0), falls[:, at, removed.labels]
    moved = (abs(falls) * removed.untouched).sum(2) / removed.untouched.sum(1)

    def lent(often, seeds):
        with np.errstate(invalid="ignore"):
            return (taken * often) @ (falls[seeds].mean(0) * removed.untouched) / ((taken * often) @ removed.untouched)

    def scores(often, seeds):
        fall, moves = (np.average(one[seeds].mean(0), weights=often) for one in (own, moved))
        shares = {"fall": fall, "lost, %": 100 * (lost[seeds] @ often).sum() / (predicted[seeds] @ often).sum()}
        between = lent(often, seeds)[other]
        fits = {name: rank_correlation(between, one[other]) for name, one in beside.items()}
        return shares | {"others, %": 100 * moves / fall} | fits

    row = resampled(scores, removed.rows, len(falls))
    return row, 100 * lent(np.ones(len(at)), slice(None)) / row["fall"]


def odds_ratios(study: Study) -> np.ndarray:
    """The log odds ratio of each two labels in the training images, 1/2 added to each count: [C, C]."""
    (both, totals), images = study.cooccurrence, len(study.dataset.splits["train"])
    one, other = totals[:, None] - both, totals - both
    return np.log((both + 0.5) * (images - one - other - both + 0.5) / ((one + 0.5) * (other + 0.5)))


def context(panel: Panel, removed: Pairs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each model loses where things stand in the wrong place or company, and whether a label graph adds to it.

    For scenes alone, as many as in `removed`. The first frame has a row per model: model, mAP, and for each of SHIFTS
    the "Δ" to it, in points. The second has Δ of a model with edges between labels less Δ of one of its class "without"
    edges, and no row where no two models differ so.
    """

    def draws(logits: Mapping[str, np.ndarray], targets: np.ndarray, seed: int) -> np.ndarray:  # mAP [M, 1 + draws]
        scores = [resampling.bootstrap_scores(one, targets, draws=2 * DRAWS, seed=seed) for one in logits.values()]
        return 100 * np.stack([resampling.mean_over_seeds(one, number) for number, one in enumerate(scores)])

    models, whole, lost = list(removed.whole), draws(removed.whole, removed.targets, 0), {}
    for seed, (name, together) in enumerate(SHIFTS.items(), 1):
        moved = scenes.misplaced(redrawn.seed(panel.study), redrawn.TEST, len(removed.targets), together)
        pictures, about = zip(*moved, strict=True)
        targets = np.array([scenes.targets(one["boxes"]) for one in about])
        lost[f"Δ {name}"] = draws(panel.logits(pictures), targets, seed) - whole
    numbers = [_intervals({name: values[at] for name, values in lost.items()}) for at in range(len(models))]
    rows = [{"model": model, "mAP": whole[at, 0]} | numbers[at] for at, model in enumerate(models)]
    kinds = [type(next(iter(panel.subjects[model].values())).model) for model in models]
    edges = [at for at, model in enumerate(models) if panel.graph(model) is not None]
    compared = []
    for one, other in itertools.product(edges, range(len(models))):
        if other not in edges and kinds[one] is kinds[other]:
            gaps = {name: values[one] - values[other] for name, values in lost.items()}
            compared.append({"model": models[one], "without": models[other]} | _intervals(gaps))
    return pd.DataFrame(rows), pd.DataFrame(compared)


def examples(panel: Panel, removed: Pairs, count: int = 4) -> list[tuple[Image.Image, Image.Image, str, list]]:
    """Pairs to look at, of the label whose logit falls most of the first images: whole, without, words, boxes."""
    shown, model = [], next(iter(removed.whole))
    falls = removed.falls(model).mean(0)[np.arange(len(removed.rows)), removed.labels]
    for row in np.unique(removed.rows)[:count]:
        at = max(np.flatnonzero(removed.rows == row), key=lambda pair: falls[pair])
        label = panel.labels[removed.labels[at]]
        (whole, boxes), (without, _) = redrawn.versions(panel.study, row, [label])
        logit = removed.whole[model][:, row, removed.labels[at]].mean()
        words = f"{label}, {title(model)}: {logit:+.1f} to {logit - falls[at]:+.1f}"
        shown.append((whole, without, words, boxes[label]))
    return shown


def resampled(scores: Callable[..., dict[str, float]], rows: np.ndarray, seeds: int) -> dict[str, float]:
    """Each score with its bootstrap interval over images and seeds (NaN for a single image). scores: functions of the
    weights of the values [P] and the chosen seeds. rows: the image of each value [P].
    """
    rng, (images, of_image) = np.random.default_rng(0), np.unique(rows, return_inverse=True)
    drawn = [scores(np.ones(len(rows)), np.arange(seeds))]
    for _ in range(DRAWS):
        often = np.bincount(rng.integers(len(images), size=len(images)), minlength=len(images))
        drawn.append(scores(often[of_image].astype(float), rng.integers(seeds, size=seeds)))
    numbers = _intervals({name: np.array([one[name] for one in drawn]) for name in drawn[0]})
    return numbers if len(images) > 1 else numbers | {name: np.nan for name in numbers if name not in drawn[0]}


def _intervals(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Each score and the two ends of its interval, from its draws [1 + draws], the plain one first."""
    numbers = {}
    for name, draws in scores.items():
        numbers[name], (numbers[f"{name} low"], numbers[f"{name} high"]) = draws[0], resampling.interval(draws)
    return numbers


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, over the places where both are known; NaN where there are none, or where either is constant."""
    both = np.stack([one, other])
    finite = both[:, ~np.isnan(both).any(0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(rankdata(finite, axis=1))[0, 1]) if finite.size else np.nan
