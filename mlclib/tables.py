"""What the result tables hold: scores, AP per class, ablations, and published rows beside ours.

Every figure is computed here from runs' predictions, so that a table needs no training. Models are given as
name -> runs, one a seed. Their tables are in percent; each caption says how its numbers were made.

Predictions of other people's models join the tables from results/<experiment>/external/<name>.npz, which holds
names [N] (the test images' names, in any order), logits_last float32 [N, C] (columns in the order of the data set's
labels; logits_best and logits_ema too, where there are) and, if wanted as a check, targets int8 [N, C].
Scores of hidden test labels (VOC 2012's server) are entered in external/<name>.csv: columns label,AP, in percent.
"""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from mlclib import captions, datasets, metrics, published, significance
from mlclib.captions import Models
from mlclib.errors import UserError, unknown
from mlclib.rendering import Table
from mlclib.runs import Run
from mlclib.study import Study

RATES = (*metrics.RATES, *(f"{rate}-3" for rate in metrics.RATES))
COMPARED = ("mAP", "CF1", "OF1", "CF1-3", "OF1-3")
DELTA = "Δ mAP"
NOISE = "≈"
ALL_AXES = "all axes"


def models(study: Study) -> Models:
    """The experiment's models that have finished runs, then other people's predictions.

    Raises UserError where no run is finished yet, and where predictions from outside have the name of a model.
    """
    own = {model: runs for model in study.experiment.models if (runs := study.finished(model))}
    if not own:
        raise UserError(
            f"no run of experiment {study.experiment.name!r} is finished in {study.results}: train its models first, "
            f"with notebooks/02_train.ipynb or `make reproduce EXPERIMENT={study.experiment.name}`"
        )
    own |= study.scored_checkpoints()
    outside = external(study.folder / "external", next(iter(own.values()))[0])
    if taken := sorted(own.keys() & outside.keys()):
        raise UserError(f"{study.folder / 'external' / taken[0]}.npz has the name of a model of ours: rename the file")
    return {**own, **outside}


def external(folder: Path, reference: Run) -> Models:
    """Predictions of other people's models in `folder`, rows put into the order of `reference` by image name.

    Raises UserError where a file's images, labels or targets are not those of `reference`.
    """
    found = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} cannot be read as predictions: {error}") from None
        for key in ("names", "logits_last"):
            if key not in arrays:
                raise UserError(f"{path} lacks the array {key!r}; it must hold names [N] and logits_last [N, C]")
        row = {name: i for i, name in enumerate(arrays.pop("names").tolist())}
        missing = [name for name in reference.names if name not in row]
        if missing or len(row) != len(reference.names):
            raise UserError(
                f"{path} holds {len(row):,} images and lacks {len(missing):,} of the {len(reference.names):,} test "
                f"images{f' (first: {missing[0]})' if missing else ''}: it must hold exactly those"
            )
        order = [row[name] for name in reference.names]
        shape = reference.targets.shape
        for key, array in arrays.items():
            if array.shape != shape:
                raise UserError(f"{key} of {path} has shape {array.shape}, not {shape} as images x labels demand")
        if "targets" in arrays and (arrays["targets"][order] != reference.targets).any():
            raise UserError(f"the targets in {path} are not those of this experiment's test images")
        logits = {key.removeprefix("logits_"): array[order] for key, array in arrays.items() if key != "targets"}
        about = {"external": path.name, "seed": 0, "labels": reference.labels}
        found[path.stem] = [Run(path, about, reference.names, logits, reference.targets)]
    return found


def entered(folder: Path, labels: Iterable[str]) -> dict[str, pd.Series]:
    """AP per label and their mAP, in percent, by model, from the CSV files in `folder` (columns label, AP).

    Raises UserError for a file without these columns, a label that is missing or unknown, and an AP not in 0..100.
    """
    labels, found = list(labels), {}
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path)
        if not {"label", "AP"} <= set(table):
            raise UserError(f"{path} has the columns {', '.join(table)}; it must have label and AP (in percent)")
        for label in table["label"]:
            if label not in labels:
                raise unknown("label", label, labels, where=str(path))
        aps = pd.to_numeric(table.set_index("label")["AP"], errors="coerce").reindex(labels)
        if not aps.between(0, 100).all():
            raise UserError(
                f"{path} gives no AP between 0 and 100 for the label {aps.index[~aps.between(0, 100)][0]!r}"
            )
        found[path.stem] = pd.concat([aps, pd.Series({"mAP": aps.mean()})])
    return found


