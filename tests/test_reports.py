"""An experiment's README: its tables and figures, the command that makes them, and nothing that is not there."""

from types import SimpleNamespace

import pytest
from made_runs import make

from mlclib.pages import reports
from mlclib.tables import ablation, performance


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """An experiment with tables, one of them long, and a figure."""
    results = tmp_path_factory.mktemp("results")
    models = {"gmp": [make(results, "gmp", 0, 0.8)], "msrn": [make(results, "msrn", 0, 1.5)]}
    experiment = SimpleNamespace(name="demo", title="Scenes & <things>", notes=("Drawn by the project.",))
    study = SimpleNamespace(experiment=experiment, folder=results / "demo", results=results)
    long = ablation.per_class("msrn", "layers", {"2": models["gmp"]}, models["msrn"])
    for table in (performance.per_class(models), performance.scores(models), long):
        table.write(study.folder / "tables")
    (study.folder / "figures").mkdir()
    (study.folder / "figures" / "label_graph.png").write_bytes(b"\x89PNG")
    return study


def write(study):
    shown = {path.relative_to(study.folder).as_posix() for path in study.folder.rglob("*.*")}
    return reports.write(study, shown).read_text(encoding="utf-8")


def test_the_readme_shows_tables_figures_notes_and_the_command(study):
    text = write(study)
    assert text.startswith("# Scenes & <things>\n\n- Drawn by the project.\n\nMade by `make reproduce EXPERIMENT=demo`")
    assert text.index("### Scores on scenes") < text.index("### AP per class on scenes") < text.index("## Figures")
    assert "![label graph](figures/label_graph.png)" in text
    assert "| model | mAP |" in text


def test_a_long_table_is_named_and_not_linked_as_git_does_not_track_it(study):
    text = write(study)
    assert "- `tables/ablation_msrn_layers_per_class.md`" in text
    assert "(tables/ablation_msrn_layers_per_class.md)" not in text and "### Ablation of msrn: layers" not in text


def test_what_no_notebook_claims_is_not_shown(study):
    text = reports.write(study, {"tables/scores.md"}).read_text(encoding="utf-8")
    assert "### Scores on scenes" in text and "### AP per class" not in text and "## Figures" not in text


def test_the_same_results_give_the_same_page(study):
    assert write(study) == write(study)
