"""Train every run of some experiments on one GPU, in processes that share it, and pack the run folders.

    python -m benchmarks.contest_gpu train EXPERIMENT... --data FOLDER --workers 16 --minutes 9
    python -m benchmarks.contest_gpu pack EXPERIMENT... --data FOLDER --out FOLDER

The runs of small heads on cached maps keep one processor core busy and a GPU hardly at all, so many of them share it.
Each is an ordinary run folder: a finished one is not trained again, and the same command goes on where
the time ended. Where all trials of a tuning are finished its settings are written, which the experiments after it read.
Of a trial only what tuning reads is packed: the predictions of its last epoch on validation images.
`tar xf FILE -C results` lays packed runs where they belong.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU must not start CUDA before the fork
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from mlclib import config
from mlclib.runs import train as training
from mlclib.runs import tuning
from mlclib.runs.run import Run
from mlclib.runs.study import Study

SIZE = 15_000_000  # bytes of one tar file at most
OF_RUN = ("run.yaml", "history.csv", "predictions.npz", "validation.npz", "metrics.json")
OF_TRIAL = ("run.yaml", "history.csv", "validation.npz")


def train(names: list[str], data: str, results: str, workers: int, minutes: float) -> bool:
    """Train what is not finished yet of these experiments, one experiment after another; whether all is finished."""
    end = time.monotonic() + 60 * minutes
    for name in names:
        study = _study(name, data, results)
        runs = _unfinished(study)
        print(f"{name}: {len(runs)} of {len(study.runs)} runs to train", flush=True)
        if runs:
            _forked([lambda study=study: print(study.cache_layer_maps(), flush=True)], end)
            _share(study, runs, workers, end)
        left = len(_unfinished(study))
        print(f"{name}: {left} runs left, {end - time.monotonic():.0f} s of the time left", flush=True)
        if left:
            return False
        if study.experiment.tuning:
            print(f"written: {tuning.write(study.experiment, study.finished_trials(), name)}", flush=True)
    return True


def _study(name: str, data: str, results: str) -> Study:
    return Study(config.load(name), data, results)


def _unfinished(study: Study) -> list[Run]:
    """The runs to train, those of most epochs first, so that none is left to run alone at the end."""
    runs = [run for run in study.runs.values() if run.reasons]
    return sorted(runs, key=lambda run: (-run.configuration.training.epochs, run.seed))


def _share(study: Study, runs: list[Run], workers: int, end: float) -> None:
    """Train the runs in `workers` processes, each taking the next one; at the end of the time they are ended."""
    logs = study.results / ".logs"  # one file per process
    logs.mkdir(parents=True, exist_ok=True)
    taken, done = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    started = time.monotonic()

    def work(number: int) -> None:
        sys.stdout = sys.stderr = open(logs / f"worker-{number}.log", "a", buffering=1)  # noqa: SIM115
        while time.monotonic() < end:
            with taken.get_lock():
                row, taken.value = taken.value, taken.value + 1
            if row >= len(runs):
                return
            began = time.monotonic()
            try:
                training.train(study, runs[row])
            except Exception:
                traceback.print_exc()
                continue
            print(f"{runs[row].name}: {time.monotonic() - began:.1f} s", flush=True)
            with done.get_lock():
                done.value += 1

    def report() -> None:
        print(f"  {time.monotonic() - started:.0f} s: {done.value} of {len(runs)} runs", flush=True)

    _forked([lambda number=number: work(number) for number in range(min(workers, len(runs)))], end, report)
    failed = [line for log in logs.glob("worker-*.log") for line in log.read_text().splitlines() if "Error" in line]
    print("\n".join(["  failures:", *dict.fromkeys(failed)]) if failed else "  no failure", flush=True)


def _forked(tasks: list[Callable], end: float, report: Callable = lambda: None) -> None:
    """Each task in a process forked from this one, which has read the data and not touched the GPU."""
    processes = [multiprocessing.get_context("fork").Process(target=task) for task in tasks]
    for process in processes:
        process.start()
    reported = time.monotonic()
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        time.sleep(0.2)
        if time.monotonic() - reported > 20:
            reported = time.monotonic()
            report()
    report()
    for process in processes:
        process.kill()
        process.join()


def pack(names: list[str], data: str, results: str, out: Path, selections: list[str], without: list[str]) -> None:
    """Write the finished runs of these experiments into tar files of at most SIZE bytes.

    selections: of which epochs predictions are packed. A run of two experiments is packed once, and those of the
    experiments `without` are left out.
    """
    excluded = {run.folder for name in without for run in _study(name, data, results).runs.values()}
    folders: dict[Path, tuple[str, ...]] = {}
    for study in (_study(name, data, results) for name in names):
        files = OF_TRIAL if study.experiment.tuning else OF_RUN
        runs = (run for run in study.runs.values() if run.folder not in excluded)
        folders |= {run.folder: files for run in runs if run.finished}
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        tars, room = 0, 0
        for folder, files in folders.items():
            contents = dict(packed(folder, files, selections))
            size = sum(len(content) + 1536 for content in contents.values())  # with its header and padding
            if size > room:
                tar = stack.enter_context(tarfile.open(out / f"{names[0]}-{tars:02d}.tar", "w"))
                tars, room = tars + 1, SIZE - 10_240
            room -= size
            for file, content in contents.items():
                entry = tarfile.TarInfo(str((folder / file).relative_to(results)))
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    print(f"{len(folders)} runs packed into {tars} files", flush=True)


def packed(folder: Path, files: tuple[str, ...], selections: list[str]) -> Iterator[tuple[str, bytes]]:
    """The name and bytes of each of these files of a run folder that is there, then of a manifest of them."""
    sums = {}
    for path in (folder / name for name in files if (folder / name).exists()):
        content = _reduced(path, selections) if path.suffix == ".npz" else path.read_bytes()
        sums[path.name] = hashlib.sha256(content).hexdigest()
        yield path.name, content
    yield "manifest.json", json.dumps(sums, indent=1).encode()


def _reduced(path: Path, selections: list[str]) -> bytes:
    """A file of predictions with these selections alone."""
    wanted = ("names", "targets", *(f"logits_{selection}" for selection in selections))
    buffer = io.BytesIO()
    with np.load(path, allow_pickle=False) as file:
        np.savez_compressed(buffer, **{key: file[key] for key in file.files if key in wanted})
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "pack"):
        command = commands.add_parser(name)
        command.add_argument("names", nargs="+", metavar="EXPERIMENT")
        command.add_argument("--data", required=True)
        command.add_argument("--results", default="results")
    commands.choices["train"].add_argument("--workers", type=int, default=os.cpu_count())
    commands.choices["train"].add_argument("--minutes", type=float, default=9.0)
    commands.choices["pack"].add_argument("--out", type=Path, required=True)
    commands.choices["pack"].add_argument("--without", nargs="+", default=[])
    commands.choices["pack"].add_argument("--selections", nargs="+", default=["last", "best_val"])
    arguments = vars(parser.parse_args())
    torch.set_num_threads(1)
    if arguments.pop("command") == "train":
        return 0 if train(**arguments) else 2
    pack(**arguments)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
