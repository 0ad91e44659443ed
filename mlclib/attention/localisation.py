"""Whether attention maps lie on the things: scored against boxes, as numbers, tables, figure and sentences."""

from collections.abc import Iterator, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from mlclib.attention.maps import BASELINES, BoxedLabel, Key, ModelOnSplit, baselines, boxed_labels, explain, overall
from mlclib.metrics import resampling
from mlclib.models import title
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table, written
from mlclib.runs.store import FinishedRun

SIZES = {"small": 0.125, "medium": 0.25, "large": np.inf}  # side share below which a thing is so large
SCORES = {"pointing": "pointing game", "energy": "energy inside", "curve": "curve area"}  # name: title of its axis
LINES = {"2": "layer 2", "3": "layer 3", "4": "layer 4", "all": "all layers"}

BATCH = 24  # labels at a time: batches of one size leave fewer holes in the memory


def compare(maps: Tensor, masks: Tensor) -> dict[str, np.ndarray]:
    """Scores of maps against boolean masks of where the things are, both [B, K, GRID, GRID]: {name: float [B, K]}.

    pointing: whether the highest cell lies inside (Zhang et al., IJCV 2018, without their 15 px of tolerance; of cells
    that tie, the share inside). energy: the share of the map inside (Wang et al., Score-CAM, CVPR-W 2020).
    curve: the area under the precision-recall curve of the cells above a threshold, over all thresholds (PxAP of
    Choe et al., CVPR 2020, each map by itself, boxes as masks); a map that says nothing scores the share inside.
    specific: by how much the curve area exceeds that of the map of the image's next label; NaN where there is none.
    """
    maps, inside = maps.flatten(2), masks.flatten(2)
    highest = maps == maps.amax(2, keepdim=True)
    pointing, energy = (highest & inside).sum(2) / highest.sum(2), (maps * inside).sum(2) / maps.sum(2)
    maps, inside = maps.numpy(), inside.numpy()
    ascending = np.sort(maps, axis=2)  # five times as fast as torch's sort, which finds the places too
    curve, other = np.full((2, *maps.shape[:2]), np.nan)
    for image, label in np.ndindex(curve.shape):
        for areas, of in ((curve, label), (other, (label + 1) % maps.shape[1])):
            hits = maps[image, of][inside[image, label]]
            areas[image, label] = _curve_area(ascending[image, of], np.sort(hits))
    specific = curve - other if maps.shape[1] > 1 else np.full_like(curve, np.nan)
    return {"pointing": pointing.numpy(), "energy": energy.numpy(), "curve": curve, "specific": specific}


def localisation(subjects: Mapping[int, ModelOnSplit], rows: Sequence[int]) -> pd.DataFrame:
    """Every map of every label that an image of `rows` shows, scored against its boxes.

    subjects: the model as each seed trained it, by seed. One row per map, with the columns seed, row, image, label,
    share (of the image's side: the square root of the area of the label's largest box over the image's), size (a key of
    SIZES), method, layer, SCORES, and specific (`compare`). A map that is not specific shows where things are, not
    where this label is. Empty where no boxes are known.
    """
    _, _, _, split, names = next(iter(subjects.values()))
    boxed = {row: boxed_labels(split, row) for row in rows}
    frames = []
    for batch in batches(boxed):
        labels = [[one.label for one in boxed[row]] for row in batch]
        masks = torch.stack([torch.stack([one.mask for one in boxed[row]]) for row in batch])
        about = pd.DataFrame(
            [(row, split.names[row], names[one.label], one.share) for row in batch for one in boxed[row]],
            columns=["row", "image", "label", "share"],
        )
        blind = _score(about, baselines(batch, labels), masks)  # these know no seed
        for seed, subject in subjects.items():
            maps = explain(subject.model, subject.layer_maps(batch), labels, subject.transform.size)
            frames += [frame.assign(seed=seed) for frame in _score(about, maps, masks) + blind]
    columns = ["seed", "row", "image", "label", "share", "method", "layer", *SCORES, "specific"]
    scores = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    edges = [0, *SIZES.values()]
    scores.insert(5, "size", pd.cut(scores["share"].astype(float), edges, right=False, labels=list(SIZES)))
    return scores


