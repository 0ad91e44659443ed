"""How many known faults the doctor finds: flipped labels, copies and leaks put into the scenes.

    python -m benchmarks.doctor

600 scenes (seed 7, 400 in the training part), features at 128 px. Bare stands for cleanlab with its defaults on
predictions by scikit-learn's defaults: logistic regression on plain features, folds by lot.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class
from PIL import Image, ImageEnhance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict

from mlclib import datasets
from mlclib.common.files import write_text
from mlclib.datasets.base import Split
from mlclib.doctor import diagnosis, pictures
from mlclib.doctor.pictures import Pictures

SIDE, TRAIN, COPIES = 128, 400, 30
FLIPPED = (0.02, 0.05, 0.1)
PAGE = Path("results/benchmarks/doctor.md")
CHANGES = {
    "the same pixels, JPEG quality 60": lambda picture: picture,
    "80 % of the size": lambda picture: picture.resize([side * 4 // 5 for side in picture.size]),
    "a fifth brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "cropped by 2 % on each side": lambda picture: picture.crop([5, 5, *(side - 5 for side in picture.size)]),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def bare(seen: Pictures) -> np.ndarray:
    """Suspect cells (row, column) by cleanlab called bare, the most suspect first."""
    folds = KFold(diagnosis.FOLDS, shuffle=True, random_state=0)
    present = seen.targets == 1
    columns = [
        cross_val_predict(LogisticRegression(max_iter=1000), seen.features, one, cv=folds, method="predict_proba")[:, 1]
        for one in present.T
    ]
    probabilities, lists = np.stack(columns, 1), [np.flatnonzero(row).tolist() for row in present]
    cells = np.argwhere(find_multilabel_issues_per_class(lists, probabilities, n_jobs=1))
    return cells[np.argsort(get_label_quality_scores_per_class(lists, probabilities)[tuple(cells.T)], kind="stable")]


def ours(seen: Pictures) -> np.ndarray:
    """The same, by the doctor."""
    suspects = diagnosis.diagnose(seen).suspects
    suspects = suspects[suspects["given"] != "unknown"]
    return np.stack([suspects["row"], [seen.labels.index(label) for label in suspects["label"]]], 1)


def flips(seen: Pictures, share: float) -> list[dict[str, object]]:
    """Precision and recall where this share of the known labels is flipped."""
    rng = np.random.default_rng(round(1000 * share))
    flipped = (rng.random(seen.targets.shape) < share) & (seen.targets != 0)
    spoilt = dataclasses.replace(seen, targets=np.where(flipped, -seen.targets, seen.targets))
    rows = []
    for name, method in (("doctor", ours), ("cleanlab, bare", bare)):
        hits = flipped[tuple(method(spoilt).T)]
        scores = {"precision": hits.mean(), "recall": hits.sum() / flipped.sum()}
        first = {"precision of the first 100": hits[:100].mean()}
        rows.append({"fault": f"{share:.0%} of labels flipped", "by": name, "suspects": len(hits), **scores, **first})
    return rows


def copies(whole: Split, folder: Path, part: str) -> tuple[Split, list[str]]:
    """Changed copies of the first training pictures, as images of `part`, and how each was changed."""
    rows = np.arange(COPIES) + (0 if part == "train" else COPIES)
    changes = [list(CHANGES)[row % len(CHANGES)] for row in rows]
    paths = [folder / f"{part}-{row}.jpg" for row in rows]
    for row, path, change in zip(rows, paths, changes, strict=True):
        CHANGES[change](Image.open(whole.paths[row])).save(path, quality=60)
    return Split([path.stem for path in paths], paths, whole.targets[rows]), changes


def joined(first: Split, second: Split) -> Split:
    targets = np.concatenate([first.targets, second.targets])
    return Split([*first.names, *second.names], [*first.paths, *second.paths], targets)


def main() -> None:
    dataset = datasets.load("scenes", "data/scenes-doctor", train=600, val=1, test=1, seed=7)
    whole = dataset.splits["train"]
    with tempfile.TemporaryDirectory() as folder:
        (same, how), (leaks, how_leaks) = (copies(whole, Path(folder), part) for part in ("train", "test"))
        parts = {"train": joined(whole.take(range(TRAIN)), same), "test": joined(whole.take(range(TRAIN, 600)), leaks)}
        seen = pictures.read_pictures(dataclasses.replace(dataset, splits=parts), SIDE)
    copies_of = pictures.near_duplicates(seen)
    origin = {
        f"{part}-{row}": row for part, start in (("train", 0), ("test", COPIES)) for row in range(start, start + COPIES)
    }
    rows = []
    for fault, changed, leak in (
        ("copies", dict(zip(same.names, how, strict=True)), False),
        ("leaks", dict(zip(leaks.names, how_leaks, strict=True)), True),
    ):
        own = copies_of[copies_of["name"].isin(changed)]
        hit = own["group"].to_numpy() == [origin[name] for name in own["name"]]
        named = copies_of[copies_of.duplicated("group") & (copies_of["leak"] == leak)]
        precision = named["name"].isin(changed).mean()
        rows.append({"fault": f"{len(own)} {fault}", "precision": precision, "recall": hit.mean()})
        for change in CHANGES:
            rows.append(
                {"fault": f"{fault}: {change}", "recall": hit[[changed[name] == change for name in own["name"]]].mean()}
            )
    original = np.flatnonzero(~copies_of["name"].isin(origin))
    clean = dataclasses.replace(
        seen, frame=seen.frame.iloc[original].reset_index(drop=True), targets=seen.targets[original],
        features=seen.features[original], hashes=seen.hashes[original],
    )  # fmt: skip
    labels = pd.DataFrame([row for share in FLIPPED for row in flips(clean, share)])
    text = [
        "# How many known faults the doctor finds",
        " ".join(__doc__.split("\n\n")[2].split()),
        "A suspect label that was not flipped counts as a false alarm. Precision and recall are of single labels.",
        _markdown(labels),
        "Near duplicates and leaks, by perceptual hash; cleanlab called bare finds none, as it looks at no picture.",
        _markdown(pd.DataFrame(rows)),
    ]
    write_text(PAGE, "\n\n".join(text) + "\n")
    print(PAGE.read_text(encoding="utf-8"))


def _markdown(frame: pd.DataFrame) -> str:
    cells = frame.map(lambda value: f"{value:.2f}" if isinstance(value, float) else str(value)).replace("nan", "")
    lines = [list(frame.columns), [":---"] * len(frame.columns), *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
