"""Tables of a data set (01_data)."""

import pandas as pd

from mlclib.datasets.base import Dataset


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
