"""Train every run of some experiments on one GPU, in processes that share it, and pack the run folders.

    python -m benchmarks.contest_gpu train EXPERIMENT... --data FOLDER --workers 16 --minutes 9
    python -m benchmarks.contest_gpu pack EXPERIMENT... --data FOLDER --out FOLDER
    python -m benchmarks.contest_gpu unpack TAR...

The runs of small heads on cached maps keep one processor core busy and a GPU hardly at all, so many of them share it.
Each is an ordinary run folder: a finished one is not trained again, and the same command goes on where the time ended.
Where all trials of a tuning are finished its settings are written, from which the experiments after it are read.
Packed are the run folders without weights; of a trial only what tuning reads, its last epoch on validation images.
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
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU must not start CUDA before the fork
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from mlclib import config
from mlclib.config import RunConfig
from mlclib.runs import store, tuning
from mlclib.runs.study import Study

SIZE = 15_000_000  # bytes of one tar file at most
KEPT = ("run.yaml", "history.csv", "predictions.npz", "validation.npz", "metrics.json")
OF_TRIAL = ("run.yaml", "history.csv", "validation.npz")


def train(names: list[str], data: str, results: str, workers: int, minutes: float) -> bool:
    """Train what is not finished yet of these experiments, one experiment after another; whether all is finished."""
    end = time.monotonic() + 60 * minutes
    for name in names:
        study = Study(config.load(name), data, results)
        runs = _unfinished(study)
        print(f"{name}: {len(runs)} of {len(study.every_run())} runs to train", flush=True)
        if runs:
            _forked([lambda study=study: print(study.prepare(), flush=True)])
            _share(study, runs, workers, end)
        left = len(_unfinished(study))
        print(f"{name}: {left} runs left, {end - time.monotonic():.0f} s of the time left", flush=True)
        if left:
            return False
        if study.experiment.tuning:
            print(f"written: {tuning.write(study.experiment, study.finished_trials(), name)}", flush=True)
    return True


def _unfinished(study: Study) -> list[tuple[str, RunConfig, int]]:
    """The runs to train, those of most epochs first, so that none is left to run alone at the end."""
    store._verified.cache_clear()
    runs = [(name, run, seed) for name, (run, seed) in study.every_run().items() if study.outdated(run, seed) != []]
    return sorted(runs, key=lambda one: (-one[1].training.epochs, one[2]))


def _share(study: Study, runs: list[tuple[str, RunConfig, int]], workers: int, end: float) -> None:
    """Train the runs in `workers` processes, each taking the next one; at the end of the time they are ended."""
    logs = study.results / ".logs"  # what each process says
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
            name, run, seed = runs[row]
            began = time.monotonic()
            try:
                study.train(run, (seed,), name.removesuffix(f" seed {seed}"))
            except Exception:
                traceback.print_exc()
                continue
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
            with done.get_lock():
                done.value += 1

    def tell() -> None:
        seconds = time.monotonic() - started
        print(f"  {seconds:.0f} s: {done.value} of {len(runs)} runs", flush=True)

    _forked([lambda number=number: work(number) for number in range(min(workers, len(runs)))], end, tell)
    failed = [line for log in logs.glob("worker-*.log") for line in log.read_text().splitlines() if "Error" in line]
    print("\n".join(["  failures:", *dict.fromkeys(failed)]) if failed else "  no failure", flush=True)
    tell()


def _forked(tasks: list, end: float = float("inf"), tell=None) -> None:
    """Each task in a process forked from this one, which has read the data and not touched the GPU."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=task, daemon=False) for task in tasks]
    for process in processes:
        process.start()
    said = time.monotonic()
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        time.sleep(0.2)
        if tell and time.monotonic() - said > 20:
            said = time.monotonic()
            tell()
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


