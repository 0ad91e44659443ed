"""One model, looked at closely (02_train): configuration, training curves, scores, hardest labels, worst mistakes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb
from mlclib.models import title
from mlclib.results import captions
from mlclib.results.comparison import class_scores, over_seeds, scored_table
from mlclib.results.style import COLOURS, draw_boxes, text_figure
from mlclib.results.table import Table, written
from mlclib.runs import store
from mlclib.runs.store import FinishedRun
from mlclib.runs.times import words


def configuration_table(model: str, runs: list[FinishedRun]) -> Table:
    """What was trained, with which recipe, and what it took, in words; of an authors' checkpoint no recipe."""
    about = runs[0].about
    setting = about["configuration"]
    recipe, backbone, images = setting["training"], setting["backbone"], about["data"]["images"]
    rows = {
        "data": f"{about['data']['name']}: {', '.join(f'{count:,} {part}' for part, count in images.items())} images",
        "input": f"{setting['input_size']} px",
        "backbone": f"{backbone['name']}, {captions.weights(about)}, "
        + ("frozen" if backbone["frozen"] else "trained"),
        "options": ", ".join(f"{key} {value}" for key, value in setting["options"].items()) or "none",
    }
    if "checkpoint" not in about:
        history = pd.concat([run.history for run in runs])
        rows |= {
            "loss": str(recipe["loss"]),
            "optimizer": f"{recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, {recipe['schedule']}, "
            f"weight decay {recipe['weight_decay']:g}",
            "epochs": f"{recipe['epochs']}, batches of {recipe['batch_size']}, {recipe['precision']}",
            "seeds": ", ".join(str(run.seed) for run in runs),
            "training of one run": f"{words(history['seconds'].sum() / len(runs))}, "
            f"{history['images_per_second'].mean():,.0f} images per second",
        }
    if cost := about.get("cost"):
        rows["head learns"] = f"{cost['parameters'] / 1e6:,.2f} M parameters"
        rows["head computes"] = f"{cost['head'] / 1e6:,.2f} M multiply-adds per image"
        rows["backbone computes"] = f"{cost['backbone'] / 1e9:,.2f} G multiply-adds per image"
    frame = pd.DataFrame({"of its runs": list(rows), model: list(rows.values())})
    return scored_table(
        f"configuration_{model}", f"What was trained: {title(model)}", {model: runs}, frame, selection="",
        caption="As each run recorded it.", protocol=[], runs={"": runs},
    )  # fmt: skip


def configuration_sentence(runs: list[FinishedRun]) -> str:
    """How long the runs took and where, and how much of the work is the head's."""
    about = runs[0].about
    spent = [pd.Timestamp(run.about["ended"]) - pd.Timestamp(run.about["started"]) for run in runs]
    what = "Scoring the checkpoint" if "checkpoint" in about else f"{len(runs)} run{'s' * (len(runs) > 1)}"
    text = f"{what} took {words(sum(time.total_seconds() for time in spent))} on {store.device(about)}"
    if cost := about.get("cost"):
        share = 100 * cost["head"] / cost["backbone"]
        return f"{text}. For one image the head computes {share:.2g} % of the multiply-adds of its backbone."
    return f"{text}."


