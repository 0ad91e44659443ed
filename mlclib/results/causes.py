"""What labels' scores rest on (09_causes): tables, figures and sentences of pictures without one of their labels.

Frames are those of `attention.causes` and `attention.causal_maps`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist

from mlclib.models import NAMES, title
from mlclib.results.captions import Models
from mlclib.results.style import COLOURS, draw_boxes, label_heatmap, safe_text
from mlclib.results.table import Table, listed, written

BLIND = ("centre", "random")
INTERVALS = "95 %: over images and seeds."
SHIFTS = ("wrong place", "wrong company")
TITLES = {name: title(name) for name in NAMES}


def effects_table(effects: pd.DataFrame, pairs: int, runs: Models, drawn: bool) -> Table:
    """`causes.effects` as a table; pairs: how many pictures lack a label; drawn: again, else its boxes are filled."""
    how = (
        f"{pairs:,} pictures drawn again without one of their labels, all else alike"
        if drawn
        else f"{pairs:,} photographs with the boxes of one of their labels filled in from around them, which "
        "leaves a blur; things over half of the picture stay"
    )
    caption = (
        f"{how}. Fall: of the label's own logit, on its model's scale. "
        "Lost: of the recognised labels, those no longer predicted. Others: how far other labels' logits move, up or "
        "down, as a share of the fall. With ...: rank correlation of the support of labels (how far one's logit falls "
        "without the other) with their odds ratio in the training images, with the edges of the model's label graph, "
        f"and with the similarity of its learnt vectors. {INTERVALS}"
    )
    formats = {column: "+.2f" for column in effects if column.startswith("with ")}
    return Table("causes", "What a label's logit rests on", effects, caption, formats=formats, runs=runs, shown=TITLES)


def maps_tables(judged: pd.DataFrame, agreement: pd.DataFrame, images: int, few: int, runs: Models) -> list[Table]:
    """`causal_maps.judged` as tables; images: of how many; few: of how many what takes long."""
    caption = (
        "Foretells: rank correlation of the logit's fall with the map's weight on the pixels that change, over the "
        f"labels of {images} test images; beyond size: the partial one, given the share of pixels that change. "
        "Pointing, energy, curve: scores against boxes. Deletion (what is hidden is filled from around it, as in ROAD; "
        f"less is better), insertion: areas, over {few // 2} images and the first seed. The others are rank "
        f"correlations over {few} images and the first seed. Last module, head, backbone: with the map when weights "
        "down to there are random (near 1: it does not depend on them). Other label: with the map of "
        "another label that the image shows (near 1 the map is not the label's own). Noise: with the map of the same "
        "picture under noise of 5 % of the range of pixels (near 1 the map is stable). Centre and random saw no image "
        f"and are the same for every model. {INTERVALS} Input gradient: of the first seed."
    )
    formats = {column: ".2f" for column in judged.columns[2:]}
    which = (
        "Rank correlation of each score (of deletion with its sign turned) with beyond size, over all maps but centre "
        "and random; 95 %: over models."
    )
    how, every = dict.fromkeys(agreement.columns[1:], "+.2f"), {"": sum(runs.values(), [])}
    title_of_maps = "Which maps predict by how much a logit falls"
    name = "Which score agrees without a second picture"
    return [
        Table("causes-maps", title_of_maps, judged, caption, formats=formats, runs=runs, shown=TITLES),
        Table("causes-scores", name, agreement, which, formats=how, runs=every),
    ]


def context_tables(context: pd.DataFrame, graphs: pd.DataFrame, scenes: int, runs: Models) -> list[Table]:
    """`causes.context` as tables; scenes: how many there are of each kind."""
    caption = (
        f"mAP on {scenes} scenes in percent, and its change (Δ, in points) where their things stand together in "
        "another scene's place (wrong place), or each kind is dealt to random scenes (wrong company). Each kind is "
        "in as many scenes. "
    )
    name = "What mAP loses where things stand in the wrong place"
    tables = [Table("causes-context", name, context, caption + INTERVALS, runs=runs, shown=TITLES)]
    if len(graphs):
        caption = f"Δ of the model with edges between labels, less that of the one without. {INTERVALS}"
        every = {"": sum(runs.values(), [])}
        name = "What a label graph adds to that loss"
        tables.append(Table("causes-graphs", name, graphs, caption, runs=every, shown=TITLES))
    return tables


def pairs_figure(shown: Sequence[tuple[Image.Image, Image.Image, str, list]]) -> Figure:
    """Images with the boxes of a label above the same without it (`causes.examples`)."""
    figure, places = plt.subplots(2, len(shown), figsize=(2.7 * len(shown), 5.6), layout="constrained")
    for (above, below), (whole, without, words, boxes) in zip(places.T, shown, strict=True):
        for axes, picture in ((above, whole), (below, without)):
            axes.imshow(picture)
            axes.axis("off")
        draw_boxes(above, np.array(boxes))
        below.set_title(safe_text(words), fontsize=10)
    return figure


def effects_figure(lent: Mapping[str, np.ndarray], odds: np.ndarray, labels: Sequence[str]) -> Figure:
    """What each label lends to each other, in % of its model's mean fall, mean over models, beside co-occurrence."""
    shares = np.mean(list(lent.values()), axis=0)
    order, off = leaves_list(linkage(pdist(odds), "average", optimal_ordering=True)), ~np.eye(len(odds), dtype=bool)
    figure, places = plt.subplots(1, 2, figsize=(15, 6.6), layout="constrained")
    titles = {"together in training images": "log odds ratio", "lent by the row to the column": "% of a mean fall"}
    for axes, values, (above, bar) in zip(places, (odds, shares), titles.items(), strict=True):
        reach = np.nanquantile(abs(values[off]), 0.98)
        label_heatmap(axes, values, order, labels, above, bar, cmap="vlag", vmin=-reach, vmax=reach)
    return figure


