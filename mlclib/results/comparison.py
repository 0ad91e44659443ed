"""What the tables of models share: scores over seeds, their intervals, paired differences, and the table's frame."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mlclib.metrics import resampling
from mlclib.metrics import scores as metrics
from mlclib.metrics.resampling import Difference
from mlclib.models import title as title_of
from mlclib.results import captions
from mlclib.results.captions import MAP, MAP_ALL, MAP_FREQUENT, Models
from mlclib.results.table import Table, written
from mlclib.runs.store import FinishedRun

# Columns of scores: a rate, over all labels or among the top three of an image.
RATES = {f"{rate}{end}": (rate, top) for end, top in (("", None), ("-3", 3)) for rate in metrics.RATES}
F1S = ("CF1", "OF1")
COMPARED = (*F1S, "CF1-3", "OF1-3")
NOISE = "≈"
BASELINE = "linear"  # strong and simple, one linear layer: what a new head has to beat

DELTA, LOW, HIGH = "Δ mAP", "Δ low", "Δ high"  # columns of a difference of mAP, in points


def all_scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """mAP, MAP_FREQUENT where some labels are rare, and RATES of one run in percent; NaN where the selection or public
    labels are not there.
    """
    labels = captions.frequent(run)
    columns = (MAP, *RATES) if labels is None else (MAP, MAP_FREQUENT, *RATES)
    if selection not in run.logits or not (run.targets == 1).any():
        return dict.fromkeys(columns, np.nan)
    values = {top: metrics.evaluate(run.logits[selection], run.targets, top=top) for top in (None, 3)}
    shares = {column: values[top][rate] for column, (rate, top) in RATES.items()} | {MAP: values[None]["mAP"]}
    shares[MAP_FREQUENT] = float(metrics.mean_defined(values[None]["AP"][metrics.columns(labels)]))
    return {column: 100 * shares[column] for column in columns}


def further_scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """metrics.FURTHER of one run, shares in percent; NaN as in `all_scores`."""
    if selection not in run.logits or not (run.targets == 1).any():
        return dict.fromkeys(metrics.FURTHER, np.nan)
    given = run.logits[selection], run.targets
    values = {**metrics.ranking(*given), **metrics.examples(*given)}
    return {name: score.factor * values[score.key] for name, score in metrics.FURTHER.items()}


def class_scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """AP of each label, and mAP, of one run in percent; NaN as in `all_scores`."""
    if selection not in run.logits:
        return dict.fromkeys((*run.labels, "mAP"), np.nan)
    values = metrics.evaluate(run.logits[selection], run.targets)
    return {**dict(zip(run.labels, 100 * values["AP"], strict=True)), "mAP": 100 * values["mAP"]}


def over_seeds(
    models: Models, selection: str, score: Callable[[FinishedRun, str], dict[str, float]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and standard deviation over the seeds (NaN of one seed): two frames, one row per model, a column per score.

    score: of one run and a selection of its logits, as `all_scores`.
    """
    means, spreads = {}, {}
    for model, runs in models.items():
        table = pd.DataFrame([score(run, selection) for run in runs])
        mean, spread = resampling.mean_sd(table.to_numpy())
        means[model], spreads[model] = (pd.Series(values, table.columns) for values in (mean, spread))
    return pd.DataFrame(means).T, pd.DataFrame(spreads).T


