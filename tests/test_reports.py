"""An experiment's README: its tables and figures, the command that makes them, and nothing that is not there."""

import re
from types import SimpleNamespace

import pytest
from made_runs import make

from mlclib import config
from mlclib.common.files import write_text
from mlclib.results import ablation, findings, leaderboard, recipes
from mlclib.results import report as reports
from mlclib.results import scores as performance


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """An experiment with tables, one of them long, and a figure."""
    results = tmp_path_factory.mktemp("results")
    models = {"gmp": [make(results, "gmp", 0, 0.8)], "msrn": [make(results, "msrn", 0, 1.5)]}
    experiment = SimpleNamespace(name="demo", title="Scenes & <things>", notes=("Drawn by the project.",))
    study = SimpleNamespace(experiment=experiment, folder=results / "demo", results=results)
    long = ablation.per_class_table("msrn", "layers", {"2": models["gmp"]}, models["msrn"])
    for table in (performance.per_class_table(models), performance.scores_table(models), long):
        table.write(study.folder / "tables")
    (study.folder / "figures").mkdir()
    (study.folder / "figures" / "label_graph.png").write_bytes(b"\x89PNG")
    return study


def write(study):
    names = ("scores.md", "scores.csv", "per_class.md", "ablation_msrn_layers_per_class.md")
    shown = [*(f"tables/{name}" for name in names), "figures/label_graph.png", "photographs/samples.png"]
    return reports.write(study, shown).read_text(encoding="utf-8")


def test_the_readme_shows_tables_figures_notes_and_the_command(study):
    text = write(study)
    assert text.startswith("# Scenes & <things>\n\n- Drawn by the project.\n\nMade by `make reproduce EXPERIMENT=demo`")
    assert "photographs" not in text
    assert text.index("### Scores on scenes") < text.index("### AP per class on scenes") < text.index("## Figures")
    assert "![label graph](figures/label_graph.png)" in text
    # git does not track a long table: it is named, and no link
    assert "- `tables/ablation_msrn_layers_per_class.md`" in text
    assert "(tables/ablation_msrn_layers_per_class.md)" not in text and "### Ablation of MSRN: layers" not in text


def test_the_readme_of_an_experiment_of_ones_own_names_no_file_in_experiments(study):
    own = SimpleNamespace(**{**vars(study.experiment), "name": "own-cats"})
    text = write(SimpleNamespace(experiment=own, folder=study.folder, results=study.results))
    assert "from `experiments/" not in text and "EXPERIMENT=<path of own-cats.yaml>`" in text


def test_what_differs_from_the_published_heads_and_recipes_is_listed_for_every_model():
    text = recipes.differences(config.load("peers-coco18"))
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines() if row.startswith("| ")}
    assert {"MSRN", "linear baseline", "ML-Decoder"} < set(rows) and len(rows) == 13
    for model, part in (
        ("MSRN", "width 128 (512)"),
        ("Query2Label", "width 256 (2048), feedforward 512 (8192)"),
        ("SSGRL", "learning rate 0.00848 (1e-05)"),
        ("ML-Decoder", "loss soft-margin (own)"),
        ("GMP", "| as published |"),
    ):
        assert part in rows[model]
    assert "loss" not in rows["CSRA"]  # its authors' loss is this one
    assert "frozen (resnet101.tv\\_in1k trained)" in text.partition("| model")[0]
    published = recipes.differences(config.load("peers-own-voc2007"))
    assert published.count("| as published | as published |") == 11


def test_what_no_notebook_claims_is_not_shown(study):
    text = reports.write(study, {"tables/scores.md"}).read_text(encoding="utf-8")
    assert "### Scores on scenes" in text and "### AP per class" not in text and "## Figures" not in text


def test_the_summary_says_what_each_experiment_with_a_leaderboard_found(tmp_path, monkeypatch):
    """Those of most models first, whose leaderboard is its one figure; over two data sets of one model each's rank."""
    monkeypatch.setattr(config, "FOLDER", tmp_path / "experiments")
    for name, data, gains in (
        ("few", "scenes", {"gmp": 1.5, "msrn": 0.8}),
        ("two", "voc2007", {"gmp": 0.7, "msrn": 1.4}),
        ("many", "scenes", {"gmp": 1, "msrn": 2, "dsdl": 3}),
    ):
        experiment = f"title: x\ndataset: {{name: {data}}}\nmodels: {{{': , '.join(gains)}: }}\n"
        write_text(config.FOLDER / f"{name}.yaml", experiment)
        models = {model: [make(tmp_path / name, model, 0, gain, data=data)] for model, gain in gains.items()}
        contest = leaderboard.compare_all(models)
        for table in leaderboard.tables(contest):
            table.write(tmp_path / name / "tables")
        (tmp_path / name / "README.md").write_text(f"# Of {name}\n")
        findings.write(tmp_path / name / "tables", "findings", "What the runs say.", findings.sentences(contest, {}))
    (tmp_path / "unfinished" / "tables").mkdir(parents=True)
    (tmp_path / "unfinished" / "tables" / "leaderboard.csv").write_text("model,mAP\n")
    text = reports.summary(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.*)\]", text, re.MULTILINE) == ["Of many", "Of few", "Of two"]
    assert re.findall(r"!\[.*\]\((.*)\)", text) == ["many/figures/leaderboard.png"]
    assert "DSDL has the highest mAP" in text and "GMP has the highest mAP on scenes" in text
    last = text.split("## Over several experiments")[1]
    assert "Average ranks over 2 data sets" in last and "| GMP | 1.50 |" in last
    assert "whose order two experiments reverse" in last and "| few | two |" in last


def test_the_first_contest_has_most_models_then_most_test_images_then_most_pairs_that_differ(tmp_path):
    contests = {
        "two": (2, 900, ["better"]),
        "small": (3, 400, ["better"] * 3),
        "vague": (3, 500, ["better", "cannot tell"]),
        "sharp": (3, 500, ["better", "worse"]),
    }
    for name, (models, images, verdicts) in contests.items():
        tables = tmp_path / name / "tables"
        tables.mkdir(parents=True)
        (tables.parent / "README.md").write_text("")
        (tables / "leaderboard.csv").write_text("model\n" + "a\n" * models)
        (tables / "scores.md").write_text(f"12,000 train and {images:,} test images")
        (tables / "pairs.csv").write_text("verdict\n" + "".join(f"{verdict}\n" for verdict in verdicts))
    assert [folder.name for folder in reports.contests(tmp_path)] == ["sharp", "vague", "small", "two"]
