"""One run at work: trained, or an authors' checkpoint scored, and left as a run folder that proves itself whole."""

import os
import platform
import shutil
import subprocess
import warnings
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from mlclib import models
from mlclib.common import sources
from mlclib.common.errors import UserError
from mlclib.common.files import file_lock, sha256, write_text, written_whole
from mlclib.common.machine import processor
from mlclib.common.progress import Progress
from mlclib.models import authors
from mlclib.models.cost import cost
from mlclib.runs import store
from mlclib.runs.run import Run, start_of
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study
from mlclib.training.checkpoints import trained_state
from mlclib.training.settings import processes, torch_settings
from mlclib.training.trainer import Trainer

CHECKPOINT = "checkpoint.sha256"  # in the folder of a run that only scored one
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def train(study: Study, run: Run, force: bool = False) -> None:
    """Train the run unless it is current. Of several processes that want it one trains and the others wait.

    force: train it also where it is current. Raises UserError as `Trainer.run` does.
    """
    lock = file_lock(run.folder.with_name(f".{run.folder.name}.lock"), f"the training of {run.name}")
    with lock if processes().is_main_process else nullcontext():
        if processes().is_main_process:
            store.replace(run.folder)  # where a kill came before this
        processes().wait_for_everyone()
        if run.reasons or force:
            with torch_settings(run.configuration.training):
                _train(study, run)


def _train(study: Study, run: Run) -> None:
    configuration, folder, started = run.configuration, run.folder, store.now()
    # What was finished stays until the new is whole.
    work = store.beside(folder) if run.finished else folder
    store.begin(work, run.code)
    torch.manual_seed(run.seed)
    model = study.build(configuration)
    if processes().is_main_process:
        for sentence in model.size_warnings(configuration.input_size):
            warnings.warn(f"{run.name}: {sentence}", stacklevel=1)
    if configuration.training.init:
        model.backbone.load_state_dict(_backbone_of(start_of(configuration.training.init)))
    with processes().main_process_first():  # the others find images checked and layer maps cached
        study.check_images()
        data = {part: study.inputs(configuration, part, run.seed) for part in study.dataset.splits}
    progress = Progress(run.name, configuration.training.epochs)
    trainer = Trainer(
        model, data["train"], data["test"], configuration.training, run.seed, work, progress, val=data.get("val")
    )
    state = trainer.run()
    epochs = {"best_test_epoch": state.best_test_epoch, "best_val_epoch": state.best_val_epoch}
    _finish(study, run, work, trainer, started, epochs)
    if work != folder and trainer.accelerator.is_main_process:
        store.replace(folder)
    trainer.accelerator.wait_for_everyone()


