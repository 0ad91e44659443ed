"""Whether attention maps lie on the things: scored against boxes, as numbers, tables, figure and sentences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from mlclib.attention.maps import BASELINES, Key, ModelOnSplit, baselines, boxed_labels, explain, overall
from mlclib.datasets.base import Split
from mlclib.metrics import resampling
from mlclib.models import title
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table, written
from mlclib.runs.store import FinishedRun

SIZES = {"small": 0.125, "medium": 0.25, "large": np.inf}  # side share below which a thing is so large
SCORES = {"pointing": "pointing game", "energy": "energy inside", "curve": "curve area"}  # name: title of its axis
LINES = {"2": "layer 2", "3": "layer 3", "4": "layer 4", "all": "all layers"}

BATCH = 24  # labels at a time: batches of one size leave fewer holes in the memory


def batches(
    split: Split, rows: Iterable[int], most: int = BATCH
) -> Iterator[tuple[list[int], list[list[int]], list[float], Tensor]]:
    """Images that show K labels with boxes each, about `most` labels at a time: their rows [B] and labels [B][K], the
    share of the side that each label takes [B K], and its cells [B, K, GRID, GRID].
    """
    boxed = {row: boxed_labels(split, row) for row in rows}
    for count in sorted({len(labels) for labels in boxed.values()} - {0}, reverse=True):
        alike, step = [row for row, labels in boxed.items() if len(labels) == count], max(1, most // count)
        for start in range(0, len(alike), step):
            batch = alike[start : start + step]
            every = [one for row in batch for one in boxed[row]]
            labels = np.array([one.label for one in every]).reshape(-1, count).tolist()
            masks = torch.stack([one.mask for one in every]).unflatten(0, (-1, count))
            yield batch, labels, [one.share for one in every], masks


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
            every, hits = ascending[image, of], np.sort(maps[image, of][inside[image, label]])
            precision = (len(hits) - np.searchsorted(hits, hits)) / (len(every) - np.searchsorted(every, hits))
            areas[image, label] = precision.mean()  # average precision, ties together
    specific = curve - other if maps.shape[1] > 1 else np.full_like(curve, np.nan)
    return {"pointing": pointing.numpy(), "energy": energy.numpy(), "curve": curve, "specific": specific}


def localisation(subjects: Mapping[int, ModelOnSplit], rows: Sequence[int]) -> pd.DataFrame:
    """Every map of every label that an image of `rows` shows, scored against its boxes; empty where none are known.

    subjects: the model as each seed trained it, by seed. One row per map: seed, row, image, label, share (of the side:
    the square root of the largest box's share of the area), size (a key of SIZES), method, layer, SCORES, and specific
    (`compare`). A map that is not specific shows where things are, not where this label is.
    """
    _, _, _, split, names = next(iter(subjects.values()))
    frames = []
    for batch, labels, shares, masks in batches(split, rows):
        about = pd.DataFrame({"row": np.repeat(batch, len(labels[0])), "share": shares})
        about["image"] = [split.names[row] for row in about["row"]]
        about["label"] = [names[label] for of_image in labels for label in of_image]
        blind = score_frames(about, baselines(batch, labels), masks)  # these know no seed
        for seed, subject in subjects.items():
            maps = explain(subject.model, subject.layer_maps(batch), labels, subject.transform.size)
            frames += [frame.assign(seed=seed) for frame in score_frames(about, maps, masks) + blind]
    columns = ["seed", "row", "image", "label", "share", "method", "layer", *SCORES, "specific"]
    scores = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    edges = [0, *SIZES.values()]
    scores.insert(5, "size", pd.cut(scores["share"].astype(float), edges, right=False, labels=list(SIZES)))
    return scores


def score_frames(about: pd.DataFrame, maps: Mapping[Key, Tensor], masks: Tensor) -> list[pd.DataFrame]:
    """The scores of maps {key: [B, K, GRID, GRID]}, one frame per key. about: its first columns, a row per label."""
    return [
        about.assign(**key._asdict(), **{score: values.ravel() for score, values in compare(map, masks).items()})
        for key, map in maps.items()
    ]


def over_layers(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of `localisation` that are of each method's map over all its layers."""
    layers = dict(overall(map(Key, scores["method"], scores["layer"])))
    return scores[scores["layer"] == scores["method"].map(layers)]


def mean_interval(rows: pd.DataFrame, score: str) -> tuple[float, float, float]:
    """Mean score of maps and its 95 % interval over images and seeds; rows without a score are left out."""
    rows = rows.dropna(subset=score).assign(seed=lambda rows: rows.get("seed", 0))
    return resampling.bootstrap_mean(*rows[[score, "row", "seed"]].to_numpy().T)


def signed_interval(rows: pd.DataFrame, score: str) -> str:
    """`mean_interval` of a difference in words: "+0.10 [+0.05, +0.15]"."""
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*mean_interval(rows, score))


