"""Tables of attention maps scored against boxes, and of what a model has learnt (04_attention)."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mlclib.attention.evaluation import SCORES, over_layers, summary
from mlclib.attention.learnt import assignment, embeddings, nearest
from mlclib.attention.saliency import BASELINES, Subject
from mlclib.results.table import Table, written
from mlclib.runs.store import FinishedRun


def localisation(scores: pd.DataFrame, model: str, experiment: str, runs: list[FinishedRun]) -> list[Table]:
    """`evaluation.localisation` as two tables, by size of the things and by label; none where nothing was scored.

    runs: those of the experiment's model that were looked at.
    """
    if scores.empty:
        return []
    caption = (
        f"Model {model} of experiment {experiment}. In percent. Pointing: the highest cell lies in a box of the label; "
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
    counts = scores.drop_duplicates(["row", "label"])
    sizes = ", ".join(f"{count} {size}" for size, count in counts["size"].value_counts(sort=False).items())
    methods = list(by_size["method"].unique())
    kept = summary(over_layers(scores), ["label"])
    by_label = kept.pivot(index="label", columns="method", values="curve")[methods].mul(100)
    by_label = counts.groupby("label", sort=False).agg(things=("row", "size"), share=("share", "mean")).join(by_label)
    by_label = by_label.assign(share=100 * by_label["share"]).sort_values("share", kind="stable").reset_index()
    return [
        Table(
            name=f"localisation-{model}",
            title=f"Where the maps of {model} lie: {len(counts)} labels in {counts['row'].nunique()} images ({sizes})",
            frame=by_size,
            runs={"": runs},
            caption=caption,
            spread=spread,
            best=tuple(by_size.columns[2:]),
        ),
        Table(
            name=f"localisation-{model}-labels",
            title=f"Area under the localisation curve of {model} by label, smallest things first",
            frame=by_label,
            runs={"": runs},
            caption=f"{caption} share: mean share of the side. Maps of several layers are the mean over them.",
            formats={"things": ".0f"},
            best=tuple(methods),
            across=True,
        ),
    ]


def learnt(subject: Subject, model: str, run: FinishedRun) -> list[Table]:
    """What the model has learnt of the labels as tables: each label's nearest, and MSRN's groups where there are any.

    model, run: the subject's.
    """
    before, after = embeddings(subject.model)
    frame = pd.DataFrame({"label": list(subject.labels), "nearest as learnt": nearest(after, subject.labels)})
    if before is not None:
        frame.insert(1, "nearest before", nearest(before, subject.labels))
    runs, caption = {"": [run]}, "In brackets the cosine similarity of their vectors."
    found = [Table(f"labels-{model}", f"Each label's nearest labels to {model}", frame, caption, runs=runs)]
    shares = assignment(subject.model)
    rows = []
    for group in range(shares.shape[1]):
        members = [i for i in np.argsort(-shares[:, group], kind="stable") if shares[i].argmax() == group]
        rows.append((str(group), ", ".join(f"{subject.labels[i]} ({shares[i, group]:.2f})" for i in members) or "none"))
    if rows:
        frame = pd.DataFrame(rows, columns=["group", "members"])
        caption = "A label stands with the group it belongs to most, in brackets its share in it."
        title = f"The groups that {model} has made of the labels"
        found.append(Table(f"labels-{model}-groups", title, frame, caption, runs=runs))
    return found


def localisation_finding(found: list[Table]) -> str:
    """In a sentence, from the tables of `localisation`: on which labels maps lie best, and whether size tells.

    Of the methods it speaks of the one that lies best on average.
    """
    if not found:
        return "No boxes are known here, so no label's map is scored."
    frame = found[1].frame
    areas = frame[[column for column in frame.columns[3:] if column not in BASELINES]]
    method = areas.mean().idxmax()
    ends = areas[method].idxmax(), areas[method].idxmin()
    named = [f"{frame['label'][at]} ({areas[method][at]:.0f})" for at in ends]
    text = f"By label, {method} maps lie best on {named[0]} and worst on {named[1]}, by curve area"
    if len(frame) < 3:
        return f"{text}."
    rank = spearmanr(frame["share"], areas[method]).statistic
    larger = "are found better" if rank > 0.3 else "are found worse" if rank < -0.3 else "are found no better"
    return f"{text}; labels of larger things {larger} (rank correlation {written(rank, '+.2f')})."


def groups_finding(subject: Subject) -> str:
    """In a sentence: how firmly labels belong to the groups that the model has made of them."""
    shares = assignment(subject.model)
    if not shares.shape[1]:
        return "This model makes no groups of labels."
    sizes = np.bincount(shares.argmax(1), minlength=shares.shape[1])
    return (
        f"{(shares.max(1) > 0.5).sum()} of {len(shares)} labels belong to one group by more than half; the largest of "
        f"{len(sizes)} groups is the first of {sizes.max()} labels, and {(sizes == 0).sum()} are the first of none."
    )


def _by_map(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores in percent, a row (method, layer); the curve area by size of the things too."""
    by_size = summary(scores, ["size"]).pivot(index=["method", "layer"], columns="size", values="curve")
    every = summary(scores).set_index(["method", "layer"])[[*SCORES, "specific"]]
    return 100 * every.join(by_size.add_prefix("curve, "))