def batches(boxed: Mapping[int, Sequence[BoxedLabel]]) -> Iterator[list[int]]:
    """The images that have boxes, at most BATCH labels at a time, each time of the same number of labels."""
    for count in sorted({len(labels) for labels in boxed.values()} - {0}, reverse=True):
        alike, step = [row for row, labels in boxed.items() if len(labels) == count], max(1, BATCH // count)
        for start in range(0, len(alike), step):
            yield alike[start : start + step]


def _score(about: pd.DataFrame, maps: Mapping[Key, Tensor], masks: Tensor) -> list[pd.DataFrame]:
    """The scores of maps {key: [B, K, GRID, GRID]}, one frame per key. about: the first columns, a row per label."""
    return [
        about.assign(**key._asdict(), **{score: values.ravel() for score, values in compare(map, masks).items()})
        for key, map in maps.items()
    ]


def summary(scores: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean scores of `localisation` by method, layer and the columns `by`."""
    groups = scores.groupby([*by, "method", "layer"], sort=False, observed=True)
    return groups[[*SCORES, "specific"]].mean().reset_index()


def over_layers(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of `localisation` that are of each method's map over all its layers."""
    layers = dict(overall(map(Key, scores["method"], scores["layer"])))
    return scores[scores["layer"] == scores["method"].map(layers)]


def mean_interval(rows: pd.DataFrame, score: str) -> tuple[float, float, float]:
    """Mean score of maps and its 95 % interval over images and seeds; rows without a score are left out."""
    rows = rows.dropna(subset=score)
    seeds = rows["seed"] if "seed" in rows else np.zeros(len(rows))
    return resampling.of_means(rows[score].to_numpy(), rows["row"].to_numpy(), np.asarray(seeds))


def signed_interval(rows: pd.DataFrame, score: str) -> str:
    """`mean_interval` of a difference in words: "+0.10 [+0.05, +0.15]"."""
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*mean_interval(rows, score))


def tables(scores: pd.DataFrame, model: str, experiment: str, runs: list[FinishedRun]) -> list[Table]:
    """`localisation` as two tables, by size of the things and by label; none where nothing was scored.

    runs: those of the experiment's model that were looked at.
    """
    if scores.empty:
        return []
    name = title(model)
    caption = (
        f"{name} of experiment {experiment}. In percent. Pointing: the highest cell lies in a box of the label; "
        "energy: share of the map inside; curve: area under the precision-recall curve of the cells; specific: by how "
        "much it exceeds that of the map of another label which the image shows (0: the map is not the label's). Small "
        "things take less than 1/8 of the image's side (square root of the area), large ones 1/4 or more. Centre and "
        "random saw no image."
    )
    by_size = _by_map(scores)
    each = pd.concat([_by_map(one) for _, one in scores.groupby("seed")])
    spread = each.groupby(level=["method", "layer"], sort=False).std().drop(index=list(BASELINES), level=0)
    spread = spread.reindex(by_size.index).reset_index(drop=True)  # none for what saw neither image nor seed
    by_size = by_size.reset_index()
    things = scores.drop_duplicates(["row", "label"])
    sizes = ", ".join(f"{count} {size}" for size, count in things["size"].value_counts(sort=False).items())
    methods = list(by_size["method"].unique())
    areas = summary(over_layers(scores), ["label"]).pivot(index="label", columns="method", values="curve")
    by_label = things.groupby("label", sort=False).agg(things=("row", "size"), share=("share", "mean"))
    by_label = by_label.assign(share=100 * by_label["share"]).join(areas[methods].mul(100))
    return [
        Table(
            name=f"localisation-{model}",
            title=f"Where the maps of {name} lie: {len(things)} labels in {things['row'].nunique()} images ({sizes})",
            frame=by_size,
            runs={"": runs},
            caption=caption,
            spread=spread,
            best=tuple(by_size.columns[2:]),
        ),
        Table(
            name=f"localisation-{model}-labels",
            title=f"Area under the localisation curve of {name} by label, smallest things first",
            frame=by_label.sort_values("share", kind="stable").reset_index(),
            runs={"": runs},
            caption=f"{caption} share: mean share of the side. Maps of several layers are the mean over them.",
            formats={"things": ".0f"},
            best=tuple(methods),
            across=True,
        ),
    ]


def tables_finding(both: Sequence[Table]) -> str:
    """In a sentence, from `tables`: on which labels maps lie best, and whether the size of the things matters.

    Of the methods it speaks of the one that lies best on average.
    """
    if not both:
        return "No boxes are known here, so no label's map is scored."
    frame = both[1].frame
    areas = frame[[column for column in frame.columns[3:] if column not in BASELINES]]
    method = areas.mean().idxmax()
    best, worst = (
        f"{frame['label'][at]} ({areas[method][at]:.0f})" for at in (areas[method].idxmax(), areas[method].idxmin())
    )
    text = f"By label, {method} maps lie best on {best} and worst on {worst}, by curve area"
    if len(frame) < 3:
        return f"{text}."
    rank = spearmanr(frame["share"], areas[method]).statistic
    larger = "are found better" if rank > 0.3 else "are found worse" if rank < -0.3 else "are found no better"
    return f"{text}; labels of larger things {larger} (rank correlation {written(rank, '+.2f')})."


def figure(scores: pd.DataFrame) -> Figure:
    """Mean scores of `localisation` by the size of the things: a column per method, a line per layer.

    Bars are 95 % intervals over images and seeds; grey lines are the centre and the random map. The title says by how
    much a label's own map lies better in its boxes than that of another label shown: the interval of `specific`.
    """
    if scores.empty:
        return text_figure("No boxes are known here, so the maps are shown and not scored")
    methods = [method for method in dict.fromkeys(scores["method"]) if method not in BASELINES]
    # the baselines stand beside each method
    beside = [scores[scores["method"].isin([method, *BASELINES])].assign(column=method) for method in methods]
    rows = pd.concat(beside).assign(line=lambda frame: frame["layer"].map(LINES).fillna(frame["method"]))
    rows = rows.melt([*rows.columns.difference(SCORES)], list(SCORES), "score")
    rows["size"] = rows["size"].cat.remove_unused_categories()
    lines = [line for line in (*LINES.values(), *BASELINES) if (rows["line"] == line).any()]
    facets = sns.catplot(
        rows, x="size", y="value", row="score", col="column", hue="line", hue_order=lines, kind="point",
        palette={**dict(zip(LINES.values(), (*COLOURS[:3], "black"), strict=True)), **dict.fromkeys(BASELINES, "0.45")},
        linestyles=[{"centre": "--", "random": ":"}.get(line, "-") for line in lines], dodge=0.2, lw=1.8, ms=5,
        errorbar=lambda values: mean_interval(rows.loc[values.index], "value")[1:], sharey="row", height=2.6,
    )  # fmt: skip
    for score, axes in zip(SCORES.values(), facets.axes[:, 0], strict=True):
        axes.set(ylabel=score, ylim=(0, None))
    facets.set_titles("").set_xlabels("things")
    for method, axes in zip(methods, facets.axes[0], strict=True):
        axes.set_title(method)
    sns.move_legend(facets, "center right", title=None)
    own = over_layers(scores[~scores["method"].isin(BASELINES)]).dropna(subset="specific").groupby("method", sort=False)
    gains = ", ".join(f"{method} {signed_interval(rows, 'specific')}" for method, rows in own)
    facets.figure.suptitle(f"A label's own map against another label's map, by curve area:\n{gains}", y=1.05)
    plt.close(facets.figure)
    return facets.figure


def figure_finding(scores: pd.DataFrame) -> str:
    """In a sentence per method: in which layer small and large things are found best, and on things of which size the
    map over all layers lies better than both maps that saw no image.

    All by the curve area. In brackets stands that of the better of the two maps that saw no image.
    """
    if scores.empty:
        return "No boxes are known here, so nothing is said of where the maps lie."
    means = scores.groupby(["method", "layer", "size"], observed=True)["curve"].mean()
    blind = means.loc[list(BASELINES)].groupby("size", observed=True).max()
    sentences = []
    for method, layer in overall(map(Key, scores["method"], scores["layer"])):
        if method in BASELINES:
            continue
        layers = means[method].drop("all", errors="ignore").unstack("size")
        best = [
            f"{size} things best in layer {layers[size].idxmax()} ({layers[size].max():.2f}, blind {blind[size]:.2f})"
            for size in dict.fromkeys((blind.index[0], blind.index[-1]))
        ]
        better = [size for size in blind.index if means[method, layer, size] > blind[size]]
        where = "every size" if len(better) == len(blind) else f"{' and '.join(better) or 'no'} size"
        sentences.append(
            f"{method.capitalize()} finds {' and '.join(best)}, and beats both blind maps on things of {where}."
        )
    return " ".join(sentences)


def _by_map(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores in percent by method and layer; the curve area by size of the things too."""
    by_size = summary(scores, ["size"]).pivot(index=["method", "layer"], columns="size", values="curve")
    every = summary(scores).set_index(["method", "layer"])
    return 100 * every.join(by_size.add_prefix("curve, "))


def _curve_area(every: np.ndarray, hits: np.ndarray) -> float:
    """Mean over the cells inside of the precision of all cells no lower: average precision, ties together.

    every, hits: the values of all cells and of those inside, both ascending.
    """
    return float(np.mean((len(hits) - np.searchsorted(hits, hits)) / (len(every) - np.searchsorted(every, hits))))
