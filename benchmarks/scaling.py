"""What the papers' own experiments would take on one GPU that was measured: `python -m benchmarks.scaling`.

Writes docs/scaling.md from the speeds in results/benchmarks/nvidia-h100-80gb-hbm3.csv (`python -m benchmarks.gpu`). The
hours of a run are its epochs times (training images / training speed + test images / evaluation speed).
"""

import csv

from benchmarks.report import FOLDER
from mlclib import config, datasets
from mlclib.common.files import write_text
from mlclib.config import RunConfig

MEASURED = FOLDER / "nvidia-h100-80gb-hbm3.csv"
PAGE = "docs/scaling.md"
PAPERS = ("voc2007", "voc2012", "coco2014", "nuswide", "apparel")
TEXT = """# What the papers' experiments would take

Made by `python -m benchmarks.scaling` from
[what was measured on an H100](../results/benchmarks/nvidia-h100-80gb-hbm3.md).
None of these experiments has been run. Speeds are of ResNet-101 at 448 px in bfloat16 with 80 labels and batch 32, of
random images that lie on the GPU. Loading images, ablations and what fails come on top. A run of an
ablation costs about as much as its model's.

| experiment | model | runs | epochs | hours of one run | GPU-hours |
| --- | --- | ---: | ---: | ---: | ---: |
"""


def speeds() -> dict[str, float]:
    """Images a second of each measured step, by its name as in "msrn, training step"."""
    with open(MEASURED, newline="", encoding="utf-8") as file:
        return {row["name"]: float(row["value"]) for row in csv.DictReader(file) if row["unit"] == "images/s"}


def hours(run: RunConfig) -> float:
    """Hours of one run of a published data set whose test images are scored after every epoch."""
    images, measured = datasets.published_images(run.dataset["name"]), speeds()
    train, test = measured[f"{run.model}, training step"], measured[f"{run.model}, evaluation"]
    return run.training.epochs * (images["train"] / train + images["test"] / test) / 3600


def page() -> str:
    """The document."""
    rows, total = [], 0.0
    for name in PAPERS:
        experiment = config.load(name)
        for model in experiment.models:
            run, seeds = experiment.run_config(model), len(experiment.seeds)
            each = hours(run)
            total += seeds * each
            cells = (name, model, seeds, run.training.epochs, f"{each:.1f}", f"{seeds * each:.1f}")
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return TEXT + "\n".join([*rows, f"| all | | | | | {total:.0f} |"]) + "\n"


if __name__ == "__main__":
    write_text(PAGE, page())
    print(f"written: {PAGE}")
