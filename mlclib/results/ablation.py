"""What each part of a model adds (03_ablation, 05_tables): variants of one axis beside the full model."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import false_discovery_control

from mlclib.metrics import resampling
from mlclib.metrics.pairwise import ALPHA
from mlclib.models import title
from mlclib.results import captions, comparison
from mlclib.results.captions import Models
from mlclib.results.comparison import DELTA, HIGH, LOW, NOISE, all_scores, scored_table, with_interval
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table, listed, written
from mlclib.runs.plan import LEARNING_CURVE
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study

ALL_AXES = "all axes"
NOT_TRAINED = "The full model is not trained, so no difference to it is stated."


def axis_table(model: str, axis: str, variants: Models, full: list[FinishedRun], *, selection: str = "last") -> Table:
    """One axis: variant -> runs, beside the full model's runs, with the paired difference to it.

    full: empty where it is not trained; then there is no difference to state. q are the p of the table's differences
    after the correction of Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995): of 20 differences that are
    none, one has p < 0.05 on average.
    """
    variants, full_name = _with_full(variants, full)
    reference = captions.checked(variants, selection)
    mean, spread = comparison.over_seeds(variants, selection, all_scores)
    differences = comparison.paired_differences(variants, full_name, selection)
    points = {name: comparison.in_points(difference) for name, difference in differences.items()}
    stated = pd.DataFrame(points, index=[DELTA, LOW, HIGH, "p"], dtype=float).T.reindex(mean.index)
    p = stated["p"].dropna()
    stated["q"] = pd.Series(false_discovery_control(p), p.index)
    frame = pd.concat([mean["mAP"], stated, mean[["CF1", "OF1"]]], axis=1).reset_index(names=axis)
    draws, rows = captions.draws(reference), len(p)
    least = resampling.least_p(draws)
    protocol = [
        captions.ap(reference),
        f"Intervals and p: by {draws:,} paired bootstrap draws of test images and seeds; q: p corrected for the number "
        f"of rows (Benjamini-Hochberg). With {draws:,} draws p is at least {least:.1g}; if one row of {rows} has it, "
        f"q {least * rows:.1g}.",
        "CF1, OF1: F1 of the mean precision and recall of labels, and of all decisions; predicted from logit 0 on.",
    ]
    delta = f"{DELTA}: difference to {full_name}; p: test of no difference; q: p corrected for the number of rows."
    return scored_table(
        f"ablation_{model}_{axis.replace(' ', '_')}", f"Ablation of {title(model)}: {axis},", variants, frame,
        selection=selection,
        shown={},
        spread=spread[["mAP", "CF1", "OF1"]].reset_index(drop=True),
        best=("mAP", "CF1", "OF1"),
        reference=list(variants).index(full_name) if full_name else None,
        marks={(list(variants).index(name), DELTA): NOISE for name, d in differences.items() if d.within_noise},
        noise=full_name,
        caption=f"{captions.average(variants)} {delta if full_name else NOT_TRAINED}",
        protocol=protocol if full_name else [protocol[0], protocol[2]],
    )  # fmt: skip


def axis_figure(table: Table, selection: str = "last") -> Figure:
    """`axis_table` as a dot plot: test mAP (%) of each seed (dots) and their mean.

    The full model is the dashed line; a bar is the 95 % interval of the difference to it, set off from that line, so
    that a bar which crosses the line is a difference that may be chance. Without a full model there are no bars.
    """
    frame, names, full = table.frame, table.frame.iloc[:, 0], table.reference is not None
    if frame["mAP"].isna().all():
        return text_figure(f"{captions.HIDDEN}.")
    figure, axes = plt.subplots(figsize=(8, (0.5 if len(frame) <= 12 else 0.36) * len(frame) + 2))
    bar = {"color": "0.8", "lw": 5, "solid_capstyle": "butt"}
    note = f"best is {names[frame['mAP'].idxmax()]} ({frame['mAP'].max():.1f}%)"
    if full:
        level = frame["mAP"][table.reference]
        axes.axvline(level, color=COLOURS[1], lw=1, ls="--", label="full model")
        axes.plot([], [], label="difference, 95 %", **bar)
        axes.legend(fontsize=9)
        note = f"{(frame['q'] < ALPHA).sum()} of {len(frame) - 1} differ from the full model (q < {ALPHA:g}); {note}"
    for row, (name, mean, low, high) in enumerate(zip(names, frame["mAP"], frame[LOW], frame[HIGH], strict=True)):
        colour = COLOURS[1] if row == table.reference else COLOURS[0]
        seeds = [all_scores(run, selection)["mAP"] for run in table.runs[name]]
        if full and row != table.reference:
            axes.plot([level + low, level + high], [row, row], **bar)
        axes.plot(seeds, [row] * len(seeds), "o", color=colour, alpha=0.45, ms=6)
        axes.plot(mean, row, "D", color=colour, ms=8)
    axes.set_yticks(range(len(frame)), names)
    axes.set(xlabel="test mAP (%)", ylabel=names.name, ylim=(len(frame) - 0.4, -0.6))
    axes.set_title(f"{table.title}\n{note}", loc="right")
    figure.tight_layout()
    return figure


def axis_sentence(table: Table) -> str:
    """Which variant of `axis_table` loses and which gains most, and which of them may be chance."""
    if table.reference is None:
        return NOT_TRAINED
    name = table.frame.columns[0]
    others = table.frame.drop(index=table.reference).dropna(subset=DELTA)
    others[name] = others[name].map(str if name == ALL_AXES else f"{name} {{}}".format)
    if others.empty:
        return "There is no difference to state."
    least, most = others.loc[others[DELTA].idxmin()], others.loc[others[DELTA].idxmax()]
    parts = [f"The largest loss is that of {least[name]}: {with_interval(least)}."] if least[DELTA] < 0 else []
    parts += [f"The largest gain is that of {most[name]}: {with_interval(most)}."] if most[DELTA] > 0 else []
    chance = others.loc[~(others["q"] < ALPHA), name]
    noise = f"May be chance (q at least {ALPHA:g}): {'; '.join(chance) or 'none of the differences'}."
    return " ".join([*(parts or ["No variant differs from the full model."]), noise])


def per_class_table(
    model: str, axis: str, variants: Models, full: list[FinishedRun], *, selection: str = "last"
) -> Table:
    """Labels x variants: the full model's AP per class and what each variant changes of it, in points."""
    variants, full_name = _with_full(variants, full)
    reference = captions.checked(variants, selection)
    mean, _ = comparison.over_seeds(variants, selection, comparison.class_scores)
    others = [variant for variant in variants if variant != full_name]
    changes = mean.loc[others] - mean.loc[full_name]
    frame = pd.concat([mean.loc[[full_name]], changes]).T.rename_axis("label").reset_index()
    return scored_table(
        f"ablation_{model}_{axis}_per_class", f"Ablation of {title(model)}: {axis}, AP per class", variants, frame,
        selection=selection,
        shown={},
        formats=dict.fromkeys(others, "+.1f"),
        marks=comparison.noise_per_class(variants, [full_name] * mean.shape[1], selection),
        noise=full_name,
        caption=f"AP of {full_name} in percent, and the points that each value of {axis} adds; means over seeds.",
        protocol=[captions.ap(reference)],
    )  # fmt: skip


