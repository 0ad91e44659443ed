"""What each part of a model adds (03_ablation, 05_tables): variants of one axis beside the full model."""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from mlclib.common.errors import UserError
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.comparison import NOISE, all_scores, class_scores, over_seeds, paired_differences
from mlclib.results.table import Table, written
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study

DELTA = "Δ mAP"
ALL_AXES = "all axes"


def compare(model: str, axis: str, variants: Models, full: list[FinishedRun], *, selection: str = "last") -> Table:
    """One axis: variant -> runs, beside the full model's runs, with the paired difference to it.

    full: empty where it is not trained; then there is no difference to state. q are the p of the table's differences
    after the correction of Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995): of 20 differences that are
    none, one has p < 0.05 on average.
    """
    variants, full_name = _with_full(variants, full)
    reference = captions.checked(variants, selection)
    mean, spread = over_seeds(variants, selection, all_scores)
    differences = paired_differences(variants, full_name, selection)
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
        name=captions.file_stem(f"ablation_{model}_{axis.replace(' ', '_')}", selection),
        title=f"Ablation of {model}: {axis}, on {captions.data_name(variants)}",
        frame=pd.concat([frame, mean[["CF1", "OF1"]].reset_index(drop=True)], axis=1),
        spread=spread.reset_index(drop=True),
        formats={DELTA: "+.1f", "Δ low": "+.1f", "Δ high": "+.1f", "p": "p", "q": "p"},
        intervals={"Δ 95 %": ("Δ low", "Δ high")},
        best=("mAP", "CF1", "OF1"),
        reference=list(variants).index(full_name) if full_name else None,
        marks=marks,
        footnotes={NOISE: captions.noise(full_name, reference)} if marks else {},
        runs=variants,
        caption=" ".join(sentences),
    )


def per_class(model: str, axis: str, variants: Models, full: list[FinishedRun], *, selection: str = "last") -> Table:
    """Labels x variants: the full model's AP per class and what each variant changes of it, in points.

    Raises UserError where the full model has no runs.
    """
    if not full:
        raise UserError(f"the full model {model!r} has no finished run to compare the variants of {axis!r} with")
    variants, full_name = _with_full(variants, full)
    reference = captions.checked(variants, selection)
    mean, _ = over_seeds(variants, selection, class_scores)
    others = [variant for variant in variants if variant != full_name]
    frame = pd.DataFrame({"label": mean.columns, full_name: mean.loc[full_name].to_numpy()})
    for variant in others:
        frame[variant] = (mean.loc[variant] - mean.loc[full_name]).to_numpy()
    marks = {
        (row, variant): NOISE
        for row in range(len(frame))
        for variant, difference in paired_differences(variants, full_name, selection, "AP", row).items()
        if difference.within_noise
    }
    sentences = [
        f"AP of {full_name} in percent, then what each value of {axis} adds to it in points; means over seeds.",
        captions.ap(reference),
        captions.made(variants, selection),
    ]
    return Table(
        name=captions.file_stem(f"ablation_{model}_{axis}_per_class", selection),
        title=f"Ablation of {model}: {axis}, AP per class on {captions.data_name(variants)}",
        frame=frame,
        formats=dict.fromkeys(others, "+.1f"),
        marks=marks,
        footnotes={NOISE: captions.noise(full_name, reference)} if marks else {},
        runs=variants,
        caption=" ".join(sentences),
    )


def finding(table: Table) -> str:
    """In a sentence: which variant of `compare` loses and which gains most, and which of them may be chance."""
    if table.reference is None:
        return "The full model is not trained, so no difference to it is stated."
    name = table.frame.columns[0]
    others = table.frame.drop(index=table.reference).dropna(subset=DELTA)
    if others.empty:
        return "There is no difference to state."

    def told(row: pd.Series) -> str:
        points, low, high = (written(row[column], "+.1f") for column in (DELTA, "Δ low", "Δ high"))
        return f"{row[name]} ({points} points, 95 % {low} to {high})"

    least, most = others.loc[others[DELTA].idxmin()], others.loc[others[DELTA].idxmax()]
    parts = [f"{told(least)} loses most"] if least[DELTA] < 0 else []
    parts += [f"{told(most)} gains most"] if most[DELTA] > 0 else []
    chance = others.loc[~(others["q"] < 0.05), name]
    noise = f"{', '.join(chance)} may be chance (q of 0.05 or more)" if len(chance) else "none is likely to be chance"
    return f"Against the full model {' and '.join(parts) or 'nothing changes'}; {noise}."


def per_class_finding(table: Table) -> str:
    """In a sentence: the variant of `per_class` that changes most labels beyond noise, and which of them most."""
    frame = table.frame[table.frame["label"] != "mAP"]
    changed = {}
    for variant in frame.columns[2:]:
        real = [row for row in frame.index if (row, variant) not in table.marks]
        changed[variant] = frame.loc[real].dropna(subset=variant)
    if not any(len(rows) for rows in changed.values()):
        return "No variant changes the AP of any label beyond noise."
    variant = max(changed, key=lambda one: len(changed[one]))
    rows = changed[variant]
    ends = [rows.loc[at] for at in dict.fromkeys((rows[variant].idxmin(), rows[variant].idxmax()))]
    named = " and ".join(f"{row['label']} by {written(row[variant], '+.1f')} points" for row in ends)
    return (
        f"{variant} changes the AP of {len(rows)} of {len(frame)} labels beyond noise, more than any other variant: "
        f"{named}{' at the ends' if len(ends) > 1 else ''}."
    )


def every(study: Study, *, selection: str = "last") -> dict[str, list[Table]]:
    """Model -> the tables of its ablation axes that have finished runs; per class too beside a full model.

    The first holds all variants of the model: of all its axes together, or of its only one.
    """
    found: dict[str, list[Table]] = {}
    for model in study.experiment.ablation:
        full, axes = study.finished(model), finished_axes(study, model)
        together = {ALL_AXES: _together(axes, full)} if len(axes) > 1 else {}
        for axis, variants in (together | axes).items():
            tables = found.setdefault(model, [])
            tables.append(compare(model, axis, variants, full, selection=selection))
            if full and axis not in together:
                tables.append(per_class(model, axis, variants, full, selection=selection))
    return found


def finished_axes(study: Study, model: str) -> dict[str, Models]:
    """The model's ablation axes with finished runs: axis -> value -> runs."""
    axes = {axis: study.finished_variants(model, axis) for axis in study.experiment.axes(model)}
    axes = {axis: {value: runs for value, runs in variants.items() if runs} for axis, variants in axes.items()}
    return {axis: variants for axis, variants in axes.items() if variants}


def _together(axes: dict[str, Models], full: list[FinishedRun]) -> Models:
    """The variants of all axes, each once, without the full model."""
    found, folders = {}, {run.folder.parent for run in full}
    for axis, variants in axes.items():
        for value, runs in variants.items():
            if runs[0].folder.parent not in folders:
                folders.add(runs[0].folder.parent)
                found[value if "+" in axis else f"{axis} {value}"] = runs
    return found


def _with_full(variants: Models, full: list[FinishedRun]) -> tuple[Models, str | None]:
    """The variants with the full model among them, and the name it has there."""
    if not full:
        return variants, None
    folders = [run.folder for run in full]
    named = {}
    for variant, runs in variants.items():
        named[f"{variant} (full model)" if [run.folder for run in runs] == folders else variant] = runs
    name = next((v for v, runs in named.items() if [run.folder for run in runs] == folders), "full model")
    return (named if name in named else {name: full, **named}), name
