"""Published rows beside ours (05_tables)."""

import numpy as np
import pandas as pd

from mlclib import datasets, published
from mlclib.metrics.scores import annotation
from mlclib.models import title
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.comparison import DELTA, all_scores, class_scores, over_seeds, scored_table
from mlclib.results.table import Table, written
from mlclib.runs.store import FinishedRun

STATED = "stated by its source"


def published_tables(
    models: Models, entered: dict[str, pd.Series] | None = None, *, selection: str = "last"
) -> list[Table]:
    """Published rows and ours: a table for each published one that has the runs' data set, none where none has.

    entered: AP per label and mAP by model, as `entries.entered` reads them. Differences are stated only where ours are
    trained and scored on the very number of images that the published figures are.
    """
    captions.checked(models, selection)
    name = captions.data_name(models)
    tables = {table: published.load(table) for table in published.TABLES if table in (name, "summary")}
    tables["summary"] = tables["summary"].query("dataset == @name").drop(columns="dataset").reset_index(drop=True)
    return [_table(models, entered or {}, selection, key, rows) for key, rows in tables.items() if len(rows)]


def published_sentence(tables: list[Table]) -> str:
    """The highest mAP that the published rows of these tables state, and how far ours is from it."""
    rows = pd.concat([table.frame for table in tables], ignore_index=True) if tables else pd.DataFrame()
    stated = rows[rows["made"] == STATED].dropna(subset="mAP") if tables else rows
    if stated.empty:
        return "This project has no published mAP of this data set."
    top = stated.loc[stated["mAP"].idxmax()]
    first = f"Of {len(stated)} published mAPs the highest is that of {top['method']}: {top['mAP']:.1f} %."
    if np.isnan(top[DELTA]):
        return f"{first} No difference to the scores here is stated (see the table)."
    return f"{first} The highest here differs from it by {written(top[DELTA], '+.1f')} points."


def _table(models: Models, entered: dict[str, pd.Series], selection: str, key: str, theirs: pd.DataFrame) -> Table:
    settings = [column for column in ("method", "backbone", "pretraining", "input_size") if column in theirs]
    figures = [column for column in theirs if column not in (*settings, "protocol", "source")]
    ours, spread = over_seeds(models, selection, _scores)
    ours = pd.concat([ours, pd.DataFrame(entered).T]).reindex(columns=figures).reset_index(drop=True)
    sources = [_source(model, runs[0]) for model, runs in models.items()]
    sources += [
        {"method": f"{model} (entered)", "made": "entered", "source": f"external/{model}.csv"} for model in entered
    ]
    own = pd.concat([pd.DataFrame(sources), ours], axis=1)
    frame = pd.concat([theirs.assign(made=STATED), own], ignore_index=True)
    spread = spread[figures].set_axis(range(len(theirs), len(theirs) + len(models))).reindex(frame.index)
    apart = _why_not_comparable(models)
    top = title(own["method"][ours["mAP"].argmax()]) if not apart and ours["mAP"].notna().any() else ""
    frame[DELTA] = ours["mAP"].max() - frame["mAP"] if top else np.nan
    return scored_table(
        f"published_{key}", f"Published {'mAPs' if key == 'summary' else 'figures'} and ours", models,
        frame[[*settings, *figures, DELTA, "made", "protocol", "source"]],
        selection=selection,
        spread=spread,
        formats={"input_size": ".0f", "N+": ".0f"},
        best=() if apart else tuple(figures),
        marks={(row, "method"): "*" for row in range(len(theirs), len(frame))} if apart else {},
        footnotes={"*": apart} if apart else {},
        shown={row["method"]: title(row["method"]) for row in sources},
        runs={row["method"]: runs for row, runs in zip(sources, models.values(), strict=False)},
        caption="Published rows as their source states them, in percent, an em dash where it states nothing. Rows "
        f"scored here: {captions.average(models, 'in percent')}"
        + (f" {DELTA}: mAP of {top}, the highest scored here, minus that of the row." if top else ""),
        protocol=[
            "Published rows define AP and choose epoch and threshold in their own ways; protocol: what their code says "
            "of this. Made: who states the row, or who trained and scored it.",
            captions.ap(next(iter(models.values()))[0]),
        ],
    )  # fmt: skip


def _scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """All that a published table may state of one run: shares in percent, and N+; NaN as in `all_scores`."""
    words = dict.fromkeys(("P", "R", "F1", "N+"), np.nan)
    if selection in run.logits and (run.targets == 1).any():
        scores = annotation(run.logits[selection], run.targets)
        words = {name: value if name == "N+" else 100 * value for name, value in scores.items()}
    return class_scores(run, selection) | all_scores(run, selection) | words


def _why_not_comparable(models: Models) -> str:
    """Why no difference to the published figures is stated; empty where they rest on as many images as ours."""
    images = captions.abouts(models)[0]["data"]["images"]
    whole = datasets.published_images(captions.data_name(models))
    if not whole:
        return "On how many images the published figures were made is not known: no difference is stated."
    if all(images[part] == whole[part] for part in ("train", "test")):
        return ""
    return (
        f"Trained on {images['train']:,} and scored on {images['test']:,} images, where the published figures take "
        f"{whole['train']:,} and {whole['test']:,}: the rows do not compare, and no difference is stated."
    )


def _source(model: str, run: FinishedRun) -> dict[str, object]:
    """The settings and source of a row of ours."""
    if not captions.own([run]):
        source = f"external/{run.about['external']}"
        return {"method": f"{model} (scored here)", "made": "scored here", "source": source}
    setting = run.about["configuration"]
    return {
        "method": f"{model} (ours)",
        "made": "scored here" if "checkpoint" in run.about else "trained here",
        "source": f"this project, {run.folder.parent.name}",
        "backbone": setting["backbone"]["name"],
        "pretraining": captions.weights(run.about),
        "input_size": setting["input_size"],
    }