def scores(models: Models, *, selection: str = "last") -> Table:
    """Models x mAP with its bootstrap interval, precision, recall and F1, over all labels and the top three."""
    reference = captions.checked(models, selection)
    mean, spread = _over_seeds(models, selection, _all_scores)
    differences = {column: _against(models, _highest(mean[column]), selection, column) for column in COMPARED}
    intervals = [_bootstrap(runs, selection) for runs in models.values()]
    frame = pd.DataFrame({"model": list(models), "mAP": mean["mAP"].to_numpy()})
    frame["mAP low"], frame["mAP high"] = (100 * np.array(side) for side in zip(*intervals, strict=True))
    frame["p"] = [differences["mAP"][model].p if model in differences["mAP"] else np.nan for model in models]
    marks = {
        (row, column): NOISE
        for column, others in differences.items()
        for row, model in enumerate(models)
        if model in others and others[model].within_noise
    }
    footnotes = {NOISE: captions.noise("the highest of its column", reference)} if marks else {}
    outside = {row: runs[0].about["external"] for row, runs in enumerate(models.values()) if not captions.own(runs)}
    if outside:
        files = ", ".join(f"external/{name}" for name in outside.values())
        footnotes["†"] = f"Predictions from outside, only scored here: {files}."
        marks.update({(row, "model"): "†" for row in outside})
    sentences = [
        captions.average(models),
        captions.ap(reference),
        f"mAP 95 %: bias-corrected percentile interval over {captions.draws(reference):,} bootstrap draws of test "
        "images and seeds; p: of no difference in mAP to the highest, by paired bootstrap (at least "
        f"{significance.least_p(captions.draws(reference)):.1g} with so many draws).",
        "CP, CR, CF1: precision, recall and F1 averaged over labels, OP, OR, OF1: over all decisions; a label is "
        "predicted where its logit is at least 0 (probability 0.5), for -3 only among its image's three highest.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.named("scores", selection),
        title=f"Scores on {captions.data_name(models)}",
        frame=pd.concat([frame, mean[list(RATES)].reset_index(drop=True)], axis=1),
        spread=spread.reset_index(drop=True),
        formats={"p": "p"},
        intervals={"mAP 95 %": ("mAP low", "mAP high")},
        best=("mAP", *RATES),
        marks=marks,
        footnotes=footnotes,
        caption=" ".join(sentences),
    )


def per_class(models: Models, *, selection: str = "last") -> Table:
    """Labels x models: AP per class, and mAP in the last row."""
    reference = captions.checked(models, selection)
    mean, spread = _over_seeds(models, selection, _class_scores)
    positives = (reference.targets == 1).sum(axis=0)
    frame = pd.DataFrame({"label": mean.columns, "positives": [*positives, positives.sum()]})
    marks = {
        (row, model): NOISE
        for row, column in enumerate(mean.columns)
        for model, difference in _against(models, _highest(mean[column]), selection, "AP", row).items()
        if difference.within_noise
    }
    sentences = [
        captions.average(models),
        captions.ap(reference),
        "Positives: test images with the label.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.named("per_class", selection),
        title=f"AP per class on {captions.data_name(models)}",
        frame=pd.concat([frame, mean.T.reset_index(drop=True)], axis=1),
        spread=spread.T.reset_index(drop=True),
        formats={"positives": ",.0f"},
        best=tuple(models),
        across=True,
        marks=marks,
        footnotes={NOISE: captions.noise("the highest of its row", reference)} if marks else {},
        caption=" ".join(sentences),
    )