def score_checkpoint(study: Study, model: str, checkpoint: str | Path) -> FinishedRun:
    """Score a checkpoint of the authors on the test split: a run folder without training.

    Raises UserError naming what does not fit where the checkpoint is not that of this model and its options.
    """
    configuration, started = study.experiment.run_config(model), store.now()
    seed = study.experiment.seeds[0]
    folder = study.run_group_folder(configuration, checkpoint=sha256(checkpoint)) / f"seed-{seed}"
    run = Run(model, model, configuration, seed, folder)
    if not store.finished(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
        net = study.build(configuration)
        models.load_authors(net, authors.read_checkpoint(checkpoint))
        test = study.inputs(configuration, "test")
        study.check_images()
        with torch_settings(configuration.training):
            trainer = Trainer(net, test, test, configuration.training, run.seed, run.folder)
            trainer.state.logits["last"] = trainer.evaluate(test)
            if "val" in study.dataset.splits:
                trainer.state.val["last"] = trainer.evaluate(study.inputs(configuration, "val"))
            write_text(run.folder / CHECKPOINT, sha256(checkpoint))
            _finish(study, run, run.folder, trainer, started, {"checkpoint": str(checkpoint)})
    return store.read(run.folder)


def scored_checkpoints(study: Study) -> dict[str, list[FinishedRun]]:
    """The authors' checkpoints that `score_checkpoint` scored for a model of the experiment, by a name that says so."""
    scored: dict[str, list[FinishedRun]] = {}
    for model in study.experiment.models:
        configuration = study.experiment.run_config(model)
        home = study.run_group_folder(configuration)
        pattern = f"{home.name.rpartition('-')[0]}-*/seed-*/{CHECKPOINT}"
        for note in sorted(home.parent.glob(pattern)):
            checksum = note.read_text(encoding="utf-8")
            folder = study.run_group_folder(configuration, checkpoint=checksum) / f"seed-{study.experiment.seeds[0]}"
            if note.parent == folder and store.finished(folder):
                name = f"{model} (authors' checkpoint)"
                scored[name if name not in scored else f"{name[:-1]} {checksum[:8]})"] = [store.read(folder)]
    return scored


def _finish(study: Study, run: Run, folder: Path, trainer: Trainer, started: str, more: dict[str, Any]) -> None:
    """Write the run folder's files, by the main process."""
    state, splits = trainer.state, study.dataset.splits
    about = {**_about(study, run, started), **more}
    if notes := study.vectors_notes(run.configuration, trainer.model):
        about["vectors"] = notes
    about["unseen"] = trainer.model.size_warnings(run.configuration.input_size)
    about["cost"] = cost(trainer.model, run.configuration.input_size)._asdict()
    if trainer.accelerator.is_main_process:
        if run.configuration.training.keep_weights:
            weights = {key: value.cpu().contiguous() for key, value in trained_state(trainer.model).items()}
            with written_whole(folder / "weights.safetensors") as part:
                part.write_bytes(save(weights))  # save_file would make a file that its owner alone may read
        # of the validation images too, on which a threshold may be chosen
        for part, name, logits in (("test", "predictions", state.logits), ("val", "validation", state.val)):
            if part in splits:
                store.write_predictions(folder / f"{name}.npz", splits[part].names, splits[part].targets, **logits)
        marks = splits["test"].targets
        store.write_run(folder, about, {key: store.score(value.numpy(), marks) for key, value in state.logits.items()})
    trainer.accelerator.wait_for_everyone()


def _about(study: Study, run: Run, started: str) -> dict[str, Any]:
    """run.yaml: what was run, of which data, by which code, on what."""
    init = run.configuration.training.init
    return {
        "experiment": study.experiment.name,
        "configuration": run.configuration.identity(),
        "init": init and "/".join(start_of(init).parts[-3:]),
        "code": run.code,
        "seed": run.seed,
        "notes": list(study.experiment.notes),
        "labels": list(study.dataset.labels),
        "data": {
            "name": study.dataset.name,
            "checksum": study.checksum,
            "images": {part: len(split) for part, split in study.dataset.splits.items()},
            "notes": list(study.dataset.notes),
        },
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "commit": _commit(),
        "lock": sha256(sources.LOCK) if sources.LOCK.is_file() else None,
        "hardware": {
            "machine": platform.machine(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "started": started,
        "ended": store.now(),
    }


def _backbone_of(folder: Path) -> dict[str, torch.Tensor]:
    """The backbone's weights of another finished run."""
    path = store.read(folder).folder / "weights.safetensors"
    weights = load_file(path) if path.exists() else {}
    own = {key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")}
    if not own:
        raise UserError(f"training.init names {folder}, whose run has no backbone weights (frozen, or not kept)")
    return own


def _commit() -> str:
    """The git commit of the working folder, "+changes" if it has any, or "unknown" outside a checkout."""
    git = shutil.which("git")
    if not git:
        return "unknown"
    commit = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True)
    tracked = [git, "status", "--porcelain", "-uno", "--", ".", ":!results"]  # the results change as they are made
    changes = subprocess.run(tracked, capture_output=True, text=True).stdout.strip()
    return "unknown" if commit.returncode else commit.stdout.strip() + ("+changes" if changes else "")
