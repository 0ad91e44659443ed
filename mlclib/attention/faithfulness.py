"""Whether the score follows the map: deletion and insertion, as curves, areas, figure and sentence."""

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torchvision.transforms.v2 import functional as vision

from mlclib.attention.localisation import signed_interval
from mlclib.attention.maps import BASELINES, Example, Key, ModelOnSplit, overall
from mlclib.results.style import COLOURS

BLOCKS = 14  # blocks a side that deletion and insertion hide or show
MARKERS = "osD^vP*X"


def faithfulness(subject: ModelOnSplit, shown: Sequence[Example], steps: int = 7) -> pd.DataFrame:
    """Deletion and insertion curves (Petsiuk et al., RISE, BMVC 2018): does the label's probability follow the map?

    Each method's map over all its layers is tried. BLOCKS x BLOCKS blocks of the picture are taken in the order of the
    map. Deletion paints them in the mean colour: the sooner the probability falls, the better. Insertion shows them in
    a blurred picture: the sooner it rises, the better. One row per example, map, curve and step, with the columns
    example, row, method, layer, curve, share (of the blocks taken) and probability.
    """
    frames = [
        frame.assign(example=number, row=example.row)
        for number, example in enumerate(shown)
        for frame in _curves(subject, example, np.linspace(0, 1, steps + 1))
    ]
    return pd.concat(frames, ignore_index=True)


def _curves(subject: ModelOnSplit, example: Example, shares: np.ndarray) -> Iterator[pd.DataFrame]:
    """The two curves of each map of one example."""
    picture, side = subject.pictures([example.row]), subject.transform.size
    blurred = vision.gaussian_blur(picture, [2 * (side // 8) + 1] * 2, [side / 24] * 2)
    ends = {"deletion": (picture, torch.zeros_like(picture)), "insertion": (blurred, picture)}
    keys = overall(example.maps)
    maps = torch.stack([example.maps[key] for key in keys])[:, None]
    rank = F.adaptive_avg_pool2d(maps, BLOCKS).flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1)
    counts = torch.tensor([round(share * BLOCKS**2) for share in shares])
    taken = (rank[:, None] < counts[1:-1, None]).float().view(-1, 1, BLOCKS, BLOCKS)  # [maps * steps within, ...]
    taken = F.interpolate(taken, size=(side, side), mode="nearest")
    for curve, (start, end) in ends.items():
        versions = torch.cat((start, end, torch.where(taken > 0, end, start)))  # both ends are the same for every map
        versions = versions.contiguous(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        with torch.no_grad():
            scores = subject.model(versions).logits.sigmoid()[:, example.label].numpy()
        for key, within in zip(keys, scores[2:].reshape(len(keys), -1), strict=True):
            values = [scores[0], *within, scores[1]]
            yield pd.DataFrame({**key._asdict(), "curve": curve, "share": shares, "probability": values})


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
    drawing, places = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True, layout="constrained")
    for axes, curve in zip(places, ("deletion", "insertion"), strict=True):
        rows = curves[curves["curve"] == curve].groupby(["method", "layer", "share"], sort=False)["probability"].mean()
        for at, key in enumerate(dict.fromkeys(map(Key, areas["method"], areas["layer"]))):
            colour, style = ("0.45", ":") if key.method in BASELINES else (COLOURS[at % len(COLOURS)], "-")
            label = f"{key}: {by_map.loc[[key], curve].mean():.2f}"
            axes.plot(rows[key].sort_index(), style, color=colour, marker=MARKERS[at % len(MARKERS)], ms=5, label=label)
        best, better = _best(areas, curve), "lower" if curve == "deletion" else "higher"
        gain, random = (by_map.loc[[key]].set_index("example") for key in (best, ("random", "")))
        gain = gain.assign(**{curve: gain[curve] - random[curve]})
        sentences.append(
            f"{curve.capitalize()}: {best} is {signed_interval(gain, curve)} from random, {better} is better"
        )
        axes.set(xlabel=f"share of the picture {'hidden' if curve == 'deletion' else 'shown'}", ylim=(0, 1))
        axes.set_title(f"{curve} ({better} is better)")
        axes.legend(frameon=False, title="area", fontsize=9)
        sns.despine(ax=axes)
    places[0].set_ylabel("probability of the label")
    drawing.suptitle("\n".join(sentences), fontsize=13)
    plt.close(drawing)
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
        f"With {100 * first:.0f} % of the picture hidden in the order of {best}, the probability of the label "
        f"falls from {means[(*best, whole)]:.2f} to {means[(*best, first)]:.2f}, in random order to "
        f"{means['random', '', first]:.2f} (means over {deletion['example'].nunique()} examples)."
    )
