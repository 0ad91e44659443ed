"""Whether attention maps are right: scored against the boxes of things, and tried by hiding what they point at."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from mlclib.attention.saliency import Example, Key, Subject, baselines, boxed, explain, overall

BLOCKS = 14  # blocks a side that deletion and insertion hide or show
SIZES = {"small": 0.125, "medium": 0.25, "large": np.inf}  # side share below which a thing is so large
SCORES = ("pointing", "energy", "curve")


def compare(maps: Tensor, masks: Tensor) -> dict[str, np.ndarray]:
    """Scores of maps [M, GRID, GRID] against boolean masks of where the things are: {name: float [M]}, 0 to 1.

    pointing: whether the highest cell lies inside (Zhang et al., IJCV 2018, without their 15 px of tolerance; of cells
    that tie, the share inside). energy: the share of the map inside (Wang et al., Score-CAM, CVPR-W 2020).
    curve: the area under the precision-recall curve of the cells above a threshold, over all thresholds (PxAP of
    Choe et al., CVPR 2020, each map by itself, boxes as masks); a map that says nothing scores the share inside.
    """
    maps, inside = maps.flatten(1), masks.flatten(1)
    highest = maps == maps.amax(1, keepdim=True)
    return {
        "pointing": ((highest & inside).sum(1) / highest.sum(1)).numpy(),
        "energy": ((maps * inside).sum(1) / maps.sum(1)).numpy(),
        "curve": np.array([_curve_area(*one) for one in zip(maps.numpy(), inside.numpy(), strict=True)]),
    }


def localisation(subjects: Mapping[int, Subject], rows: Sequence[int]) -> pd.DataFrame:
    """Every map of every label that an image of `rows` shows, scored against its boxes.

    subjects: the model as each seed trained it, by seed. One row a map, with the columns seed, row, image, label, share
    (of the image's side: the square root of the area of the label's largest box over the image's), size (a key of
    SIZES), method, layer, SCORES, and specific: the curve area less the one that the map of another label shown in the
    same image has in these boxes (NaN where it shows none). A map that is not specific shows where things are,
    not where this label is. Empty where no boxes are known.
    """
    first = next(iter(subjects.values()))
    pairs, frames = [pair for row in rows for pair in boxed(first.split, row)], []
    for start, end in _whole_images([pair[0] for pair in pairs]):
        places, columns, shares, masks = zip(*pairs[start:end], strict=True)
        about = {
            "row": places,
            "image": [first.split.names[row] for row in places],
            "label": [first.labels[column] for column in columns],
            "share": shares,
        }
        others = [_other(places, one) for one in range(len(places))]
        blind = baselines(places, columns)
        for seed, subject in subjects.items():
            maps = explain(subject.model, subject.maps(places), columns, subject.transform.size) | blind
            for key, map in maps.items():
                scores = compare(map, torch.stack(masks))
                swapped = [
                    np.nan if other is None else _curve_area(map[other].numpy().ravel(), mask.numpy().ravel())
                    for other, mask in zip(others, masks, strict=True)
                ]
                scores["specific"] = scores["curve"] - swapped
                frames.append(pd.DataFrame({"seed": seed, **about, **key._asdict(), **scores}))
    columns = ["seed", "row", "image", "label", "share", "method", "layer", *SCORES, "specific"]
    scores = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    edges = [0, *SIZES.values()]
    scores.insert(5, "size", pd.cut(scores["share"].astype(float), edges, right=False, labels=list(SIZES)))
    return scores


def summary(scores: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean scores of `localisation` by method, layer and the columns `by`."""
    groups = scores.groupby([*by, "method", "layer"], sort=False, observed=True)
    return groups[[*SCORES, "specific"]].mean().reset_index()


def over_layers(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of `localisation` that are of each method's map over all its layers."""
    layers = dict(overall(map(Key, scores["method"], scores["layer"])))
    return scores[scores["layer"] == scores["method"].map(layers)]


def faithfulness(subject: Subject, shown: Sequence[Example], steps: int = 7) -> pd.DataFrame:
    """Deletion and insertion curves (Petsiuk et al., RISE, BMVC 2018): does the label's probability follow the map?

    Each method's map over all its layers is tried. BLOCKS x BLOCKS blocks of the picture are taken in the order of the
    map. Deletion paints them in the mean colour: the sooner the probability falls, the better. Insertion shows them in
    a blurred picture: the sooner it rises, the better. One row an example, map, curve and step, with the columns
    example, row, method, layer, curve, share (of the blocks taken) and probability.
    """
    frames = [
        frame.assign(example=number, row=example.row)
        for number, example in enumerate(shown)
        for frame in _curves(subject, example, np.linspace(0, 1, steps + 1))
    ]
    return pd.concat(frames, ignore_index=True)


def _curves(subject: Subject, example: Example, shares: np.ndarray) -> Iterator[pd.DataFrame]:
    """The two curves of each map of one example."""
    picture, side = subject.pictures([example.row]), subject.transform.size
    blurred = vision.gaussian_blur(picture, [2 * (side // 8) + 1] * 2, [side / 24] * 2)
    starts = {"deletion": (picture, torch.zeros_like(picture)), "insertion": (blurred, picture)}
    keys = overall(example.maps)
    maps = torch.stack([example.maps[key] for key in keys])[:, None]
    rank = F.adaptive_avg_pool2d(maps, BLOCKS).flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1)
    counts = torch.tensor([round(share * BLOCKS**2) for share in shares])
    taken = (rank[:, None] < counts[1:-1, None]).float().view(-1, 1, BLOCKS, BLOCKS)  # [maps * steps within, ...]
    taken = F.interpolate(taken, size=(side, side), mode="nearest")
    for curve, (start, end) in starts.items():
        versions = torch.cat((start, end, torch.where(taken > 0, end, start)))  # both ends are the same for every map
        versions = versions.contiguous(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        with torch.no_grad():
            found = subject.model(versions).logits.sigmoid()[:, example.label].numpy()
        for key, within in zip(keys, found[2:].reshape(len(keys), -1), strict=True):
            values = [found[0], *within, found[1]]
            yield pd.DataFrame({**key._asdict(), "curve": curve, "share": shares, "probability": values})


def curve_areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Areas under the curves of `faithfulness`, trapezoids: example, row, method, layer, deletion, insertion."""
    grouped = curves.groupby(["example", "row", "method", "layer", "curve"], sort=False)
    areas = grouped.apply(lambda one: np.trapezoid(one["probability"], one["share"]), include_groups=False)
    return areas.unstack("curve").reset_index()


def _curve_area(map: np.ndarray, inside: np.ndarray) -> float:
    """Mean over the cells inside of the precision of all cells no lower: average precision, ties together."""
    every, hits = np.sort(map), np.sort(map[inside])
    return float(np.mean((len(hits) - np.searchsorted(hits, hits)) / (len(every) - np.searchsorted(every, hits))))


def _whole_images(rows: Sequence[int], size: int = 32) -> list[tuple[int, int]]:
    """Where batches of about `size` begin and end, so that what is of one image, side by side, stays together."""
    found, start = [], 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or (at - start >= size and rows[at] != rows[at - 1]):
            found.append((start, at))
            start = at
    return found


def _other(rows: Sequence[int], one: int) -> int | None:
    """The next place (then from the start again) that has the same row as place `one`; None where there is none."""
    turned = [*range(one + 1, len(rows)), *range(one)]
    return next((other for other in turned if rows[other] == rows[one]), None)
