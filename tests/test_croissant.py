"""The Croissant metadata and the datasheet of the scenes: what version 1.0 requires, and figures that are true."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from mlclib.datasets import scenes

ROOT = Path(__file__).parents[1]
CROISSANT = json.loads((ROOT / "data" / "scenes.croissant.json").read_text(encoding="utf-8"))
RECORDS = {records["@id"]: records for records in CROISSANT["recordSet"]}


def test_the_croissant_metadata_has_what_version_1_0_requires():
    for key in ("@context", "description", "license", "name", "url", "creator", "datePublished"):
        assert CROISSANT.get(key), key
    assert CROISSANT["conformsTo"] == "http://mlcommons.org/croissant/1.0" and CROISSANT["@type"] == "sc:Dataset"
    file, images = CROISSANT["distribution"]
    assert file["@type"] == "cr:FileObject" and file["contentUrl"] and file["encodingFormat"] and file["sha256"]
    assert images["@type"] == "cr:FileSet" and images["includes"] and images["encodingFormat"]
    fields = {field["@id"]: field for records in RECORDS.values() for field in records["field"]}
    for records in RECORDS.values():
        assert records["@type"] == "cr:RecordSet" and records["key"]["@id"] in fields
        for row in records.get("data", ()):
            assert row.keys() == {field["@id"] for field in records["field"]}
    for name, field in fields.items():
        assert field["@type"] == "cr:Field" and field["dataType"]
        source = field.get("source", {})
        assert bool(source) != ("data" in RECORDS[name.split("/")[0]])
        named = [source.get("fileObject"), source.get("fileSet"), field.get("references")]
        assert {one["@id"] for one in named if one} <= {file["@id"], images["@id"], *fields}
    used = set(re.findall(r'"(\w+)":', json.dumps([CROISSANT["distribution"], CROISSANT["recordSet"]])))
    schema_org = {"name", "description", "contentUrl", "encodingFormat", "sha256"}
    assert used - schema_org <= CROISSANT["@context"].keys()


def check_counts(dataset, parts):
    """The counts of the metadata and of the datasheet are those of the data set."""
    sheet = (ROOT / "docs" / "scenes.md").read_text(encoding="utf-8")
    rows = [[cell.strip("* ") for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*", sheet, re.M)]
    head, _, images, *rows = rows
    assert [row["labels/name"] for row in RECORDS["labels"]["data"]] == [row[0] for row in rows] == list(dataset.labels)
    for part in parts:
        counts = (dataset.splits[part].targets == 1).sum(0).tolist()
        assert [row[f"labels/{part}"] for row in RECORDS["labels"]["data"]] == counts
        assert [int(row[head.index(part)]) for row in rows] == counts
        sizes = {row["splits/name"]: row["splits/images"] for row in RECORDS["splits"]["data"]}
        assert sizes[part] == int(images[head.index(part)]) == len(dataset.splits[part])


def test_the_figures_of_the_validation_part_are_those_that_are_read(tmp_path):
    assert CROISSANT["version"] == f"{scenes.VERSION}.0.0"
    check_counts(scenes.load(tmp_path / "set", train=1, test=1), ["val"])


@pytest.mark.slow
def test_the_figures_of_all_parts_are_those_that_are_read(tmp_path):
    check_counts(scenes.load(tmp_path / "set"), ["train", "val", "test"])
    assert sha256((tmp_path / "set" / "scenes.json").read_bytes()).hexdigest() == CROISSANT["distribution"][0]["sha256"]
