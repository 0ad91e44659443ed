"""What it costs to find out that nothing is to do: `status` of an experiment whose runs are finished.

    python -m benchmarks.jobs --runs 1000

The runs are made ones, of real size: folders with a head's weights, predictions and histories, and manifests that hold.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from mlclib import config
from mlclib.common.files import write_text
from mlclib.runs import store, train
from mlclib.runs.study import Study

MODELS = ("gmp", "dsdl", "csra", "ml_gcn", "add_gcn")


def make(folder: Path, count: int) -> None:
    """An experiment `many` of `count` runs, all of them finished and current."""
    (folder / "photos").mkdir()
    rows = ["path,labels,split"]
    for row in range(60):
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(
            folder / "photos" / f"{row}.png"
        )
        rows.append(f"{row}.png,{'cat|dog' if row % 3 else 'bus'},{'test' if row % 4 == 0 else 'train'}")
    write_text(folder / "photos" / "labels.csv", "\n".join(rows))
    setting = {
        "title": "Many runs",
        "dataset": {"name": "folder", "root": str(folder / "photos"), "table": "labels.csv"},
        "input_size": 64,
        "backbone": {"name": "tf_efficientnet_lite0", "weights": "offline", "frozen": True},
        "seeds": list(range(count // len(MODELS))),
        "models": {model: {} for model in MODELS},
        "attention": {"models": []},
    }
    write_text(folder / "many.yaml", yaml.safe_dump(setting))
    study = Study(config.load(folder / "many.yaml"), results=folder / "results")
    test, rng = study.dataset.splits["test"], np.random.default_rng(0)
    logits = rng.normal(size=test.targets.shape).astype(np.float32)
    scores = store.score(logits, test.targets)
    for run in study.runs.values():
        run.folder.mkdir(parents=True)
        save_file({"head.weight": torch.randn(1000, 1000)}, run.folder / "weights.safetensors")  # 4 MB
        store.write_predictions(run.folder / "predictions.npz", test.names, test.targets, last=logits, best=logits)
        write_text(run.folder / "history.csv", "epoch,loss\n" + "\n".join(f"{n},{1 / n}" for n in range(1, 81)))
        about = train._about(study, run, "2026-01-01T00:00:00+00:00")
        store.write_run(run.folder, about, {"last": scores, "best": scores})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many finished runs (default: 1000)")
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, count)
        command = [sys.executable, "-m", "mlclib", "status", str(folder / "many.yaml")]
        started = time.perf_counter()
        done = subprocess.run([*command, "--results", str(folder / "results")], capture_output=True, text=True)
        seconds = time.perf_counter() - started
    print(f"{done.stdout.splitlines()[-1] if done.stdout else done.stderr}")
    print(f"status of {count} finished runs: {seconds:.1f} s")


if __name__ == "__main__":
    main()
