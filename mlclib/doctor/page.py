"""The doctor's page: what to do and in which order, with pictures, tables to correct and a ready experiment."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import yaml
from matplotlib.figure import Figure

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.common.files import write_text, written_whole
from mlclib.datasets.images import open_rgb
from mlclib.doctor import diagnosis, pictures
from mlclib.doctor.diagnosis import Diagnosis
from mlclib.metrics import calibration
from mlclib.results import table
from mlclib.results.style import safe_text

FEW = 20  # training images of a label below which it has too few
SHOWN = 12  # pictures in a figure


def examine(data: str | Path, table: str = "", results: str | Path = "results") -> tuple[Diagnosis, Path]:
    """Diagnose the images in the folder `data` and write results/doctor/<its name>/README.md; both are given.

    table: the file of labels in that folder; it may be left out where there is one such file, or folders of labels.
    """
    root = Path(data).expanduser()
    tables = [path.name for path in sorted(root.glob("*")) if path.suffix in (".csv", ".tsv", ".parquet", ".pq")]
    tables = [table] if table else [name for name in tables if not name.endswith("splits.csv")]
    if len(tables) > 1:
        raise UserError(f"{root} holds the tables {', '.join(tables)}: say which has the labels (TABLE={tables[0]})")
    options = {"table": tables[0], "unknown": "difficult"} if tables else {}
    dataset = datasets.load("folder", root, **options)
    found = diagnosis.diagnose(pictures.look(dataset))
    folder = Path(results) / "doctor" / root.resolve().name
    return found, write(found, {"name": "folder", "root": str(root), **options}, folder)


def write(found: Diagnosis, source: dict[str, Any], folder: Path) -> Path:
    """Write the page, its figures and tables and experiment.yaml into `folder`. source: `dataset` of the experiment."""
    copies = found.copies[found.copies.duplicated("group", keep=False)].sort_values(["leak", "group"], ascending=False)
    out = [*found.pictures.broken, *copies["name"][copies["out"]]]
    frames = {"suspects": found.suspects, "copies": copies, "odd": found.odd, "labels": found.labels}
    for name, frame in frames.items():
        write_text(folder / f"{name}.csv", frame.drop(columns="row", errors="ignore").to_csv(index=False))
    write_text(
        folder / "experiment.yaml", yaml.safe_dump(_experiment(folder.name, source, out, found), sort_keys=False)
    )
    suspect = found.suspects.apply(lambda one: f"{one['label']}\n{one['given']}, p = {one['probability']:.2f}", axis=1)
    odd = found.odd.apply(lambda one: f"{one['what']} {one['value']:.3g}\nmedian {one['median']:.3g}", axis=1)
    titles = {
        "suspects": (found.suspects["row"], suspect),
        "copies": (copies.index, copies["part"] + " " + copies["name"]),
        "odd": (found.odd["row"], odd),
    }
    text = _text(found, copies, folder)
    for name, (rows, own) in titles.items():
        if len(rows):
            text.append(f"## {name.capitalize()}, the first of them\n\n![{name}]({name}.png)")
            with written_whole(folder / f"{name}.png") as part:
                pictures_figure(found, rows, own).savefig(part, dpi=80, format="png", bbox_inches="tight")
    write_text(folder / "README.md", "\n\n".join(text) + "\n")
    return folder / "README.md"


def _text(found: Diagnosis, copies: pd.DataFrame, folder: Path) -> list[str]:
    """The parts of the page: what to do, and what stands of each label."""
    seen, labels, leaks = found.pictures, found.labels, copies["leak"]
    unknown = found.suspects[found.suspects["given"] == "unknown"]
    few = labels["label"][labels["training images"] < FEW]
    steps = {
        f"pictures cannot be opened, such as {seen.broken[:3]}: get them anew.": len(seen.broken),
        "pictures stand in several parts (copies.csv), so that a score would reward learning by heart. experiment.yaml "
        f"leaves {copies['out'].sum()} out; where their labels differ, unite these and keep one part.": leaks.sum(),
        "labels are suspect. Correct your own labels by suspects.csv, from its top, where most are wrong.": (
            len(found.suspects) - len(unknown)
        ),
        f"labels are unknown; by estimate {unknown['probability'].sum():.0f} are present (end of suspects.csv).": (
            len(unknown)
        ),
        f"labels have fewer than {FEW} training images: {', '.join(few)}. Add images of them.": len(few),
        "pictures have near duplicates in their own part (copies.csv).": (~leaks).sum(),
        "times a picture differs from the rest (odd.csv): is it meant to be there?": len(found.odd),
    }
    todo = [f"1. {count:,} {step}" for step, count in steps.items() if count]
    todo.append(f"1. Train: `make reproduce EXPERIMENT={shlex.quote(str(folder / 'experiment.yaml'))}`")
    caption = (
        "Out of fold, by logistic regression on frozen ImageNet features: a trained model may do better. Precision, "
        "its interval and recall are those at the threshold of the best F1. more: how many more images of the label "
        f"until AP {diagnosis.GOAL}, by the learning curve; inf: over {diagnosis.REACH} times what is there. Over all "
        f"labels, the calibration error is {calibration.expected_error(found.logits, seen.targets):.3f}."
    )
    formats = dict.fromkeys(labels.columns[1:], ".2f") | dict.fromkeys(("images", "training images", "more"), ".0f")
    return [
        f"# {len(seen.frame):,} pictures of {folder.name}, {len(seen.labels)} labels: what to do, in this order",
        "\n".join(todo),
        table.markdown(table.Table("labels", "Labels", labels, caption, formats=formats)),
    ]


def _experiment(name: str, source: dict[str, Any], out: Sequence[str], found: Diagnosis) -> dict[str, Any]:
    """The experiment file: a first table within minutes, on frozen features and without attention maps."""
    ratio = max(0.2, 1 / len(found.pictures.labels))  # with fewer labels than 5, one group
    return {
        "title": f"{name}, on frozen ImageNet features",
        "dataset": source,
        "input_size": pictures.INPUT,
        "backbone": {"name": pictures.BACKBONE, "weights": "offline", "frozen": True},
        "exclude": sorted(set(out)),
        "training": {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 1e-2, "clip_norm": 1.0},
        "models": {"gmp": {}, "msrn": {"options": {"width": 64, "group_ratio": ratio}}},
        "attention": {"models": []},
    }


def pictures_figure(found: Diagnosis, rows: Sequence[int], titles: Sequence[str]) -> Figure:
    """The first of these pictures, each with its title."""
    figure, grid = plt.subplots(3, SHOWN // 3, figsize=(12, 10))
    for axes in grid.flat:
        axes.axis("off")
    for axes, row, title in zip(grid.flat, rows, titles, strict=False):
        axes.imshow(open_rgb(found.pictures.frame["path"][row]))
        axes.set_title(safe_text(title), fontsize=9)
    plt.close(figure)
    return figure
