"""The Croissant metadata and the datasheet of the scenes: what version 1.0 requires, and figures that are true."""

import json
import re
import runpy
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


def test_the_figures_of_the_validation_part_are_those_that_are_read(tmp_path):
    dataset = scenes.load(tmp_path / "set", train=1, test=1)
    assert CROISSANT["version"] == f"{scenes.VERSION}.0.0"
    shown = dict(zip(dataset.labels, (dataset.splits["val"].targets == 1).sum(0).tolist(), strict=True))
    assert {row["labels/name"]: row["labels/val"] for row in RECORDS["labels"]["data"]} == shown
    assert {row["splits/name"]: row["splits/images"] for row in RECORDS["splits"]["data"]}["val"] == 200


@pytest.mark.slow
def test_the_metadata_and_the_datasheet_are_what_the_script_writes(tmp_path):
    script, dataset = runpy.run_path(ROOT / "data" / "make_scenes_croissant.py"), scenes.load(tmp_path / "set")
    assert script["croissant"](dataset, tmp_path / "set") == CROISSANT
    assert script["table"](dataset) in (ROOT / "docs" / "scenes.md").read_text(encoding="utf-8")