def further(models: Models, *, selection: str = "last") -> Table:
    """Models x what metrics.FURTHER names: how images and labels are ordered, and how whole images are answered."""
    reference = captions.checked(models, selection)
    mean, spread = _over_seeds(models, selection, _further_scores)
    lower = ", ".join(name for name, score in metrics.FURTHER.items() if score.lower)
    sentences = [
        captions.average(models).replace("In percent", "In percent, coverage error in labels", 1),
        f"Lower is better for {lower}. Coverage error: how far down an image's ranking its last label stands. Ranking "
        "loss: pairs of a present and an absent label in the wrong order. Exact match: images with every label right, "
        "predicted where the logit is at least 0.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.named("further", selection),
        title=f"Further scores on {captions.data_name(models)}, {len(reference.names):,} images",
        frame=pd.concat([pd.DataFrame({"model": list(models)}), mean.reset_index(drop=True)], axis=1),
        spread=spread.reset_index(drop=True),
        best=tuple(name for name, score in metrics.FURTHER.items() if not score.lower),
        caption=" ".join(sentences),
    )


def ablation(model: str, axis: str, variants: Models, full: list[Run], *, selection: str = "last") -> Table:
    """One axis: variant -> runs, beside the full model's runs, with the paired difference to it.

    full: empty where it is not trained; then there is no difference to state. q are the p of the table's differences
    after the correction of Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995): of 20 differences that are
    none, one has p < 0.05 on average.
    """
    variants, full_name = _with_full(variants, full)
    reference = captions.checked(variants, selection)
    mean, spread = _over_seeds(variants, selection, _all_scores)
    differences = _against(variants, full_name, selection)
    frame = pd.DataFrame({axis: list(variants), "mAP": mean["mAP"].to_numpy()})
    for column, part in {DELTA: "delta", "Δ low": "low", "Δ high": "high"}.items():
        frame[column] = [100 * getattr(differences[v], part) if v in differences else np.nan for v in variants]
    frame["p"] = [differences[v].p if v in differences else np.nan for v in variants]
    known = frame["p"].notna()
    frame.loc[known, "q"] = false_discovery_control(frame.loc[known, "p"]) if known.any() else np.nan
    marks = {(row, DELTA): NOISE for row, v in enumerate(variants) if v in differences and differences[v].within_noise}
    sentences = [
        captions.average(variants),
        captions.ap(reference),
        f"{DELTA}: difference to {full_name}, with its 95 % interval and the p of no difference, by "
        f"{captions.draws(reference):,} paired bootstrap draws of test images and seeds; q: p corrected for the number "
        "of rows (Benjamini-Hochberg). " + captions.resolution(reference, int(known.sum()))
        if full_name
        else "The full model is not trained, so no difference to it is stated.",
        "CF1, OF1: F1 over labels and over all decisions, predicted where the logit is at least 0.",
        captions.made(variants, selection),
    ]
    return Table(
        name=captions.named(f"ablation_{model}_{axis.replace(' ', '_')}", selection),
        title=f"Ablation of {model}: {axis}, on {captions.data_name(variants)}",
        frame=pd.concat([frame, mean[["CF1", "OF1"]].reset_index(drop=True)], axis=1),
        spread=spread.reset_index(drop=True),
        formats={DELTA: "+.1f", "Δ low": "+.1f", "Δ high": "+.1f", "p": "p", "q": "p"},
        intervals={"Δ 95 %": ("Δ low", "Δ high")},
        best=("mAP", "CF1", "OF1"),
        reference=list(variants).index(full_name) if full_name else None,
        marks=marks,
        footnotes={NOISE: captions.noise(full_name, reference)} if marks else {},
        caption=" ".join(sentences),
    )


def ablation_per_class(model: str, axis: str, variants: Models, full: list[Run], *, selection: str = "last") -> Table:
    """Labels x variants: the full model's AP per class and what each variant changes of it, in points.

    Raises UserError where the full model has no runs.
    """
    if not full:
        raise UserError(f"the full model {model!r} has no finished run to compare the variants of {axis!r} with")
    variants, full_name = _with_full(variants, full)
    reference = captions.checked(variants, selection)
    mean, _ = _over_seeds(variants, selection, _class_scores)
    others = [variant for variant in variants if variant != full_name]
    frame = pd.DataFrame({"label": mean.columns, full_name: mean.loc[full_name].to_numpy()})
    for variant in others:
        frame[variant] = (mean.loc[variant] - mean.loc[full_name]).to_numpy()
    marks = {
        (row, variant): NOISE
        for row in range(len(frame))
        for variant, difference in _against(variants, full_name, selection, "AP", row).items()
        if difference.within_noise
    }
    sentences = [
        f"AP of {full_name} in percent, then what each value of {axis} adds to it in points; means over seeds.",
        captions.ap(reference),
        captions.made(variants, selection),
    ]
    return Table(
        name=captions.named(f"ablation_{model}_{axis}_per_class", selection),
        title=f"Ablation of {model}: {axis}, AP per class on {captions.data_name(variants)}",
        frame=frame,
        formats=dict.fromkeys(others, "+.1f"),
        marks=marks,
        footnotes={NOISE: captions.noise(full_name, reference)} if marks else {},
        caption=" ".join(sentences),
    )


