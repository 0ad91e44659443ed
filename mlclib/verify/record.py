"""The record of an experiment's results for machines: results/<experiment>/ro-crate-metadata.json, an RO-Crate 1.1.

JSON-LD (https://w3id.org/ro/crate/1.1) that names every table, figure and page with its SHA-256 and, for the numbers
of a table, the runs that it is based on; for each run when and on what device it was made, of which data, by which
commit and locked versions, and the SHA-256 of its manifest, which holds those of its files. The same results give the
same bytes.
"""

import json
import mimetypes
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

from mlclib.common.files import sha256, write_text
from mlclib.runs import plan, store
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study

FILE = "ro-crate-metadata.json"
TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}  # which the context of RO-Crate 1.1 lacks
LICENSE = "https://spdx.org/licenses/MIT"


def write(study: Study) -> Path:
    """Write the record of what stands now. Raises UserError where a run is not finished."""
    crate, every = ROCrate(version="1.1"), study.runs
    crate.metadata.extra_terms.update(TERMS)
    made = {name: store.read(run.folder) for name, run in every.items()}
    crate.name = study.experiment.title
    crate.description = " ".join([f"Results of the experiment {study.experiment.name}.", *study.experiment.notes])
    crate.license = LICENSE
    crate.datePublished = max(run.about["ended"] for run in made.values())
    for name, run in made.items():
        _add_run(crate, name, run)
    for path in sorted({*plan.shown(study), "README.md"}):
        _add_file(crate, study.folder, path)
    text = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)
    write_text(study.folder / FILE, f"{text}\n")
    return study.folder / FILE


def _add_run(crate: ROCrate, name: str, run: FinishedRun) -> None:
    """The training as an action, the run folder that it left, and what it was made with."""
    made, about = store.provenance(run), run.about
    data, versions = about["data"], about["versions"]
    sizes = ", ".join(f"{count:,} {part}" for part, count in data["images"].items())
    code = made["commit"] + (", with changes that are in no commit" if made["changed"] else "")
    packages = [f"{package} {version}" for package, version in versions.items()]
    lock = {"sha256": made["lock"]} if made["lock"] else {}
    used = {
        "data": _add(
            crate,
            f"#data-{made['data']}",
            "CreativeWork",
            {"name": data["name"], "description": f"{sizes} images", "sha256": made["data"]},
        ),
        "code": _add(crate, f"#code-{about['commit']}", "SoftwareSourceCode", {"name": "mlclib", "version": code}),
        "environment": _add(
            crate,
            f"#environment-{made['lock']}",
            "SoftwareApplication",
            {"name": "requirements.lock", "softwareRequirements": packages, **lock},
        ),
    }
    folder = "/".join(run.folder.parts[-3:])
    manifest = {"name": f"manifest.json of {folder}", "sha256": made["manifest"]}
    left = _add(crate, f"#{folder}", "CreativeWork", manifest)
    action = {
        "name": f"training of {name}",
        "description": f"seed {made['seed']} on {made['device']}",
        "startTime": about["started"],
        "endTime": about["ended"],
    }
    action = _add(crate, f"#training-{folder}", "CreateAction", action)
    action["object"], action["result"] = used["data"], left
    action["instrument"] = [used["code"], used["environment"]]


def _add_file(crate: ROCrate, folder: Path, path: str) -> None:
    file = folder / path
    properties = {
        "name": file.stem.replace("_", " "),
        "encodingFormat": mimetypes.guess_type(file.name)[0] or "text/plain",
        "contentSize": str(file.stat().st_size),
        "sha256": sha256(file),
    }
    entity = crate.add_file(file, path, properties=properties)
    beside = file.with_suffix(".json")
    if file.suffix == ".csv" and beside.is_file():
        runs = json.loads(beside.read_text(encoding="utf-8"))["made of"].values()
        known = (crate.dereference(f"#{run}") for run in dict.fromkeys(run for each in runs for run in each))
        entity["isBasedOn"] = [run for run in known if run]


def _add(crate: ROCrate, identifier: str, kind: str, properties: dict[str, Any]) -> ContextEntity:
    """An entity of the crate, each once."""
    return crate.dereference(identifier) or crate.add(ContextEntity(crate, identifier, {"@type": kind, **properties}))