def maps_figure(judged: pd.DataFrame) -> Figure:
    """What maps foretell beyond size, by model and kind of map."""
    rows = {kind: of_kind for kind, of_kind in judged.groupby(_kind(judged["method"]), sort=False)}
    axis = "rank correlation of a map's weight with the fall of the logit, given the size of what goes"
    return _points({kind: (of_kind, "beyond size") for kind, of_kind in rows.items()}, axis)


def context_figure(context: pd.DataFrame) -> Figure:
    """The loss of mAP by model and set."""
    return _points({name: (context, f"Δ {name}") for name in SHIFTS}, "Δ mAP, points")


def _points(series: Mapping[str, tuple[pd.DataFrame, str]], axis: str) -> Figure:
    """A point with its interval for each model and series: name -> a frame, and the column to show."""
    models = list(dict.fromkeys(model for frame, _ in series.values() for model in frame["model"]))
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.6 * len(models)), layout="constrained")
    for at, (name, (frame, column)) in enumerate(series.items()):
        shift = 0.8 * (at + 0.5) / len(series) - 0.4 + 0.08 * frame["model"].duplicated()
        heights = frame["model"].map(models.index) + shift
        reach = abs(frame[[f"{column} low", f"{column} high"]].sub(frame[column], axis=0)).to_numpy().T
        colour = "0.55" if name in BLIND else COLOURS[at % len(COLOURS)]
        axes.errorbar(frame[column], heights, xerr=reach, fmt="osD^v"[at % 5], color=colour, ms=5, label=name)
    axes.axvline(0, color="0.3", lw=1)
    axes.set(yticks=range(len(models)), xlabel=axis, ylim=(len(models) - 0.5, -0.5))
    axes.set_yticklabels([title(model) for model in models])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    sns.despine(ax=axes)
    return figure


def effects_sentence(effects: pd.DataFrame) -> str:
    """Whether logits rest on their own things, and whether they lean on labels that come along."""
    together, graph = effects["with co-occurrence"], effects[effects["with own graph"].notna()]
    least = (effects["with co-occurrence low"] > 0).sum()
    text = (
        f"Without their things, {_range(effects['lost, %'], '.0f')} % of the recognised labels are no longer "
        "predicted, depending on the model. Other logits then move by "
        f"{_range(effects['others, %'], '.0f')} % of the label's own fall. The support of a label for another is how "
        f"far the other's logit falls without it. Its rank correlation with co-occurrence is {_range(together)}, "
        f"shown to be above 0 for {least} of {len(effects)} models."
    )
    if graph.empty:
        return text
    follows = [f"{title(row['model'])} {_interval(row, 'with own graph')}" for _, row in graph.iterrows()]
    return f"{text} With the edges of the model's own label graph it is {listed(follows)}."


def maps_sentence(judged: pd.DataFrame, agreement: pd.DataFrame) -> str:
    """How many maps foretell more than size, beside those that saw no image, and which cheap score says so too."""
    blind = judged["method"].isin(BLIND)
    above = judged["beyond size low"] > 0
    kinds = judged.groupby(_kind(judged["method"]), sort=False)["beyond size"]
    text = (
        "We call a map useful if its weight on the removed things predicts the fall of the logit, given their size. "
        f"This is shown for {above[~blind].sum()} of {(~blind).sum()} maps (one model, one method), and for "
        f"{above[blind].sum() or 'none'} of {blind.sum()} that saw no image. Rank correlations by kind of map: "
        f"{listed(f'{kind} {_range(values)}' for kind, values in kinds)}."
    )
    best = agreement[agreement["agreement low"] > 0].nlargest(1, "agreement")
    alike = [f"{row['score']} agrees best with this ({_interval(row, 'agreement')})" for _, row in best.iterrows()]
    which = alike[0] if alike else "none is shown to agree with this"
    return f"{text} Among map scores that need no second picture, {which}."


def context_sentence(context: pd.DataFrame, graphs: pd.DataFrame) -> str:
    """What models lose where things stand in the wrong place, and whether a label graph adds to it."""
    lost = []
    for name in SHIFTS:
        ordered = context.sort_values(f"Δ {name}", ascending=False)
        least, most = ordered.iloc[0], ordered.iloc[-1]
        ends = [f"{written(-one[f'Δ {name}'], '.1f')} ({title(one['model'])})" for one in (least, most)]
        lost.append(f"in the {name} {' to '.join(ends)}")
    text = f"When the same things stand elsewhere, models lose points of mAP: {listed(lost)}."
    for _, row in graphs.iterrows():
        gaps = [f"{_interval(row, f'Δ {name}', '+.1f')} points in the {name}" for name in SHIFTS]
        pair = f"{title(row['model'])} less {title(row['without'])}"
        text += f" Change of mAP, {pair}: {listed(gaps)} (below 0: the graph loses more)."
    return text


def _kind(methods: pd.Series) -> pd.Series:
    """The names of methods, models' own maps as one."""
    return methods.where(methods.isin(("grad-cam", "input gradient", *BLIND)), "own maps")


def _interval(row: pd.Series, column: str, how: str = "+.2f") -> str:
    value, low, high = (written(row[name], how) for name in (column, f"{column} low", f"{column} high"))
    return f"{value} [{low}, {high}]"


def _range(values: pd.Series, how: str = "+.2f") -> str:
    return " to ".join(dict.fromkeys(written(value, how) for value in (values.min(), values.max())))
