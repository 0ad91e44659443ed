"""Finished runs without training: small random predictions in real run folders."""

from pathlib import Path

import numpy as np

from mlclib.runs import store

LABELS = ["bus", "car", "cat", "dog", "train"]
IMAGES = 80


def targets(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    marks = np.where(rng.random((IMAGES, len(LABELS))) < 0.4, 1, -1).astype(np.int8)
    marks[rng.random(marks.shape) < 0.03] = 0
    return marks


def drawn(images: int, classes: int, seed: int, tied: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Logits, with ties where asked for, and targets that they follow, a tenth of them difficult."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(np.array([-1, 0, 1], dtype=np.int8), size=(images, classes), p=[0.7, 0.1, 0.2])
    logits = rng.standard_normal((images, classes)) + targets
    return (np.round(logits) if tied else logits).astype(np.float32), targets


def make(
    results: Path,
    model: str,
    seed: int = 0,
    gain: float = 1.0,
    *,
    marks: np.ndarray | None = None,
    labels: list[str] = LABELS,
    selections: tuple[str, ...] = ("last", "best_test"),
    data: str = "scenes",
    images: dict[str, int] | None = None,
    notes: tuple[str, ...] = ("crowds count as present",),
    **configuration: object,
) -> store.FinishedRun:
    """A finished run whose logits follow the targets `gain` times as much as noise that all runs share."""
    marks = targets() if marks is None else marks
    shared = np.random.default_rng(1).normal(size=marks.shape)
    rng = np.random.default_rng([seed, *model.encode()])
    logits = {s: (gain * marks + shared + 0.3 * rng.normal(size=marks.shape)).astype(np.float32) for s in selections}
    folder = results / "runs" / data / f"{model}-0a1b2c3d" / f"seed-{seed}"
    folder.mkdir(parents=True)
    names = [f"{i:06d}" for i in range(len(marks))]
    store.write_predictions(folder / "predictions.npz", names, marks, **logits)
    about = {
        "experiment": "demo",
        "configuration": {
            "dataset": {"name": data},
            "input_size": 224,
            "backbone": {"name": "tf_efficientnet_lite0", "weights": "offline", "frozen": True},
            "label_vectors": "table",
            "model": model,
            "options": {},
            "training": {"epochs": 15, "precision": "float32", "evaluation_precision": "float32"},
            **configuration,
        },
        "seed": seed,
        "labels": list(labels),
        "data": {
            "name": data,
            "checksum": "feedc0de" * 8,
            "images": images or {"train": 600, "test": len(marks)},
            "notes": list(notes),
        },
        "versions": {"timm": "1.0.20"},
        "commit": "0123456789abcdef+changes",
        "lock": "10c4ed" * 10 + "abcd",
        "hardware": {"machine": "x86_64", "processor": "Made Processor", "cores": 2, "threads": 1, "gpus": []},
        "started": "2025-11-21T10:00:00+00:00",
        "ended": "2025-11-21T10:05:00+00:00",
        "best_epoch": 12,
    }
    store.write_run(folder, about, {key: store.score(value, marks) for key, value in logits.items()})
    return store.read(folder)
