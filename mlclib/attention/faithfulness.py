"""Whether the score follows the map: deletion and insertion, as curves, areas, figure and sentence."""

from collections.abc import Sequence
from itertools import groupby, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from mlclib.attention.imputation import impute
from mlclib.attention.localisation import signed_interval
from mlclib.attention.maps import BASELINES, Example, Key, ModelOnSplit, overall
from mlclib.results.style import COLOURS

BLOCKS = 14  # blocks a side that deletion and insertion hide or show
BATCH = 4  # pictures at a time: larger batches leave the cache, and are handed new pages of memory each time
MARKERS = "osD^vP*X"


def faithfulness(subject: ModelOnSplit, shown: Sequence[Example], steps: int = 7) -> pd.DataFrame:
    """Deletion and insertion curves (Petsiuk et al., RISE, BMVC 2018): does the label's probability follow the map?

    shown: examples, those of one image side by side. BLOCKS x BLOCKS blocks of the picture are taken in the order of
    each method's map over all its layers. Deletion fills them from around them (`imputation.impute`), and all of them
    with the mean colour: the sooner the probability falls, the better. Insertion shows them in a blurred picture: the
    sooner it rises, the better. A row per example, map, curve and step: example, row, share (of the blocks taken),
    method, layer, curve, probability.
    """
    shares, frames = np.linspace(0, 1, steps + 1), []
    counts = torch.tensor([round(share * BLOCKS**2) for share in shares])
    for row, of_image in groupby(enumerate(shown), key=lambda pair: pair[1].row):
        numbers, examples = zip(*of_image, strict=True)
        keys = overall(examples[0].maps)
        maps = torch.stack([example.maps[key] for example in examples for key in keys])[:, None]
        rank = F.adaptive_avg_pool2d(maps, BLOCKS).flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1)
        # The centre map is that of every label, and both ends are those of every map: each is looked at once.
        taken, places = (rank[:, None] < counts[:, None]).flatten(0, 1).unique(dim=0, return_inverse=True)
        places = places.view(len(examples), len(keys), len(shares))
        curves = _probabilities(subject, row, taken)
        for number, example, of_example in zip(numbers, examples, places, strict=True):
            about = {"example": number, "row": row, "share": shares}
            for (curve, scores), (key, at) in product(curves.items(), zip(keys, of_example.numpy(), strict=True)):
                columns = {**about, **key._asdict(), "curve": curve, "probability": scores[at, example.label]}
                frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _probabilities(subject: ModelOnSplit, row: int, taken: Tensor) -> dict[str, np.ndarray]:
    """For either curve the probabilities [M, C] of an image of which these blocks are taken, bool [M, BLOCKS ** 2]."""
    picture, side = subject.transform(subject.picture(row))[None], subject.transform.size
    blurred = vision.gaussian_blur(picture, [2 * (side // 8) + 1] * 2, [side / 24] * 2)
    curves = {"deletion": [], "insertion": []}
    for blocks in taken.view(-1, 1, BLOCKS, BLOCKS).split(BATCH):
        within = F.interpolate(blocks.float(), size=(side, side), mode="nearest") > 0
        deleted = torch.stack([impute(picture[0], hole) for hole in within[:, 0]])
        for curve, versions in (("deletion", deleted), ("insertion", torch.where(within, picture, blurred))):
            # channels last is nearly twice as fast on a CPU
            versions = versions.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                curves[curve].append(subject.model(versions).logits.sigmoid())
    return {curve: torch.cat(parts).numpy() for curve, parts in curves.items()}


def curve_areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Areas under the curves of `faithfulness`, trapezoids: example, row, method, layer, deletion, insertion."""
    grouped = curves.groupby(["example", "row", "method", "layer", "curve"], sort=False)
    areas = grouped.apply(lambda one: np.trapezoid(one["probability"], one["share"]), include_groups=False)
    return areas.unstack("curve").reset_index()


def _best(areas: pd.DataFrame, curve: str) -> Key:
    """The map that `deletion` follows soonest, or `insertion`, by the mean of its areas; no baseline."""
    means = areas[~areas["method"].isin(BASELINES)].groupby(["method", "layer"], sort=False)[curve].mean()
    return Key(*(means.idxmin() if curve == "deletion" else means.idxmax()))


def figure(curves: pd.DataFrame) -> Figure:
    """Deletion and insertion curves, means over the examples, with their areas.

    The title says by how much the best map beats the random one, with its 95 % interval over images.
    """
    areas, sentences = curve_areas(curves), []
    by_map = areas.set_index(["method", "layer"])
    means = curves.groupby(["curve", "method", "layer", "share"], sort=False)["probability"].mean()
    drawing, places = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True, layout="constrained")
    for axes, curve in zip(places, ("deletion", "insertion"), strict=True):
        for at, key in enumerate(map(Key._make, by_map.index.unique())):
            colour, style = ("0.45", ":") if key.method in BASELINES else (COLOURS[at % len(COLOURS)], "-")
            look = {"color": colour, "marker": MARKERS[at % len(MARKERS)], "ms": 5}
            label = f"{key}: {by_map.loc[[key], curve].mean():.2f}"
            axes.plot(means[curve, *key].sort_index(), style, label=label, **look)
        best, better = _best(areas, curve), "lower" if curve == "deletion" else "higher"
        gain, random = (by_map.loc[[key]].set_index("example") for key in (best, ("random", "")))
        gain = gain.assign(**{curve: gain[curve] - random[curve]})
        gap = signed_interval(gain, curve)
        sentences.append(f"{curve.capitalize()}: {best} is {gap} from random, {better} is better")
        axes.set(xlabel=f"share of the picture {'hidden' if curve == 'deletion' else 'shown'}", ylim=(0, 1))
        axes.set_title(f"{curve} ({better} is better)")
        axes.legend(frameon=False, title="area", fontsize=9)
        sns.despine(ax=axes)
    places[0].set_ylabel("probability of the label")
    drawing.suptitle("\n".join(sentences), fontsize=13)
    return drawing


def finding(curves: pd.DataFrame) -> str:
    """In a sentence: how far the probability falls when the first step is hidden in the order of the best map by the
    area of deletion, and in random order.
    """
    deletion = curves[curves["curve"] == "deletion"]
    means = deletion.groupby(["method", "layer", "share"], sort=False)["probability"].mean()
    best = _best(curve_areas(curves), "deletion")
    whole, first = sorted(deletion["share"].unique())[:2]
    return (
        f"When the {100 * first:.0f} % of the picture with the highest weights of {best} are hidden, the probability "
        f"of the label falls from {means[(*best, whole)]:.2f} to {means[(*best, first)]:.2f}. Hidden at random, it "
        f"falls to {means['random', '', first]:.2f} (means over {deletion['example'].nunique()} examples)."
    )
