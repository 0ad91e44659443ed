"""One model, looked at closely (02_train): what was trained and what it took, its scores, its hardest labels."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from mlclib.results import captions
from mlclib.results.comparison import class_scores, over_seeds
from mlclib.results.table import Table, written
from mlclib.runs import store
from mlclib.runs.store import FinishedRun
from mlclib.runs.watch import words


def configuration(model: str, runs: list[FinishedRun]) -> Table:
    """What was trained, with which recipe, and what it took, in words; a row a thing.

    Of an authors' checkpoint, which was not trained here, no recipe.
    """
    about = runs[0].about
    setting = about["configuration"]
    recipe, backbone, images = setting["training"], setting["backbone"], about["data"]["images"]
    rows = {
        "data": f"{about['data']['name']}: {', '.join(f'{count:,} {part}' for part, count in images.items())} images",
        "input": f"{setting['input_size']} px",
        "backbone": f"{backbone['name']}, {captions.weights(about)}, "
        + ("frozen" if backbone["frozen"] else "trained along"),
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
            "training of a run": f"{words(history['seconds'].sum() / len(runs))}, "
            f"{history['images_per_second'].mean():,.0f} images a second",
        }
    if cost := about.get("cost"):
        rows["head learns"] = f"{cost['parameters'] / 1e6:,.2f} M parameters"
        rows["head computes"] = f"{cost['head'] / 1e6:,.2f} M multiply-adds an image"
        rows["backbone computes"] = f"{cost['backbone'] / 1e9:,.2f} G multiply-adds an image"
    return Table(
        name=f"configuration_{model}",
        title=f"What was trained: {model} on {about['data']['name']}",
        frame=pd.DataFrame({"of its runs": list(rows), model: list(rows.values())}),
        runs={"": runs},
        caption=captions.made({model: runs}),
    )


def configuration_finding(runs: list[FinishedRun]) -> str:
    """In a sentence: how long the runs took and where, and how much of the work is the head's."""
    spent = [pd.Timestamp(run.about["ended"]) - pd.Timestamp(run.about["started"]) for run in runs]
    total = sum(one.total_seconds() for one in spent)
    what = "Scoring the checkpoint" if "checkpoint" in runs[0].about else f"{len(runs)} run{'s' * (len(runs) > 1)}"
    text = f"{what} took {words(total)} on {store.device(runs[0].about)}"
    if cost := runs[0].about.get("cost"):
        text += (
            f"; for an image the head computes {100 * cost['head'] / cost['backbone']:.2g} % of what its backbone does"
        )
    return f"{text}."


def scores_finding(table: Table) -> str:
    """In a sentence: how sure one model's mAP in `performance.scores` is, and whether it claims too much or little."""
    row, spread = table.frame.iloc[0], table.spread["mAP"].iloc[0]
    if np.isnan(row["mAP"]):
        return f"{captions.HIDDEN}."
    seeds = f", and seeds differ by {spread:.1f} (standard deviation)" if np.isfinite(spread) else ""
    more, less = ("recall", "precision") if row["OR"] > row["OP"] else ("precision", "recall")
    leaning = "names more than is there" if more == "recall" else "leaves out more than it adds"
    return (
        f"For other test images like these the mAP would lie between {row['mAP low']:.1f} and {row['mAP high']:.1f} "
        f"(95 % interval){seeds}. At probability 0.5 {row['model']} {leaning}: over all decisions its {more} is "
        f"{abs(row['OR'] - row['OP']):.1f} points above its {less}."
    )


def hardest(model: str, runs: list[FinishedRun], training: np.ndarray) -> Table:
    """The labels by their AP, lowest first, with what is missed and what is claimed wrongly at logit 0.

    training: how many training images show each label, [C].
    """
    reference = captions.checked({model: runs}, "last")
    mean, spread = over_seeds({model: runs}, "last", class_scores)
    labels, present = list(reference.labels), reference.targets == 1
    said = np.stack([run.logits["last"] >= 0 for run in runs])
    missed = (~said & present).sum(1).mean(0) / np.where(present.any(0), present.sum(0), np.nan)
    frame = pd.DataFrame(
        {
            "label": labels,
            "training images": np.asarray(training),
            "test images": present.sum(0),
            "AP": mean[labels].iloc[0].to_numpy(),
            "missed, %": 100 * missed,
            "false alarms": (said & (reference.targets == -1)).sum(1).mean(0),
        }
    )
    order = frame["AP"].argsort(kind="stable")
    sentences = [
        captions.average({model: runs}),
        captions.ap(reference),
        "Missed: of the test images that show the label, those whose logit is below 0; false alarms: test images "
        "without it whose logit is at least 0; both means over the seeds.",
        captions.made({model: runs}, "last"),
    ]
    return Table(
        name=f"hardest_{model}",
        title=f"The labels of {captions.data_name({model: runs})} by AP, hardest for {model} first",
        frame=frame.iloc[order].reset_index(drop=True),
        spread=pd.DataFrame({"AP": spread[labels].iloc[0].to_numpy()[order]}),
        formats={"training images": ",.0f", "test images": ",.0f"},
        runs={"": runs},
        caption=" ".join(sentences),
    )


def hardest_finding(table: Table) -> str:
    """In a sentence: which labels are hardest, and whether those are the rare ones."""
    known = table.frame.dropna(subset="AP")
    if known.empty:
        return f"{captions.HIDDEN}."
    named = [f"{row['label']} ({row['AP']:.1f})" for _, row in known.iterrows()]
    text = f"Hardest are {', '.join(named[:-1][:3]) or named[0]}, easiest is {named[-1]}"
    if len(known) < 3 or known["training images"].nunique() == 1 or known["AP"].nunique() == 1:
        return f"{text}."
    rank = spearmanr(known["training images"], known["AP"]).statistic
    often = "score higher" if rank > 0.3 else "score lower" if rank < -0.3 else "score neither higher nor lower"
    return f"{text}; labels with more training images {often} (rank correlation {written(rank, '+.2f')})."