def ablations(study: Study, *, selection: str = "last") -> list[Table]:
    """The table of each of the experiment's ablation axes with finished runs; per class too beside a full model.

    A model with several axes has a table of all their variants first.
    """
    found = []
    for model in study.experiment.ablation:
        full, axes = study.finished(model), _finished_axes(study, model)
        if len(axes) > 1:
            found.append(ablation(model, ALL_AXES, _together(axes, full), full, selection=selection))
        for axis, variants in axes.items():
            found.append(ablation(model, axis, variants, full, selection=selection))
            if full:
                found.append(ablation_per_class(model, axis, variants, full, selection=selection))
    return found


def all_axes(study: Study) -> dict[str, tuple[Models, list[Run]]]:
    """Model -> every finished variant of all its ablation axes, "axis value" -> runs, and the full model's runs."""
    found = {}
    for model in study.experiment.ablation:
        full, axes = study.finished(model), _finished_axes(study, model)
        if len(axes) > 1:
            found[model] = _together(axes, full), full
    return found


def _finished_axes(study: Study, model: str) -> dict[str, Models]:
    """The model's ablation axes with finished runs: axis -> value -> runs."""
    axes = {axis: study.finished_variants(model, axis) for axis in study.experiment.axes(model)}
    axes = {axis: {value: runs for value, runs in variants.items() if runs} for axis, variants in axes.items()}
    return {axis: variants for axis, variants in axes.items() if variants}


def _together(axes: dict[str, Models], full: list[Run]) -> Models:
    """The variants of all axes, each once, without the full model."""
    found, folders = {}, {run.folder.parent for run in full}
    for axis, variants in axes.items():
        for value, runs in variants.items():
            if runs[0].folder.parent not in folders:
                folders.add(runs[0].folder.parent)
                found[value if "+" in axis else f"{axis} {value}"] = runs
    return found