def pack(names: list[str], data: str, results: str, out: Path, selections: list[str], without: list[str]) -> list[Path]:
    """Write the finished runs of these experiments into tar files of at most SIZE bytes; their paths.

    selections: of which epochs predictions are kept ("last", "chosen"). A run of two experiments is packed once, and
    those of the experiments `without` are left out.
    """
    folders: dict[Path, tuple[str, ...]] = {}
    left_out = {
        folder for name in without for folder in Study(config.load(name), data, results).every_folder().values()
    }
    for name in names:
        study = Study(config.load(name), data, results)
        kept = OF_TRIAL if study.experiment.tuning else KEPT
        for folder in study.every_folder().values():
            if folder not in left_out and store.finished(folder):
                folders.setdefault(folder, kept)
    out.mkdir(parents=True, exist_ok=True)
    paths, room = [], 0
    tar = None
    for folder, kept in folders.items():
        files = dict(_files(folder, kept, ["last"] if kept == OF_TRIAL else selections))
        size = sum(len(content) + 1536 for content in files.values())
        if tar is None or size > room:
            if tar:
                tar.close()
            paths.append(out / f"{names[0]}-{len(paths):02d}.tar")
            tar, room = tarfile.open(paths[-1], "w"), SIZE - 10_240  # noqa: SIM115
        room -= size
        for file, content in files.items():
            entry = tarfile.TarInfo(str((folder / file).relative_to(results)))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    if tar:
        tar.close()
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    print(f"{len(folders)} runs packed", flush=True)
    return paths


def _files(folder: Path, kept: tuple[str, ...], selections: list[str]) -> Iterator[tuple[str, bytes]]:
    """What is kept of a run folder, and a manifest of it."""
    sums = {}
    for name in kept:
        path = folder / name
        if path.exists():
            content = _reduced(path, selections) if path.suffix == ".npz" else path.read_bytes()
            sums[name] = hashlib.sha256(content).hexdigest()
            yield name, content
    yield "manifest.json", json.dumps(sums, indent=1).encode()


def _reduced(path: Path, selections: list[str]) -> bytes:
    """A file of predictions with these selections alone; as it is where it holds no others."""
    with np.load(path, allow_pickle=False) as file:
        keys = [key for key in file.files if key in ("names", "targets") or key.removeprefix("logits_") in selections]
        wanted = {key: file[key] for key in keys}
        if set(wanted) == set(file.files):
            return path.read_bytes()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **wanted)
    return buffer.getvalue()


def unpack(tars: list[Path], results: str) -> None:
    """Lay packed run folders below `results`; those that are there stay."""
    for path in tars:
        with tarfile.open(path) as tar:
            there = {m.name for m in tar if (Path(results) / m.name).with_name("manifest.json").exists()}
            members = [member for member in tar.getmembers() if member.name not in there]
            tar.extractall(results, members, filter="data")
            print(f"{path}: {len({Path(m.name).parent for m in members})} runs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "pack"):
        sub = commands.add_parser(name)
        sub.add_argument("experiments", nargs="+")
        sub.add_argument("--data", required=True)
        sub.add_argument("--results", default="results")
    commands.choices["train"].add_argument("--workers", type=int, default=os.cpu_count())
    commands.choices["train"].add_argument("--minutes", type=float, default=9.0)
    commands.choices["pack"].add_argument("--out", type=Path, required=True)
    commands.choices["pack"].add_argument("--without", nargs="+", default=[])
    commands.choices["pack"].add_argument("--selections", nargs="+", default=["last", "chosen"])
    sub = commands.add_parser("unpack")
    sub.add_argument("tars", type=Path, nargs="+")
    sub.add_argument("--results", default="results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "unpack":
        unpack(given.tars, given.results)
        return 0
    if given.command == "pack":
        pack(given.experiments, given.data, given.results, given.out, given.selections, given.without)
        return 0
    return 0 if train(given.experiments, given.data, given.results, given.workers, given.minutes) else 2


if __name__ == "__main__":
    raise SystemExit(main())
