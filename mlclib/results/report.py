"""Pages for who reads the project where its code is hosted: the README of an experiment, tables and figures on one
page, and results/README.md, what all of them say.
"""

import re
from collections.abc import Collection
from pathlib import Path

from mlclib.common.files import write_text
from mlclib.results import across
from mlclib.runs.study import Study

# Named in a README, not shown in it: an experiment may have dozens, and git does not track them.
LONG = re.compile(r"ablation_.*_per_class|localisation-.*-labels")
# Tables are shown in this order, by the beginning of their names, then by name.
ORDER = (
    "leaderboard", "pairs", "scores", "tuning", "gap", "further", "published", "per_class", "ablation", "protocols",
)  # fmt: skip
FINDINGS = "tables/findings.md"
BOARDS = "*/tables/leaderboard.csv"


def write(study: Study, shown: Collection[str]) -> Path:
    """Write results/<experiment>/README.md from the experiment's tables and figures.

    shown: the files to show, relative to the experiment's folder.
    """
    experiment, folder = study.experiment, study.folder
    command = f"make reproduce EXPERIMENT={experiment.name}"
    parts = [
        f"# {experiment.title}",
        findings(folder) if FINDINGS in shown else "",
        "\n".join(f"- {note}" for note in experiment.notes),
        f"Made by `{command}` from `experiments/{experiment.name}.yaml`; where the data set is elsewhere, add "
        "`DATA=/its/folder`. Every table stands in [tables](tables) as csv and md too, with the runs that each row or "
        "column is made of in json, and its caption says how its numbers were made. The command writes html, tex and "
        "svg beside them, and pages for a browser.",
    ]
    tables = [path for path in tables_of(folder) if path.relative_to(folder).as_posix() in shown]
    if inline := [path for path in tables if not LONG.match(path.name)]:
        parts += ["## Tables", *(path.read_text(encoding="utf-8").strip() for path in inline)]
    if long := [path for path in tables if LONG.match(path.name)]:
        parts.append("Further tables that it writes:\n\n" + "\n".join(f"- `tables/{path.name}`" for path in long))
    if figures := [path for path in _figures(folder) if path.relative_to(folder).as_posix() in shown]:
        parts += ["## Figures", *(f"![{_words(path)}](figures/{path.name})" for path in figures)]
    write_text(folder / "README.md", "\n\n".join(filter(None, parts)) + "\n")
    return folder / "README.md"


def findings(folder: Path) -> str:
    """What the runs of an experiment say, as 05_tables found it, in Markdown; empty where it did not run."""
    path = folder / FINDINGS
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def summary(results: Path) -> Path:
    """Write results/README.md: what the experiments there say, those of most models first, and models over experiments.

    Its one figure is the leaderboard of the first.
    """
    found = {path.parents[1]: len(path.read_text(encoding="utf-8").splitlines()) for path in results.glob(BOARDS)}
    found = {folder: rows for folder, rows in found.items() if (folder / "README.md").exists()}
    folders = sorted(found, key=lambda folder: (-found[folder], folder.name))
    parts = [
        "# How well do multi-label image classifiers really work?",
        "What the runs say whose tables stand here. Every sentence is computed from the tables of its experiment; the "
        "heading leads to them, and to how each number was made.",
    ]
    parts += [f"![Leaderboard of {f.name}]({f.name}/figures/leaderboard.png)" for f in folders[:1]]
    for folder in folders:
        title = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        said = [line for line in findings(folder).splitlines() if line.startswith("- ")]
        parts += [f"## [{title}]({folder.name}/README.md)", "\n".join(said)]
    if tables := [*across.across(results), *across.turned(results)]:
        parts += ["## Over several experiments", *(table._repr_markdown_().strip() for table in tables)]
    write_text(results / "README.md", "\n\n".join(filter(None, parts)) + "\n")
    return results / "README.md"


def tables_of(folder: Path) -> list[Path]:
    """The md files of an experiment's tables, in the order to show them."""
    found = [path for path in (folder / "tables").glob("*.md") if path.with_suffix(".csv").exists()]
    rank = {
        path: next((i for i, start in enumerate(ORDER) if path.stem.startswith(start)), len(ORDER)) for path in found
    }
    return sorted(found, key=lambda path: (rank[path], path.name))


def _figures(folder: Path) -> list[Path]:
    return sorted((folder / "figures").glob("*.png"))


def _words(path: Path) -> str:
    return path.stem.replace("_", " ")
