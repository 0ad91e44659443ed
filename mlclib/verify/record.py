"""The record of an experiment's results for machines: results/<experiment>/ro-crate-metadata.json.

An RO-Crate 1.1 (JSON-LD, https://w3id.org/ro/crate/1.1) that names every table, figure and page with its SHA-256, and
for each table the runs that it is based on. Of each run it says when and on what device it was trained, on which data,
by which commit and locked versions, and the SHA-256 of its manifest. The same results give the same bytes.
"""

import json
import mimetypes
from pathlib import Path

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
    crate = ROCrate(version="1.1")
    runs = {name: store.read(run.folder) for name, run in study.runs.items()}
    crate.metadata.extra_terms.update(TERMS)
    crate.name = study.experiment.title
    crate.description = " ".join([f"Results of the experiment {study.experiment.name}.", *study.experiment.notes])
    crate.license = LICENSE
    crate.datePublished = max(run.about["ended"] for run in runs.values())
    for name, run in runs.items():
        _add_run(crate, name, run)
    for path in sorted({*plan.shown(study), "README.md"}):
        _add_file(crate, study.folder, path)
    write_text(study.folder / FILE, f"{json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)}\n")
    return study.folder / FILE


def _add(crate: ROCrate, identifier: str, kind: str, **properties: object) -> ContextEntity:
    """An entity of the crate, each once."""
    return crate.dereference(identifier) or crate.add(ContextEntity(crate, identifier, {"@type": kind, **properties}))


def _add_run(crate: ROCrate, name: str, run: FinishedRun) -> None:
    """The training as an action: its data, the run folder that it left, and what it was made with."""
    origin, about, folder = store.provenance(run), run.about, "/".join(run.folder.parts[-3:])
    images = ", ".join(f"{count:,} {part}" for part, count in about["data"]["images"].items())
    data = {"name": about["data"]["name"], "description": f"{images} images", "sha256": origin["data"]}
    commit = origin["commit"] + (", with changes that are in no commit" if origin["changed"] else "")
    versions = {"softwareRequirements": [f"{package} {version}" for package, version in about["versions"].items()]}
    lock = versions | ({"sha256": origin["lock"]} if origin["lock"] else {})
    times = {"startTime": about["started"], "endTime": about["ended"]}
    device = f"seed {origin['seed']} on {origin['device']}"
    manifest = {"name": f"manifest.json of {folder}", "sha256": origin["manifest"]}
    action = _add(crate, f"#training-{folder}", "CreateAction", name=f"training of {name}", description=device, **times)
    action["object"] = _add(crate, f"#data-{origin['data']}", "CreativeWork", **data)
    action["result"] = _add(crate, f"#{folder}", "CreativeWork", **manifest)
    action["instrument"] = [
        _add(crate, f"#code-{about['commit']}", "SoftwareSourceCode", name="mlclib", version=commit),
        _add(crate, f"#environment-{origin['lock']}", "SoftwareApplication", name="requirements.lock", **lock),
    ]


def _add_file(crate: ROCrate, folder: Path, path: str) -> None:
    """A table, figure or page, and of a table the runs that it is based on."""
    file = folder / path
    kind, size = mimetypes.guess_type(file.name)[0] or "text/plain", str(file.stat().st_size)
    about = {"name": file.stem.replace("_", " "), "encodingFormat": kind, "contentSize": size, "sha256": sha256(file)}
    entity = crate.add_file(file, path, properties=about)
    beside = file.with_suffix(".json")
    if file.suffix == ".csv" and beside.is_file():
        rows = json.loads(beside.read_text(encoding="utf-8"))["made of"].values()
        runs = (crate.dereference(f"#{run}") for run in dict.fromkeys(run for row in rows for run in row))
        entity["isBasedOn"] = [run for run in runs if run]