def per_class_sentence(table: Table) -> str:
    """The variant of `per_class_table` that changes most labels beyond noise, and which of them most."""
    frame = table.frame[table.frame["label"] != "mAP"].set_index("label")
    variants = frame.columns[1:]
    noise = [[(row, variant) in table.marks for variant in variants] for row in range(len(frame))]
    changed = frame[variants].mask(np.array(noise))
    if changed.isna().all(axis=None):
        return "No variant changes the AP of any label by more than chance."
    variant = changed.count().idxmax()
    changes = changed[variant].dropna()
    ends = dict.fromkeys((changes.idxmin(), changes.idxmax()))
    text = " and ".join(f"{label} ({written(changes[label], '+.1f')} points)" for label in ends)
    return (
        f"The variant {variant} changes most labels: the AP of {len(changes)} of {len(frame)} by more than chance. "
        f"{'Extremes' if len(ends) > 1 else 'It'}: {text}."
    )


def all_tables(study: Study, *, selection: str = "last") -> dict[str, list[Table]]:
    """Model -> the tables of its ablation axes that have finished runs; per class too beside a full model.

    The first holds all variants of the model: of all its axes together, or of its only one.
    """
    tables: dict[str, list[Table]] = {}
    for model in study.experiment.ablation:
        full, axes = study.finished(model), {}
        for axis in study.experiment.axes(model):
            variants = {value: runs for value, runs in study.finished_variants(model, axis).items() if runs}
            if variants and axis != LEARNING_CURVE:
                axes[axis] = variants
        together = {ALL_AXES: _together(axes, full)} if len(axes) > 1 else {}
        for axis, variants in (together | axes).items():
            tables.setdefault(model, []).append(axis_table(model, axis, variants, full, selection=selection))
            if full and axis not in together:
                tables[model].append(per_class_table(model, axis, variants, full, selection=selection))
    return tables


def variants_sentence(tables: Mapping[str, Table]) -> str:
    """How many of all variants differ from their full model, and which differs most; empty where there is none.

    tables: model -> the first of its `all_tables`.
    """
    frames = {}
    for model, table in tables.items():
        axis, names = table.frame.columns[0], table.frame.iloc[:, 0].astype(str)
        if table.frame["q"].notna().any():
            frames[model] = table.frame.set_axis(names if axis == ALL_AXES else f"{axis} " + names)
    if not frames:
        return ""
    stated = pd.concat(frames).query("q.notna()")
    shown = stated[stated["q"] < ALPHA]
    variants = f"{len(stated)} variant{'s' if len(stated) > 1 else ''} of {listed(map(title, frames))}"
    differ = f"{len(shown) or 'none'} {'are' if len(shown) > 1 else 'is'} shown to differ"
    first = f"Of {variants}, {differ} from the full model (q < {ALPHA:g})."
    if shown.empty:
        return first
    model, variant = shown[DELTA].abs().idxmax()
    return f"{first} The largest difference is {title(model)}, {variant}: {with_interval(shown.loc[(model, variant)])}."


def _together(axes: dict[str, Models], full: list[FinishedRun]) -> Models:
    """The variants of all axes, each once, without the full model."""
    variants, folders = {}, {run.folder.parent for run in full}
    for axis, values in axes.items():
        for value, runs in values.items():
            if runs[0].folder.parent not in folders:
                folders.add(runs[0].folder.parent)
                variants[value if "+" in axis else f"{axis} {value}"] = runs
    return variants


def _with_full(variants: Models, full: list[FinishedRun]) -> tuple[Models, str | None]:
    """The variants with the full model among them, and the name it has there."""
    if not full:
        return variants, None
    for variant, runs in variants.items():
        if runs[0].folder.parent == full[0].folder.parent:
            name = f"{variant} (full model)"
            return {name if v == variant else v: runs for v, runs in variants.items()}, name
    return {"full model": full, **variants}, "full model"
