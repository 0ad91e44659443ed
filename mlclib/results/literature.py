"""Published rows beside ours (05_tables), and what is odd about them."""

import numpy as np
import pandas as pd

from mlclib import datasets, published
from mlclib.results import captions
from mlclib.results.ablation import DELTA
from mlclib.results.captions import Models
from mlclib.results.comparison import all_scores, class_scores, over_seeds
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

STATED = "stated by its source"


def published_tables(
    models: Models, entered: dict[str, pd.Series] | None = None, *, selection: str = "last"
) -> list[Table]:
    """Published rows and ours: a table for each published one that has the runs' data set, none where none has.

    entered: AP per label and mAP by model, as `entered` reads them. Differences are stated only where ours are
    trained and scored on the very number of images that the published figures are.
    """
    captions.checked(models, selection)
    name = captions.data_name(models)
    found = {table: published.load(table) for table in published.TABLES if table in (name, "summary")}
    found["summary"] = found["summary"].query("dataset == @name").drop(columns="dataset").reset_index(drop=True)
    return [_beside(models, entered or {}, selection, key, rows) for key, rows in found.items() if len(rows)]


def finding(beside: list[Table]) -> str:
    """In a sentence: the highest mAP that the published rows of these tables state, and how far ours is from it."""
    rows = pd.concat([table.frame for table in beside], ignore_index=True) if beside else pd.DataFrame({"mAP": []})
    stated = rows[rows["made"] == STATED].dropna(subset="mAP") if beside else rows
    if stated.empty:
        return "No published mAP at hand is of this data set."
    top = stated.loc[stated["mAP"].idxmax()]
    first = f"{len(stated)} published rows state a mAP, the highest {top['method']} with {top['mAP']:.1f} %"
    if np.isnan(top[DELTA]):
        return f"{first}; ours rest on other images, and no difference is stated."
    return f"{first}; the highest scored here is {top[DELTA]:+.1f} points from it.".replace("-", "−")


def _beside(models: Models, entered: dict[str, pd.Series], selection: str, key: str, theirs: pd.DataFrame) -> Table:
    settings = [column for column in ("method", "backbone", "pretraining", "input_size") if column in theirs]
    figures = [column for column in theirs if column not in (*settings, "protocol", "source")]
    ours, spread = over_seeds(models, selection, lambda *which: {**class_scores(*which), **all_scores(*which)})
    ours = pd.concat([ours, pd.DataFrame(entered).T]).reindex(columns=figures).reset_index(drop=True)
    about = [_own_row(model, runs[0]) for model, runs in models.items()]
    about += [
        {"method": f"{model} (entered)", "made": "entered", "source": f"external/{model}.csv"} for model in entered
    ]
    stated, own = theirs.assign(made=STATED), pd.concat([pd.DataFrame(about), ours], axis=1)
    frame = pd.concat([stated, own], ignore_index=True)
    spread = spread[figures].set_axis(range(len(theirs), len(theirs) + len(models))).reindex(frame.index)
    images = captions.abouts(models)[0]["data"]["images"]
    whole = datasets.published_images(captions.data_name(models))
    comparable = bool(whole) and all(images[part] == whole[part] for part in ("train", "test"))
    top = about[int(ours["mAP"].argmax())]["method"] if comparable and ours["mAP"].notna().any() else ""
    frame[DELTA] = ours["mAP"].max() - frame["mAP"] if top else np.nan
    marks, footnotes = _oddities(key, theirs)
    if not whole:
        footnotes["*"] = "On how many images the published figures were made is not known: no difference is stated."
    elif not comparable:
        footnotes["*"] = (
            f"Trained on {images['train']:,} and scored on {images['test']:,} images, where the published figures take "
            f"{whole['train']:,} and {whole['test']:,}: the rows do not compare, and no difference is stated."
        )
    if not comparable:
        marks.update({(row, "method"): "*" for row in range(len(theirs), len(frame))})
    sentences = [
        "Published rows as their source states them, in percent, an em dash where it states nothing; how they define "
        "AP and choose epoch and threshold is their own affair; protocol: what is known of it from their code. Made: "
        "who says so, or who trained and scored it.",
        f"{DELTA}: mAP of {top}, the highest scored here, minus that of the row." if top else "",
        f"Rows scored here: {captions.average(models).replace('In', 'in', 1)}",
        captions.ap(models[next(iter(models))][0]),
        captions.made(models, selection),
    ]
    return Table(
        name=captions.file_stem(f"published_{key}", selection),
        title=f"Published {'mAPs' if key == 'summary' else 'figures'} and ours on {captions.data_name(models)}",
        frame=frame[[*settings, *figures, DELTA, "made", "protocol", "source"]],
        spread=spread,
        formats={DELTA: "+.1f", "input_size": ".0f"},
        best=tuple(figures) if comparable else (),
        marks=marks,
        footnotes=footnotes,
        runs={row["method"]: models[model] for row, model in zip(about, models, strict=False)},
        caption=" ".join(filter(None, sentences)),
    )


def _oddities(key: str, theirs: pd.DataFrame) -> tuple[dict[tuple[int, str], str], dict[str, str]]:
    """Marks a, b, ... on the published rows that cannot be right, and the footnotes that say why."""
    marks: dict[tuple[int, str], str] = {}
    footnotes: dict[str, str] = {}
    for finding in published.oddities():
        for row in theirs.index[theirs["method"] == finding.method] if finding.table == key else ():
            mark = chr(ord("a") + len(footnotes))
            marks[row, "method"] = ", ".join(filter(None, [marks.get((row, "method")), mark]))
            footnotes[mark] = f"{finding.method}: {finding.sentence}."
    return marks, footnotes


def _own_row(model: str, run: FinishedRun) -> dict[str, str | int]:
    """The settings and source of a row beside published ones."""
    if not captions.own([run]):
        return {
            "method": f"{model} (scored here)",
            "made": "scored here",
            "source": f"external/{run.about['external']}",
        }
    setting = run.about["configuration"]
    return {
        "method": f"{model} (ours)",
        "backbone": setting["backbone"]["name"],
        "pretraining": captions.weights(run.about),
        "input_size": setting["input_size"],
        "made": "scored here" if "checkpoint" in run.about else "trained here",
        "source": f"this project, {run.folder.parent.name}",
    }