def beside_published(
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


def _beside(models: Models, entered: dict[str, pd.Series], selection: str, key: str, theirs: pd.DataFrame) -> Table:
    settings = [column for column in ("method", "backbone", "pretraining", "input_size") if column in theirs]
    figures = [column for column in theirs if column not in (*settings, "protocol", "source")]
    ours, spread = _over_seeds(models, selection, lambda *which: {**_class_scores(*which), **_all_scores(*which)})
    ours = pd.concat([ours, pd.DataFrame(entered).T]).reindex(columns=figures).reset_index(drop=True)
    about = [_own_row(model, runs[0]) for model, runs in models.items()]
    about += [{"method": f"{model} (entered)", "source": f"external/{model}.csv"} for model in entered]
    frame = pd.concat([theirs, pd.concat([pd.DataFrame(about), ours], axis=1)], ignore_index=True)
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
        "AP and choose epoch and threshold is their own affair; protocol: what is known of it from their code.",
        f"{DELTA}: mAP of {top}, the highest scored here, minus that of the row." if top else "",
        f"Rows scored here: {captions.average(models).replace('In', 'in', 1)}",
        captions.ap(models[next(iter(models))][0]),
        captions.made(models, selection),
    ]
    return Table(
        name=captions.named(f"published_{key}", selection),
        title=f"Published {'mAPs' if key == 'summary' else 'figures'} and ours on {captions.data_name(models)}",
        frame=frame[[*settings, *figures, DELTA, "protocol", "source"]],
        spread=spread,
        formats={DELTA: "+.1f", "input_size": ".0f"},
        best=tuple(figures) if comparable else (),
        marks=marks,
        footnotes=footnotes,
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


def _all_scores(run: Run, selection: str) -> dict[str, float]:
    logits = run.logits.get(selection)
    if logits is None or not (run.targets == 1).any():
        return dict.fromkeys(("mAP", *RATES), np.nan)
    all_labels, top = (metrics.evaluate(logits, run.targets, top=top) for top in (None, 3))
    return {
        **{column: 100 * all_labels[column] for column in ("mAP", *metrics.RATES)},
        **{f"{rate}-3": 100 * top[rate] for rate in metrics.RATES},
    }


def _further_scores(run: Run, selection: str) -> dict[str, float]:
    logits = run.logits.get(selection)
    if logits is None or not (run.targets == 1).any():
        return dict.fromkeys(metrics.FURTHER, np.nan)
    known = {**metrics.ranking(logits, run.targets), **metrics.examples(logits, run.targets)}
    return {name: score.factor * known[score.key] for name, score in metrics.FURTHER.items()}


def _class_scores(run: Run, selection: str) -> dict[str, float]:
    logits = run.logits.get(selection)
    if logits is None:
        return dict.fromkeys((*run.labels, "mAP"), np.nan)
    found = metrics.evaluate(logits, run.targets)
    return {**dict(zip(run.labels, 100 * found["AP"], strict=True)), "mAP": 100 * found["mAP"]}


def _over_seeds(
    models: Models, selection: str, score: Callable[[Run, str], dict[str, float]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and standard deviation over the seeds, a row a model."""
    means, spreads = {}, {}
    for model, runs in models.items():
        table = pd.DataFrame([score(run, selection) for run in runs])
        mean, spread = significance.mean_sd(table.to_numpy())
        means[model], spreads[model] = (pd.Series(values, table.columns) for values in (mean, spread))
    return pd.DataFrame(means).T, pd.DataFrame(spreads).T


def _stacked(runs: list[Run], selection: str) -> np.ndarray | None:
    """Logits [seeds, N, C], or None where a run lacks the selection."""
    return np.stack([run.logits[selection] for run in runs]) if all(selection in r.logits for r in runs) else None


def _bootstrap(runs: list[Run], selection: str) -> tuple[float, float]:
    logits = _stacked(runs, selection)
    if logits is None:
        return np.nan, np.nan
    return significance.bootstrap(logits, runs[0].targets, draws=captions.draws(runs[0]))


def _against(
    models: Models, base: str | None, selection: str, column: str = "mAP", row: int = -1
) -> dict[str, significance.Difference]:
    """Every other model's score minus that of `base`, where both have one.

    column: a score of the tables, "-3" for the top three; or "AP" of the label number `row`, of all of them (mAP)
    where there is none of that number, as in the last row of a table per class.
    """
    stacked = {model: logits for model, runs in models.items() if (logits := _stacked(runs, selection)) is not None}
    if base not in stacked:
        return {}
    reference = models[base][0]
    score, _, top = column.partition("-")
    label = row if score == "AP" and row < len(reference.labels) else None
    return {
        model: significance.paired(
            logits,
            stacked[base],
            reference.targets,
            "mAP" if score == "AP" and label is None else score,
            draws=captions.draws(reference),
            label=label,
            top=int(top) if top else None,
        )
        for model, logits in stacked.items()
        if model != base
    }


def _highest(values: pd.Series) -> str | None:
    return None if values.isna().all() else str(values.idxmax())


def _with_full(variants: Models, full: list[Run]) -> tuple[Models, str | None]:
    """The variants with the full model among them, and the name it has there."""
    if not full:
        return variants, None
    folders = [run.folder for run in full]
    named = {}
    for variant, runs in variants.items():
        named[f"{variant} (full model)" if [run.folder for run in runs] == folders else variant] = runs
    name = next((v for v, runs in named.items() if [run.folder for run in runs] == folders), "full model")
    return (named if name in named else {name: full, **named}), name


def _own_row(model: str, run: Run) -> dict[str, str | int]:
    """The settings and source of a row beside published ones."""
    if not captions.own([run]):
        return {"method": f"{model} (scored here)", "source": f"external/{run.about['external']}"}
    setting = run.about["configuration"]
    return {
        "method": f"{model} (ours)",
        "backbone": setting["backbone"]["name"],
        "pretraining": captions.weights(run.about),
        "input_size": setting["input_size"],
        "source": f"this project, {run.folder.parent.name}",
    }