def tables(scores: pd.DataFrame, model: str, experiment: str, runs: list[FinishedRun]) -> list[Table]:
    """`localisation` of a model's runs as two tables, by size of the things and by label; none of no scores."""
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
    areas = over_layers(scores).pivot_table("curve", "label", "method")
    by_label = things.groupby("label", sort=False).agg(things=("row", "size"), share=("share", "mean"))
    by_label = by_label.assign(share=100 * by_label["share"]).join(areas[methods].mul(100))
    title_by_size = f"Maps of {name} against boxes: {len(things)} labels of {things['row'].nunique()} images ({sizes})"
    title_by_label = f"Area under the localisation curve of {name} by label, smallest things first"
    of_label = f"{caption} share: mean share of the side. Maps of several layers are the mean over them."
    by_label = by_label.sort_values("share", kind="stable").reset_index()
    look = {"best": tuple(methods), "across": True, "formats": {"things": ".0f"}, "runs": {"": runs}}
    return [
        Table(
            f"localisation-{model}", title_by_size, by_size, caption, spread=spread, best=tuple(by_size.columns[2:]),
            runs={"": runs},
        ),
        Table(f"localisation-{model}-labels", title_by_label, by_label, of_label, **look),
    ]  # fmt: skip


def tables_finding(both: Sequence[Table]) -> str:
    """In a sentence: on which labels the maps of the best method lie best, and whether the things' size matters."""
    if not both:
        return "There are no boxes here, so no label's map is scored."
    frame = both[1].frame
    method = frame.drop(columns=["label", "things", "share", *BASELINES], errors="ignore").mean().idxmax()
    areas = frame[method]
    best, worst = (f"{frame['label'][at]} ({areas[at]:.0f})" for at in (areas.idxmax(), areas.idxmin()))
    text = f"By area under the localisation curve {method} maps are best for {best} and worst for {worst}."
    if len(frame) < 3:
        return text
    rank = spearmanr(frame["share"], areas).statistic
    larger = "better" if rank > 0.3 else "worse" if rank < -0.3 else "no better"
    return f"{text} Labels of larger things are localised {larger} (rank correlation {written(rank, '+.2f')})."


def figure(scores: pd.DataFrame) -> Figure:
    """Mean scores of `localisation` by the size of the things: a column per method, a line per layer.

    Bars are 95 % intervals over images and seeds; grey lines are the centre and the random map. The title says by how
    much a label's own map lies better in its boxes than that of another label shown: the interval of `specific`.
    """
    if scores.empty:
        return text_figure("There are no boxes here, so the maps are shown and not scored")
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
    return facets.figure


def figure_finding(scores: pd.DataFrame) -> str:
    """A sentence per method, by curve area: which layer localises the smallest and the largest things best, beside the
    better of the two baselines, and for which sizes the map over all layers beats them.
    """
    if scores.empty:
        return "There are no boxes here, so the maps are not scored."
    means = scores.groupby(["method", "layer", "size"], observed=True)["curve"].mean().unstack("size")
    blind, sentences = means.loc[list(BASELINES)].max(), []
    for method, layer in overall(map(Key, scores["method"], scores["layer"])):
        if method in BASELINES:
            continue
        layers = means.loc[method].drop("all", errors="ignore")
        best = [
            f"{size} things best in layer {layers[size].idxmax()} ({layers[size].max():.2f}, blind {blind[size]:.2f})"
            for size in dict.fromkeys((blind.index[0], blind.index[-1]))
        ]
        better = blind.index[means.loc[(method, layer)] > blind]
        where = "every size" if len(better) == len(blind) else f"{' and '.join(better) or 'no'} size"
        finds = f"{method.capitalize()} localises {' and '.join(best)}"
        sentences.append(f"{finds}. Over all layers it is above the maps that saw no image on things of {where}.")
    return " ".join(sentences)


def _by_map(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores in percent by method and layer; the curve area by size of the things too."""
    by_size = scores.pivot_table("curve", ["method", "layer"], "size", observed=True)
    every = scores.groupby(["method", "layer"], sort=False)[[*SCORES, "specific"]].mean()
    return 100 * every.join(by_size.add_prefix("curve, "))
