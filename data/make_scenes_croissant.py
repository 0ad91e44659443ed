"""Make data/scenes.croissant.json and the table in docs/scenes.md: what the embedded data set `scenes` holds.

python data/make_scenes_croissant.py data/scenes

The vocabulary is Croissant 1.0 (http://mlcommons.org/croissant/1.0).
"""

import json
import re
import sys
import textwrap
from pathlib import Path

import numpy as np

from mlclib import datasets
from mlclib.common.files import sha256, write_text
from mlclib.datasets.base import Dataset

ROOT = Path(__file__).parents[1]
CROISSANT, DATASHEET = ROOT / "data" / "scenes.croissant.json", ROOT / "docs" / "scenes.md"
ALIASES = (
    "citeAs column data dataType examples extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace separator source subField transform"
)
KINDS = {"train": "TrainingSplit", "val": "ValidationSplit", "test": "TestSplit"}
FILES, TABLE = "images/*.jpg", "scenes.json"


def context() -> dict:
    """The JSON-LD context that the specification recommends."""
    return {
        "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/", "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
        **{name: f"cr:{name}" for name in ALIASES.split()},
        "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    }  # fmt: skip


def records(name: str, description: str, fields: dict[str, dict], **more: object) -> dict:
    """A record set whose first field is its key."""
    rows = [{"@type": "cr:Field", "@id": f"{name}/{key}", "name": key, **field} for key, field in fields.items()]
    about = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description}
    return {**about, "key": {"@id": rows[0]["@id"]}, "field": rows, **more}


def of_file(extract: str, regex: str = "") -> dict:
    """Where a field of an image comes from: its file."""
    source = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": extract}}
    return {"source": source | ({"transform": {"regex": regex}} if regex else {})}


def of_table(key: str) -> dict:
    """Where a field of an image comes from: its record in scenes.json."""
    return {"source": {"fileObject": {"@id": TABLE}, "extract": {"jsonPath": f"$.images.*[*].{key}"}}}


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    """For each label and split the images that show it."""
    shown = {part: (dataset.splits[part].targets == 1).sum(axis=0).tolist() for part in KINDS}
    return {label: {part: shown[part][c] for part in KINDS} for c, label in enumerate(dataset.labels)}


def croissant(dataset: Dataset, root: Path) -> dict:
    """The metadata of the scenes that were drawn into `root`."""
    text, integer = {"dataType": "sc:Text"}, {"dataType": "sc:Integer"}
    labels = [
        {"labels/name": k} | {f"labels/{part}": n for part, n in row.items()} for k, row in counts(dataset).items()
    ]
    splits = [
        {"splits/name": part, "splits/url": f"cr:{kind}", "splits/images": len(dataset.splits[part])}
        for part, kind in KINDS.items()
    ]
    pictures = {
        "name": text | of_file("filename", r"^(.*)\.jpg$"),
        "split": text | of_file("filename", "^(train|val|test)_") | {"references": {"@id": "splits/name"}},
        "picture": {"dataType": "sc:ImageObject"} | of_file("content"),
    }
    annotations = {
        "name": text | of_table("name") | {"references": {"@id": "pictures/name"}},
        "place": text | of_table("place"),
        "boxes": {
            "description": "Objects with the keys label, box (left, top, right, bottom, in pixels) and difficult.",
            "dataType": ["sc:Text", "cr:Label"], "repeated": True, **of_table("boxes"),
        },
    }  # fmt: skip
    return {
        "@context": context(),
        "@type": "sc:Dataset",
        "name": "scenes",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": "Drawn scenes of 22 named things for multi-label image classification, with boxes.",
        "license": "https://spdx.org/licenses/MIT.html",
        "url": "../docs/scenes.md",
        "creator": {"@type": "sc:Organization", "name": "The maintainers of mlclib"},
        "datePublished": "2026-11-24",
        "version": f"{dataset.version}.0.0",
        "keywords": ["multi-label classification", "synthetic images", "bounding boxes"],
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": TABLE, "name": TABLE, "encodingFormat": "application/json",
                "description": "What the scenes were drawn with; for each image its place and its boxes, in pixels.",
                "contentUrl": f"scenes/{TABLE}", "sha256": sha256(root / TABLE),
            },
            {
                "@type": "cr:FileSet", "@id": "images", "name": "images", "encodingFormat": "image/jpeg",
                "description": "The pictures, 256 x 256 pixels.", "includes": f"scenes/{FILES}",
            },
        ],
        "recordSet": [
            records("splits", "The splits and their images.",
                    {"name": text, "url": {"dataType": "cr:Split"}, "images": integer},
                    dataType="cr:Split", data=splits),
            records("labels", "The labels and the images of each split that show them, difficult ones left out.",
                    {"name": text, **dict.fromkeys(KINDS, integer)}, dataType="sc:Enumeration", data=labels),
            records("pictures", "One record for each picture.", pictures),
            records("annotations", "One record for each picture: its place and its boxes.", annotations),
        ],
    }  # fmt: skip


def table(dataset: Dataset) -> str:
    """The images of each label and split in Markdown, and what is counted over all of them."""
    rows = {"**images**": {part: len(dataset.splits[part]) for part in KINDS}, **counts(dataset)}
    lines = [f"| {name} | {' | '.join(str(row[part]) for part in KINDS)} |" for name, row in rows.items()]
    targets = np.concatenate([split.targets for split in dataset.splits.values()])
    boxes = np.concatenate([boxes for split in dataset.splits.values() for boxes in split.boxes])
    side = np.sqrt((boxes[:, 3:] - boxes[:, 1:3]).prod(axis=1)) / 256
    shown = (targets == 1).sum(axis=1)
    about = (
        f"Together {shown.mean():.1f} labels an image, {(shown == 0).sum()} image without any, {len(boxes):,} boxes, "
        f"{(targets == 0).sum()} of {targets.size:,} marks difficult. The side of a box (square root of its area) is "
        f"below {np.quantile(side, 0.25):.1%} of the picture's for a quarter of them, below {np.median(side):.1%} for "
        "half."
    )
    head = f"| label | {' | '.join(KINDS)} |\n| :--- | ---: | ---: | ---: |"
    return "\n".join([head, *lines, "", *textwrap.wrap(about, 118)])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    drawn = datasets.load("scenes", sys.argv[1])
    write_text(CROISSANT, json.dumps(croissant(drawn, Path(sys.argv[1])), indent=1) + "\n")
    sheet = DATASHEET.read_text(encoding="utf-8")
    block = f"<!-- counts:begin -->\n{table(drawn)}\n<!-- counts:end -->"
    write_text(DATASHEET, re.sub(r"<!-- counts:begin -->.*<!-- counts:end -->", block, sheet, flags=re.DOTALL))
