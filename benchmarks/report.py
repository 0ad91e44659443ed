"""One table of measurements a device: results/benchmarks/<device>.csv and .md."""

import csv
import re
from pathlib import Path

import torch

from mlclib.common.files import written_whole
from mlclib.common.machine import processor

FOLDER = Path("results/benchmarks")
COLUMNS = ("name", "value", "unit", "detail")


def device() -> torch.device:
    """The device that is measured: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """The name of the GPU, or of the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return processor()


def row(name: str, value: float, unit: str, detail: str) -> dict[str, object]:
    """A measurement as `write` takes it."""
    return {"name": name, "value": value, "unit": unit, "detail": detail}


def write(rows: list[dict[str, object]]) -> Path:
    """Add rows of name, value, unit and detail to the device's table, each in the place of one of its name; its path.

    Values are written to three significant digits.
    """
    path = FOLDER / f"{re.sub(r'[^a-z0-9]+', '-', device_name().lower()).strip('-')}.csv"
    kept = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            kept = {row["name"]: row for row in csv.DictReader(file)}
    kept |= {row["name"]: {**row, "value": f"{row['value']:.3g}"} for row in rows}
    with written_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(kept.values())
    with written_whole(path.with_suffix(".md")) as part:
        lines = [f"# {device_name()}", "", f"torch {torch.__version__}", "", f"| {' | '.join(COLUMNS)} |"]
        lines += ["|" + " --- |" * len(COLUMNS)]
        lines += [f"| {' | '.join(row[column] for column in COLUMNS)} |" for row in kept.values()]
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