def curves_figure(model: str, runs: list[FinishedRun]) -> Figure:
    """Training loss and mAP over epochs, the mean over the seeds as a line with their range as a band.

    mAP is that of the part which history.csv scores after every epoch: validation, or test where there is none.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for axes, key, factor in ((left, "loss", 1), (right, "mAP", 100)):
        values = factor * _over_epochs(runs, key)
        axes.plot(values.columns, values.mean(), color=COLOURS[0], label=title(model))
        axes.fill_between(values.columns, values.min(), values.max(), color=COLOURS[0], alpha=0.2, lw=0)
    last, part = values.iloc[:, -1].mean(), _scored_part(runs)
    end = f"{title(model)} ends at {last:.1f}%" if np.isfinite(last) else "the test labels are not public"
    left.set(xlabel="epoch", ylabel="training loss", title="Training loss")
    right.set(xlabel="epoch", ylabel=f"{part} mAP (%)", title=f"{part.capitalize()} mAP: {end}")
    right.legend()
    figure.tight_layout()
    return figure


def curves_sentence(runs: list[FinishedRun]) -> str:
    """Whether training had come to rest, and how far the best epoch stands above the last."""
    if "checkpoint" in runs[0].about:
        return "The authors trained this checkpoint, so there is no history of its training here."
    mean, loss, part = 100 * _over_epochs(runs, "mAP").mean(), _over_epochs(runs, "loss").mean(), _scored_part(runs)
    late = max(1, round(0.75 * len(loss)))  # the epoch from which the last quarter counts
    change = written(100 * (loss.iloc[-1] / loss[late] - 1), "+.0f")
    text = f"After epoch {late} the training loss changed by {change} %"
    if mean.isna().any():
        return f"{text}. The test labels are not public."
    best, change = int(mean.idxmax()), written(mean.iloc[-1] - mean[late], "+.1f")
    above = mean[best] - mean.iloc[-1]
    text += f" and the {part} mAP by {change} points. Its mean over the seeds is highest after epoch {best} of "
    text += f"{len(mean)}" + (f", {above:.1f} points above the last epoch." if above > 0 else ".")
    return text + (" These are test images: no epoch may be chosen by this curve." if part == "test" else "")


def scores_sentence(table: Table) -> str:
    """How sure one model's mAP in `scores.scores_table` is, and whether it claims too much or too little."""
    row, mAP = table.frame.iloc[0], table.frame.columns[1]
    spread = table.spread[mAP].iloc[0]
    if np.isnan(row[mAP]):
        return f"{captions.HIDDEN}."
    seeds = f" Its standard deviation over seeds is {spread:.1f}." if np.isfinite(spread) else ""
    more, less = ("recall", "precision") if row["OR"] > row["OP"] else ("precision", "recall")
    leaning = "predicts too many labels" if more == "recall" else "predicts too few labels"
    threshold = "the threshold chosen on validation images" if "CF1 at 0" in row else "probability 0.5"
    return (
        f"The {mAP} is {row[mAP]:.1f} (95 % interval over test images and seeds {row[f'{mAP} low']:.1f} to "
        f"{row[f'{mAP} high']:.1f}).{seeds} At {threshold} {title(row['model'])} {leaning}: "
        f"over all decisions its {more} is {abs(row['OR'] - row['OP']):.1f} points above its {less}."
    )


def hardest_table(model: str, runs: list[FinishedRun], training: np.ndarray) -> Table:
    """The labels by their AP, lowest first, with what is missed and what is predicted wrongly at logit 0.

    training: how many training images show each label, [C].
    """
    models = {model: runs}
    reference = captions.checked(models, "last")
    mean, spread = over_seeds(models, "last", class_scores)
    labels, present = list(reference.labels), reference.targets == 1
    predicted = np.stack([run.logits["last"] >= 0 for run in runs])
    missed = (~predicted & present).sum(1).mean(0) / np.where(present.any(0), present.sum(0), np.nan)
    frame = pd.DataFrame(
        {
            "label": labels,
            "training images": np.asarray(training),
            "test images": present.sum(0),
            "AP": mean[labels].iloc[0].to_numpy(),
            "missed, %": 100 * missed,
            "false alarms": (predicted & (reference.targets == -1)).sum(1).mean(0),
        }
    )
    order = frame["AP"].argsort(kind="stable")
    return scored_table(
        f"hardest_{model}", f"The labels by AP, hardest for {title(model)} first,", models,
        frame.iloc[order].reset_index(drop=True),
        spread=pd.DataFrame({"AP": spread[labels].iloc[0].to_numpy()[order]}),
        formats={"training images": ",.0f", "test images": ",.0f"},
        runs={"": runs},
        caption=f"{captions.average(models)} Missed: share of the label's test images. False alarms: number of "
        "its false positives.",
        protocol=[captions.ap(reference), "A label is given where its logit is at least 0; means over the seeds."],
    )  # fmt: skip


