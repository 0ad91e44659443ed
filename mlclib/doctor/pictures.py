"""One pass over a data set's picture files: frozen features, perceptual hashes, and what is odd about a picture."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import radius_neighbors_graph
from tqdm.auto import tqdm

from mlclib import transforms
from mlclib.common.errors import UserError
from mlclib.datasets import images
from mlclib.datasets.base import Dataset
from mlclib.models.backbones import Backbone, preprocessing

BACKBONE, INPUT = "tf_efficientnet_lite0", 224
HASH = 16  # side of a perceptual hash: 256 bits
NEAR = 40  # bits in which the hashes of near duplicates differ at most
FAR = 6.0  # robust standard deviations between an odd picture and the median
PLAIN = 4.0  # standard deviation of grey levels (0 to 255) below which a picture is of one colour


@dataclass(frozen=True)
class Pictures:
    """N pictures that could be opened, of all parts together.

    frame: columns name, part, path, size (pixels), aspect, brightness and spread (mean and deviation of grey levels).
    targets: int8 [N, C]. features: float32 [N, F]. hashes: bool [N, HASH * HASH]. broken: names of the others.
    """

    labels: tuple[str, ...]
    frame: pd.DataFrame
    targets: np.ndarray
    features: np.ndarray
    hashes: np.ndarray
    broken: tuple[str, ...]


def read_pictures(dataset: Dataset, side: int = INPUT) -> Pictures:
    """Open every picture of `dataset` once; side: of the backbone's input, in pixels.

    The features are means and maxima over the cells of the maps of a frozen ImageNet backbone. Raises UserError where
    no picture can be opened, or a package is missing.
    """
    try:
        import imagehash
    except ImportError:
        raise UserError("the doctor needs two more packages: pip install -e '.[doctor]'") from None
    backbone = Backbone(BACKBONE, "offline", (3, 4)).eval()
    transform = transforms.Transform(side, *preprocessing(BACKBONE))
    rows, targets, features, hashes, broken = [], [], [], [], []
    for part, split in dataset.splits.items():
        files = zip(split.names, split.paths, split.targets, strict=True)
        for name, path, target in tqdm(files, f"pictures of {part}", len(split), disable=None):
            try:
                picture = images.open_rgb(path)
            except UserError:
                broken.append(name)
                continue
            (width, height), grey = picture.size, np.asarray(picture.convert("L"), dtype=np.float32)
            rows.append((name, part, path, width * height, width / height, grey.mean(), grey.std()))
            targets.append(target)
            hashes.append(imagehash.phash(picture, HASH).hash.ravel())
            with torch.inference_mode():
                maps = backbone(transform(picture)[None]).values()
            features.append(torch.cat([pool for map in maps for pool in (map.mean((2, 3)), map.amax((2, 3)))], 1)[0])
    if not rows:
        raise UserError(f"none of the pictures of {dataset.name} can be opened, such as {broken[:1]}")
    frame = pd.DataFrame(rows, columns=["name", "part", "path", "size", "aspect", "brightness", "spread"])
    arrays = np.stack(targets), torch.stack(features).numpy(), np.stack(hashes)
    return Pictures(dataset.labels, frame, *arrays, tuple(broken))


def near_duplicates(seen: Pictures) -> pd.DataFrame:
    """The near duplicates among N pictures, one row for each picture: name, part, labels, group, leak, out.

    group: the first row of its near duplicates, its own where there is none. leak: the group stands in several parts.
    out: the picture may be left out, as one with the same labels stands in a later part. Pictures of one colour have no
    hash that tells them apart, and count as different.
    """
    frame = seen.frame[["name", "part"]].assign(group=np.arange(len(seen.frame)))
    if len(rows := np.flatnonzero(seen.frame["spread"] >= PLAIN)):
        near = radius_neighbors_graph(seen.hashes[rows], NEAR / seen.hashes.shape[1], metric="hamming")
        components = connected_components(near, directed=False)[1]
        frame.loc[rows, "group"] = rows[np.unique(components, return_index=True)[1]][components]
    frame["labels"] = [", ".join(np.array(seen.labels, dtype=object)[row == 1]) for row in seen.targets]
    groups, order = frame.groupby("group"), frame["part"].map(("train", "val", "test").index)
    frame["leak"] = groups["part"].transform("nunique") > 1
    last = order.groupby(frame["group"]).transform("max")
    frame["out"] = frame["leak"] & (groups["labels"].transform("nunique") == 1) & (order < last)
    return frame


def outliers(seen: Pictures) -> pd.DataFrame:
    """Pictures that differ from the rest: row, name, what differs, its value and the median; the oddest first."""
    frames = []
    for what, floor in (("size", 0.1), ("aspect", 0.1), ("brightness", 5.0)):
        values = seen.frame[what]
        measure = values if what == "brightness" else np.log(values)
        apart = (measure - measure.median()).abs()
        distance = apart / max(1.4826 * apart.median(), floor)  # of alike pictures the median is 0
        frames.append(pd.DataFrame({"what": what, "value": values, "distance": distance})[distance > FAR])
    plain = seen.frame["spread"][seen.frame["spread"] < PLAIN]
    frames.append(pd.DataFrame({"what": "spread", "value": plain, "distance": np.inf}))
    frame = pd.concat(frames).sort_values("distance", ascending=False, kind="stable")
    frame["median"] = frame["what"].map(lambda what: seen.frame[what].median())
    frame.insert(0, "name", seen.frame["name"].reindex(frame.index))
    return frame.reset_index(names="row")
