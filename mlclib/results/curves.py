"""Learning curves (05_tables): which model is best at which number of training images, and whether rankings cross.

An experiment has them where its ablation varies `training.images`.
"""

from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlclib.metrics import resampling
from mlclib.metrics.pairwise import ALPHA, holm
from mlclib.metrics.variance import variance_components
from mlclib.models import title
from mlclib.results import captions, comparison
from mlclib.results.captions import Models
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table, listed
from mlclib.runs.plan import LEARNING_CURVE
from mlclib.runs.study import Study

# Few draws are enough: they give standard errors only, and p comes from a t test.
DRAWS = 500


def runs_by_images(study: Study) -> dict[int, Models]:
    """The finished runs of the learning curves, by the number of training images, the lowest first."""
    sizes: dict[int, Models] = {}
    for model in study.experiment.ablation:
        if LEARNING_CURVE in study.experiment.axes(model):
            for images, runs in study.finished_variants(model, LEARNING_CURVE).items():
                if runs:
                    sizes.setdefault(int(images), {})[model] = runs
    return dict(sorted(sizes.items()))


def curves_table(sizes: dict[int, Models], *, selection: str = "last") -> Table:
    """Models x headline mAP and its interval at each number of training images."""
    every: Models = {}
    for model, runs in (item for models in sizes.values() for item in models.items()):
        every[model] = [*every.get(model, ()), *runs]
    reference = captions.checked(every, selection)
    score, parts_of_frame, spread = captions.headline(reference), [], {}
    for images, models in sizes.items():
        mean, deviation = comparison.over_seeds(models, selection, comparison.all_scores)
        bounds = {model: comparison.bootstrap(runs, selection, DRAWS) for model, runs in models.items()}
        ends = 100 * pd.DataFrame(bounds, index=[f"{images} low", f"{images} high"]).T
        parts_of_frame += [mean[score].rename(f"{images}"), ends]
        spread[f"{images}"] = deviation[score]
    frame = pd.concat(parts_of_frame, axis=1).reindex(list(every))
    return comparison.scored_table(
        "learning_curves", f"{score} by the number of training images,", every,
        frame.rename_axis("model").reset_index(),
        selection=selection,
        spread=pd.DataFrame(spread).reindex(list(every)).reset_index(drop=True),
        best=tuple(spread),
        caption="In percent, mean ± standard deviation over the seeds; each column a number of training images. "
        f"{captions.rare(reference)}".strip(),
        protocol=[
            captions.ap(reference),
            "All runs take the same number of steps: fewer images are seen more often.",
            f"95 %: the mean less the bias of {DRAWS} bootstrap draws, ± Student's t times the standard error over "
            "images and seeds.",
        ],
    )  # fmt: skip


def curves_figure(table: Table) -> Figure:
    """`curves_table` as a line for each model, headline mAP (%) against training images, its 95 % interval a band."""
    frame = table.frame.set_index("model")
    images, numbers = list(table.spread), [int(column) for column in table.spread]
    if frame[images].isna().all(axis=None):
        return text_figure(f"{captions.HIDDEN}.")
    figure, axes = plt.subplots(figsize=(9, 5.5))
    for at, model in enumerate(frame.index):
        colour = COLOURS[at % len(COLOURS)]
        axes.plot(numbers, frame.loc[model, images], "osD^vP"[at % 6] + "-", color=colour, label=title(model))
        low, high = (frame.loc[model, [f"{n} {end}" for n in images]].astype(float) for end in ("low", "high"))
        axes.fill_between(numbers, low, high, color=colour, alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel="training images", ylabel=f"test {table.title.partition(' by ')[0]} (%)")
    axes.set_xticks(numbers, [f"{n:,}" for n in numbers])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=10)
    best = frame[images].idxmax().map(title)
    first, last = best.iloc[0], best.iloc[-1]
    axes.set_title(f"Best with {numbers[0]:,} images: {first}; with {numbers[-1]:,}: {last}", loc="left")
    figure.tight_layout()
    return figure


def curves_sentence(table: Table, sizes: dict[int, Models], *, selection: str = "last") -> str:
    """Which model is best at which number of training images, and which pairs of models change places.

    A pair crosses where each of its models is shown better at some number of images, by a t test of the paired
    difference (`variance.variance_components`), corrected over all pairs and numbers of images (Holm).
    """
    scores, best = table.frame.set_index("model")[list(table.spread)].dropna(axis=1, how="all"), {}
    if scores.empty:
        return f"{captions.HIDDEN}."
    for images, model in scores.idxmax().items():
        best.setdefault(model, []).append(f"{int(images):,} ({scores[images].max():.1f} %)")
    tests = [test for images, models in sizes.items() for test in _paired_tests(images, models, selection)]
    shown = [test for test, p in zip(tests, holm([test[-1] for test in tests]), strict=True) if p < ALPHA]
    better: dict[tuple[str, str], list[str]] = {}  # (better, worse) -> at these numbers of images
    for images, high, low, _ in shown:
        better.setdefault((high, low), []).append(f"{images:,}")
    crossed = [
        f"{title(a)} is above {title(b)} at {listed(better[a, b])} and below it at {listed(better[b, a])}"
        for a, b in better
        if (b, a) in better and a < b
    ]
    leaders = "; ".join(f"{title(model)} with {listed(numbers)}" for model, numbers in best.items())
    turn = f"Rankings cross: {'; '.join(crossed)}." if crossed else "No two models are shown to change places."
    return f"Best by training images: {leaders}. {turn} Of {len(tests)} differences {len(shown)} are shown."


def _paired_tests(images: int, models: Models, selection: str) -> list[tuple[int, str, str, float]]:
    """Of every pair of models: the number of images, the higher one, the lower one, two-sided p of no difference."""
    reference, scores, tests = next(iter(models.values()))[0], {}, []
    for model, runs in models.items():
        if (stack := comparison.stacked(runs, selection)) is not None:
            labels = captions.frequent(reference)
            scores[model] = resampling.bootstrap_scores(stack, reference.targets, draws=DRAWS, labels=labels)
    for a, b in combinations(scores, 2):
        delta = scores[a][:, 0].mean() - scores[b][:, 0].mean()
        high, low = (a, b) if delta > 0 else (b, a)
        tests.append((images, high, low, 2 * variance_components(scores[a], scores[b]).p_above(abs(delta))))
    return tests