def hardest_sentence(table: Table) -> str:
    """Which labels are hardest, and whether those are the rare ones."""
    scored = table.frame.dropna(subset="AP")
    if scored.empty:
        return f"{captions.HIDDEN}."
    names = [f"{row['label']} ({row['AP']:.1f})" for _, row in scored.iterrows()]
    text = f"The AP is lowest for {', '.join(names[:-1][:3]) or names[0]} and highest for {names[-1]}"
    if len(scored) < 3 or scored["training images"].nunique() == 1 or scored["AP"].nunique() == 1:
        return f"{text}."
    rank = spearmanr(scored["training images"], scored["AP"]).statistic
    often = "score higher" if rank > 0.3 else "score lower" if rank < -0.3 else "score neither higher nor lower"
    return f"{text}. Labels with more training images {often} (rank correlation {written(rank, '+.2f')})."


def worst_mistakes(runs: list[FinishedRun], count: int) -> tuple[np.ndarray, ...]:
    """Images and labels, int [K, 2], of the false alarms with the highest logits, and of the misses with the lowest,
    at most `count` of each. Logits are means over the seeds; what is wrong is decided at logit 0, difficult labels
    left out.
    """
    logits, alarms, misses = _mistakes(runs)
    return tuple(
        np.argwhere(wrong)[np.argsort(sign * logits[wrong], kind="stable")[:count]]
        for wrong, sign in ((alarms, -1), (misses, 1))
    )


def mistakes_figure(runs: list[FinishedRun], split: Split, count: int = 6) -> Figure:
    """The pictures of `worst_mistakes`: false positives above; misses below, with the boxes of the label where known.

    split: the test part that the runs are scored on.
    """
    labels, logits = runs[0].labels, _mistakes(runs)[0]
    if not (runs[0].targets == 1).any():
        return text_figure(f"{captions.HIDDEN}.")
    figure, grid = plt.subplots(2, count, figsize=(2.6 * count, 6.6), layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    for pairs, line, verb, beside in zip(
        worst_mistakes(runs, count), grid, ("predicted", "missed"), ("shows", "with"), strict=True
    ):
        for axes, (row, label) in zip(line, pairs, strict=False):
            axes.imshow(open_rgb(split.paths[row]))
            if verb == "missed" and split.boxes is not None:
                draw_boxes(axes, split.boxes[row][split.boxes[row][:, 0] == label, 1:])
            others = [labels[c] for c in np.flatnonzero(split.targets[row] == 1) if c != label]
            under = ", ".join(others[:3]) + ", ..." * (len(others) > 3) or "no other label"
            title = f"{verb}: {labels[label]}, logit {written(logits[row, label], '+.1f')}\n{beside} {under}"
            axes.set_title(title, fontsize=9, wrap=True)
    figure.suptitle("Above: absent labels with the highest logits. Below: present labels with the lowest logits")
    return figure


def mistakes_sentence(runs: list[FinishedRun]) -> str:
    """How many decisions are wrong and how, how sure the false alarms are, which labels are in them."""
    logits, alarms, misses = _mistakes(runs)
    present = runs[0].targets == 1
    if not present.any():
        return f"{captions.HIDDEN}."
    parts = []
    for wrong, what in ((misses, "missed"), (alarms, "predicted wrongly")):
        most = int(wrong.sum(0).argmax())
        often = f", most often {runs[0].labels[most]} ({wrong[:, most].sum()})" if wrong.any() else ""
        parts.append(f"{wrong.sum():,} labels are {what}{often}.")
    hits = logits[present & (logits >= 0)]
    if alarms.any() and len(hits):
        sure = 100 * (logits[alarms] > np.median(hits)).mean()
        parts.append(f"{sure:.0f} % of the false positives have a higher logit than half of the true positives.")
    return " ".join([f"The test images show {present.sum():,} labels.", *parts])


def _over_epochs(runs: list[FinishedRun], column: str) -> pd.DataFrame:
    """A column of the runs' histories: one row per run, one column per epoch."""
    return pd.DataFrame([run.history.set_index("epoch")[column] for run in runs])


def _scored_part(runs: list[FinishedRun]) -> str:
    """The part of the data whose mAP stands in history.csv."""
    return "validation" if "val" in runs[0].about["data"]["images"] else "test"


def _mistakes(runs: list[FinishedRun]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean logits over the seeds, false alarms and misses at logit 0, each [N, C]."""
    logits, targets = np.mean([run.logits["last"] for run in runs], axis=0), runs[0].targets
    return logits, (targets == -1) & (logits >= 0), (targets == 1) & (logits < 0)
