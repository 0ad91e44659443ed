"""Tables of a data set (01_data)."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from mlclib import models
from mlclib.datasets.base import Dataset
from mlclib.results import captions
from mlclib.runs.study import Study


def overview(dataset: Dataset) -> pd.DataFrame:
    """A row a split: images, labels, labels an image, difficult ones, boxes."""
    rows = {}
    for part, split in dataset.splits.items():
        rows[part] = {
            "images": len(split),
            "labels": len(dataset.labels),
            "present an image": round(float((split.targets == 1).sum(1).mean()), 2),
            "difficult (%)": round(100 * float((split.targets == 0).mean()), 2),
            "boxes": sum(map(len, split.boxes)) if split.boxes else "none",
        }
    return pd.DataFrame(rows).T.rename_axis(f"{dataset.name} {dataset.checksum()[:8]}")


def overview_finding(dataset: Dataset) -> str:
    """In a sentence: how alike the training and the test part are, by the labels that their images show."""
    train, test = ((dataset.splits[part].targets == 1) for part in ("train", "test"))
    if not test.any():
        return f"{captions.HIDDEN}; a training image shows {train.sum(1).mean():.2f} labels."
    share, other = 100 * train.mean(0), 100 * test.mean(0)
    most = int(np.abs(share - other).argmax())
    return (
        f"A training image shows {train.sum(1).mean():.2f} labels and a test image {test.sum(1).mean():.2f}; the two "
        f"parts differ most in {dataset.labels[most]}, which {share[most]:.1f} % and {other[most]:.1f} % of them show."
    )


def label_graphs(study: Study) -> dict[str, np.ndarray]:
    """The label graphs, float32 [C, C], that the experiment's models are built with, by a title that says which
    models have it and how it is made; none where no model has one.
    """
    graphs: dict[str, tuple[list[str], np.ndarray]] = {}
    for name in study.experiment.models:
        run = study.experiment.run(name)
        kind, options = models.find(run.model), models.check_options(run.model, run.options)
        graph = kind.label_graph(study.label_info(run), options)
        if graph is None:
            continue
        source = "the training split" if run.cooccurrence == "train" else Path(run.cooccurrence).name
        choices = {key: value for key, value in dataclasses.asdict(options).items() if key.startswith("graph")}
        origin = ", ".join([*(f"{key} {value}" for key, value in choices.items()), f"counts of {source}"])
        same = next((title for title, (_, other) in graphs.items() if np.array_equal(other, graph.numpy())), origin)
        graphs.setdefault(same, ([], graph.numpy()))[0].append(name)
    return {f"{', '.join(names)} ({origin})": graph for origin, (names, graph) in graphs.items()}
