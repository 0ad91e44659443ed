"""Tables of a data set (01_data)."""

import numpy as np
import pandas as pd

from mlclib.datasets.base import Dataset
from mlclib.results import captions


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