def headline_frames(models: Models, selection: str, rates: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`over_seeds` of the headline mAP, of the mAP over all labels where that is another, and of some of RATES, as a
    table has it: the model and the interval of the headline (columns "<it> low" and "<it> high") stand in columns too.

    Where thresholds are chosen (`at_chosen_thresholds`) the rates over all labels are at those, and F1 at logit 0
    stands beside.
    """
    first = captions.headline(next(iter(models.values()))[0])
    frames, chosen = over_seeds(models, selection, all_scores), at_chosen_thresholds(models, selection)
    if chosen:
        for frame, at_chosen in zip(frames, over_seeds(chosen, selection, all_scores), strict=True):
            frame[[f"{name} at 0" for name in F1S]] = frame[list(F1S)]
            frame[list(metrics.RATES)] = at_chosen[list(metrics.RATES)]
    columns = [first, *([MAP] if first != MAP else [])]
    columns += [name for rate in rates for name in (rate, f"{rate} at 0") if name in frames[0]]
    names = {} if first == MAP else {MAP: MAP_ALL}
    frame, spread = (frame[columns].rename(columns=names).reset_index(names="model") for frame in frames)
    bounds = 100 * np.array([bootstrap(runs, selection) for runs in models.values()])
    frame.insert(2, f"{first} low", bounds[:, 0])
    frame.insert(3, f"{first} high", bounds[:, 1])
    return frame, spread.drop(columns="model")


def at_chosen_thresholds(models: Models, selection: str) -> Models | None:
    """Subtract from each run's logits the threshold that is best on its validation images: then 0 is that threshold.

    None where some run has no validation part with a label, and for another selection than the last epoch, whose
    validation logits are not kept.
    """
    if selection != "last":
        return None
    shifted = {model: [_less_threshold(run) for run in runs] for model, runs in models.items()}
    return None if any(None in runs for runs in shifted.values()) else shifted


def stacked(runs: list[FinishedRun], selection: str) -> np.ndarray | None:
    """Logits [seeds, N, C], or None where a run lacks the selection."""
    return np.stack([run.logits[selection] for run in runs]) if all(selection in r.logits for r in runs) else None


def bootstrap(runs: list[FinishedRun], selection: str, draws: int | None = None) -> tuple[float, float]:
    """The 95 % interval of the runs' mean headline mAP over test images and seeds, as shares; NaN without one.

    draws: where other than `captions.draws`.
    """
    logits = stacked(runs, selection)
    if logits is None:
        return np.nan, np.nan
    return resampling.bootstrap(
        logits, runs[0].targets, draws=draws or captions.draws(runs[0]), labels=captions.frequent(runs[0])
    )


def paired_differences(
    models: Models, base: str | None, selection: str, column: str | int = MAP
) -> dict[str, Difference]:
    """Every other model's score minus that of `base`, where both have one.

    column: MAP, MAP_FREQUENT or one of RATES; or the number of a label, for its AP.
    """
    scored = {model: logits for model, runs in models.items() if (logits := stacked(runs, selection)) is not None}
    if base not in scored:
        return {}
    reference, label, labels = models[base][0], None, None
    score, top = RATES.get(column, (column, None))
    if column == MAP_FREQUENT:
        score, labels = MAP, captions.frequent(reference)
    elif isinstance(column, int):
        score, label = "AP", column
    settings = {"draws": captions.draws(reference), "label": label, "labels": labels, "top": top}
    return {
        model: resampling.paired_bootstrap(logits, scored[base], reference.targets, score, **settings)
        for model, logits in scored.items()
        if model != base
    }


def noise_per_class(models: Models, bases: Sequence[str | None], selection: str) -> dict[tuple[int, str], str]:
    """Marks of a table of labels (rows, the last is mAP) x models, where a difference to the base may be chance.

    bases: for each row the model that the others are compared with.
    """
    columns = [*range(len(bases) - 1), MAP]
    return {
        (row, model): NOISE
        for row, (base, column) in enumerate(zip(bases, columns, strict=True))
        for model, difference in paired_differences(models, base, selection, column).items()
        if difference.within_noise
    }


def in_points(difference: Difference) -> dict[str, float]:
    """The difference and its interval in points, and its p, by column."""
    points = {DELTA: difference.delta, LOW: difference.low, HIGH: difference.high}
    return {column: 100 * value for column, value in points.items()} | {"p": difference.p}


def with_interval(row: pd.Series) -> str:
    """The difference of a row with the columns of `in_points`, in words."""
    delta, low, high = (written(row[column], "+.1f") for column in (DELTA, LOW, HIGH))
    return f"{delta} points, 95 % interval {low} to {high}"


def highest(values: pd.Series) -> str | None:
    """The model with the highest value; None where no value is known."""
    return None if values.isna().all() else str(values.idxmax())


def scored_table(
    name: str, title: str, models: Models, frame: pd.DataFrame, *,
    caption: str, protocol: Sequence[str], selection: str = "last", noise: str = "", **layout: object,
) -> Table:  # fmt: skip
    """A table of models' scores: its file is named after the selection, its protocol ends with what the runs recorded.

    selection: "" where no one selection is scored. protocol: sentences. noise: what a cell that is marked NOISE may
    differ from by chance alone. layout: further fields of Table, runs only where they are other than the models.
    """
    if NOISE in layout.get("marks", {}).values():
        draws = captions.draws(next(iter(models.values()))[0])
        note = f"the 95 % interval of the difference ({draws:,} paired bootstrap draws of test images and seeds)"
        layout["footnotes"] = {NOISE: f"Within noise of {noise}: 0 is in {note}.", **layout.get("footnotes", {})}
    return Table(
        name=captions.file_stem(name, selection),
        title=f"{title} on {captions.data_name(models)}",
        frame=frame,
        caption=caption,
        protocol=" ".join(filter(None, [*protocol, captions.run_details(models, selection)])),
        **{"runs": models, "shown": {model: title_of(model) for model in models}, **layout},
    )


def _less_threshold(run: FinishedRun) -> FinishedRun | None:
    validation = run.validation
    if validation is None or "last" not in run.logits or not (validation[1] == 1).any():
        return None
    # in float64, so that just the logits below the threshold become negative
    return replace(run, logits={"last": run.logits["last"].astype(np.float64) - metrics.best_threshold(*validation)})
