"""The doctor's page: what to do and in which order, with pictures, tables to correct and a ready experiment."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.common.files import write_text, written_whole
from mlclib.datasets.images import open_rgb
from mlclib.doctor import diagnosis, pictures
from mlclib.doctor.diagnosis import Diagnosis
from mlclib.metrics import calibration
from mlclib.results.style import safe_text
from mlclib.results.table import Table, markdown

_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True)


def examine(data: str | Path, table: str = "", results: str | Path = "results") -> tuple[Diagnosis, Path]:
    """Diagnose the images in the folder `data` and write results/doctor/<its name>/README.md; both are given.

    table: the file of labels in that folder; it may be left out where there is one such file, or folders of labels.
    """
    root = Path(data).expanduser()
    tables = [path.name for path in sorted(root.glob("*")) if path.suffix in (".csv", ".tsv", ".parquet", ".pq")]
    tables = [table] if table else [name for name in tables if not name.endswith("splits.csv")]
    if len(tables) > 1:
        raise UserError(f"{root} holds the tables {', '.join(tables)}: say which has the labels (TABLE={tables[0]})")
    options = {"table": tables[0], "unknown": "difficult"} if tables else {}
    diagnosed = diagnosis.diagnose(pictures.read_pictures(datasets.load("folder", root, **options)))
    folder = Path(results) / "doctor" / root.resolve().name
    return diagnosed, write(diagnosed, {"name": "folder", "root": str(root), **options}, folder)


def write(diagnosed: Diagnosis, source: dict[str, Any], folder: Path) -> Path:
    """Write the page, its figures, its tables and own-<folder>.yaml into `folder`. source: the data set as in YAML."""
    repeated = diagnosed.copies.duplicated("group", keep=False)
    copies = diagnosed.copies[repeated].sort_values(["leak", "group"], ascending=False)
    for name in ("suspects", "copies", "odd", "labels"):
        frame = copies if name == "copies" else getattr(diagnosed, name).drop(columns="row", errors="ignore")
        write_text(folder / f"{name}.csv", frame.to_csv(index=False))
    suspects, odd = diagnosed.suspects.itertuples(), diagnosed.odd.itertuples()
    titles = {
        "suspects": [(one.row, f"{one.label}\n{one.given}, p = {one.probability:.2f}") for one in suspects],
        "copies": [(one.Index, f"{one.part}\n{one.name}") for one in copies.itertuples()],
        "odd": [(one.row, f"{one.what} {one.value:.3g}\nmedian {one.median:.3g}") for one in odd],
    }
    titles = {name: own for name, own in titles.items() if own}
    for name, own in titles.items():
        with written_whole(folder / f"{name}.png") as part:
            _figure(diagnosed, own).savefig(part, dpi=80, format="png", bbox_inches="tight")
    counts = ("images", "training images", "more")
    formats = {name: ".0f" if name in counts else ".2f" for name in diagnosed.labels.columns[1:]}
    experiment = folder / f"own-{folder.name}.yaml"  # two folders of images are two experiments
    about = {
        "name": folder.name,
        "experiment": shlex.quote(str(experiment)),
        "source": source,
        "exclude": sorted({*diagnosed.pictures.broken, *copies["name"][copies["out"]]}),
        "copies": copies,
        "figures": titles,
        "table": markdown(Table("labels", "Labels", diagnosed.labels, "", formats=formats)),
        "error": calibration.expected_error(diagnosed.logits, diagnosed.pictures.targets),
    }
    for template, file in (("experiment.yaml", experiment.name), ("page.md", "README.md")):
        text = _TEMPLATES.get_template(template).render(about, diagnosed=diagnosed, of=diagnosis, seen=pictures)
        write_text(folder / file, text + "\n")
    return folder / "README.md"


def _figure(diagnosed: Diagnosis, titles: Sequence[tuple[int, str]]) -> Figure:
    """The first of these pictures, each with its title."""
    figure, grid = plt.subplots(3, 4, figsize=(12, 10))
    for axes, (row, title) in itertools.zip_longest(grid.flat, titles[: grid.size], fillvalue=(0, "")):
        axes.axis("off")
        if title:
            axes.imshow(open_rgb(diagnosed.pictures.frame["path"][row]))
            axes.set_title(safe_text(title), fontsize=9)
    plt.close(figure)
    return figure
