"""Pages for who reads the project where its code is hosted: the README of an experiment, tables and figures on one
page, and results/README.md, what all of them say.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mlclib.common.files import write_text
from mlclib.config import FOLDER
from mlclib.metrics.pairwise import BETTER, WORSE
from mlclib.models import NAMES, title
from mlclib.results import across, recipes
from mlclib.runs.study import Study

# Named in a README, not shown in it: an experiment may have dozens, and git does not track them.
LONG = re.compile(r"ablation_.*_per_class|localisation-.*-labels")
FRONT = "<!-- front:begin -->", "<!-- front:end -->"  # what README.md shows of the first contest stands between


def write(study: Study, shown: Iterable[str]) -> Path:
    """Write results/<experiment>/README.md from the experiment's tables and figures.

    shown: the files to show, relative to the experiment's folder, in the order in which the notebooks wrote them.
    """
    experiment, folder, target = study.experiment, study.folder, named(study.experiment.name)
    source = f" from `{FOLDER}/{target}.yaml`" if target == experiment.name else ""
    paths = [folder / path for path in shown]
    tables = [path for path in paths if path.suffix == ".md" and path.with_suffix(".csv").exists()]
    inline = [path.read_text(encoding="utf-8").strip() for path in tables if not LONG.match(path.name)]
    further = [f"- `tables/{path.name}`" for path in tables if LONG.match(path.name)]
    figures = [f"![{words(path.stem)}](figures/{path.name})" for path in paths if path.match("figures/*.png")]
    parts = [
        f"# {experiment.title}",
        findings(folder) if folder / "tables" / "findings.md" in paths else "",
        "\n".join(f"- {note}" for note in experiment.notes),
        f"Made by `make reproduce EXPERIMENT={target}`{source}; where the data set is elsewhere, add "
        "`DATA=/its/folder`. Every table is in [tables](tables) as csv and md; a json file names the runs of "
        "each row or column. The command writes html, tex and svg beside them, and pages for a browser.",
        recipes.differences(experiment) if folder / "tables" / "leaderboard.md" in paths else "",
        *(["## Tables", *inline] if inline else []),
        "\n".join(["Further tables that it writes:", "", *further]) if further else "",
        *(["## Figures", *figures] if figures else []),
    ]
    write_text(folder / "README.md", "\n\n".join(filter(None, parts)) + "\n")
    return folder / "README.md"


def named(name: str) -> str:
    """How a command names the experiment: of those of one's own it wants the file."""
    return name if (FOLDER / f"{name}.yaml").is_file() else f"<path of {name}.yaml>"


def words(stem: str) -> str:
    """What a figure's file name says, in words: "curves ML-Decoder" for curves_ml_decoder."""
    names = "|".join(sorted(NAMES, key=len, reverse=True))
    return re.sub(rf"(?<![a-z])({names})(?![a-z])", lambda key: title(key[0]), stem).replace("_", " ")


def findings(folder: Path) -> str:
    """What the runs of an experiment say, as 05_tables and 09_causes computed it, in Markdown; empty if neither did."""
    paths = [folder / "tables" / name for name in ("findings.md", "causes-findings.md")]
    return "\n\n".join(path.read_text(encoding="utf-8").strip() for path in paths if path.is_file())


def sentences(folder: Path) -> str:
    """`findings` without what stands around its sentences."""
    return "\n".join(line for line in findings(folder).splitlines() if line.startswith("- "))


def tables_of(folder: Path) -> list[Path]:
    """The md files of an experiment's tables, in the order of its README; those that it does not show come last."""
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    tables = [path for path in (folder / "tables").glob("*.md") if path.with_suffix(".csv").exists()]
    places = {path: text.find(path.read_text(encoding="utf-8").partition("\n")[0] + "\n") for path in tables}
    return sorted(tables, key=lambda path: (places[path] < 0, places[path], path.name))


def test_images(folder: Path) -> int:
    """On how many test images an experiment's scores rest, as their caption says; 0 where it does not."""
    path = folder / "tables" / "scores.md"
    count = re.search(r"([\d,]+) test images", path.read_text(encoding="utf-8")) if path.exists() else None
    return int(count[1].replace(",", "")) if count else 0


def contests(results: Path) -> list[Path]:
    """The folders of the experiments with a leaderboard: those of most models first, then of most test images, then
    those that tell most pairs apart.
    """
    boards = [path for path in results.glob("*/tables/leaderboard.csv") if (path.parents[1] / "README.md").exists()]
    models = {path.parents[1]: len(path.read_text(encoding="utf-8").splitlines()) for path in boards}
    apart = {folder: _told_apart(folder / "tables" / "pairs.csv") for folder in models}
    return sorted(models, key=lambda one: (-models[one], -test_images(one), -apart[one], one.name))


def _told_apart(pairs: Path) -> int:
    return int(pd.read_csv(pairs)["verdict"].isin((BETTER, WORSE)).sum()) if pairs.exists() else 0


def front(folder: Path) -> str:
    """What README.md shows of a contest: its figure, what its runs say, its table and caption."""
    board = (folder / "tables" / "leaderboard.md").read_text(encoding="utf-8")
    table = board[board.index("|") : board.index("<details>")].strip()
    images = re.search(r"Data: (.*? test images)", board)[1]
    figure = f"![Leaderboard of {folder.name}](results/{folder.name}/figures/leaderboard.png)"
    return "\n\n".join((f"**{_link(folder, 'results/')}**", figure, sentences(folder), f"{table} Data: {images}."))


def fill_front(readme: Path, results: Path) -> None:
    """Write the first of `contests` between the marks of README.md; nothing where it has no marks."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    folders = contests(results)
    if FRONT[0] in text and folders:
        before, after = text.partition(FRONT[0])[0], text.partition(FRONT[1])[2]
        write_text(readme, f"{before}{FRONT[0]}\n{front(folders[0])}\n{FRONT[1]}{after}")


def summary(results: Path) -> Path:
    """Write results/README.md: what the contests there say, and models over experiments.

    Its one figure is the leaderboard of the first.
    """
    folders = contests(results)
    parts = [
        "# How well do multi-label image classifiers really work?",
        "Findings of the experiments. Each sentence is computed from the tables of its experiment. The heading links "
        "to them, and to how each number was made.",
    ]
    parts += [f"![Leaderboard of {f.name}]({f.name}/figures/leaderboard.png)" for f in folders[:1]]
    parts += [part for folder in folders for part in (f"## {_link(folder)}", sentences(folder))]
    if tables := [*across.reversal_tables(results), *across.rank_tables(results)]:
        parts += ["## Over several experiments", *(table._repr_markdown_().strip() for table in tables)]
    write_text(results / "README.md", "\n\n".join(filter(None, parts)) + "\n")
    return results / "README.md"


def _link(folder: Path, above: str = "") -> str:
    """The title of an experiment's README, as a link to it."""
    title = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return f"[{title}]({above}{folder.name}/README.md)"
