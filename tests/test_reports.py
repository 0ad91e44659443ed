import os
from html.parser import HTMLParser
from types import SimpleNamespace

import nbformat
import pytest
from made_runs import make

from mlclib.pages import reports
from mlclib.tables import ablation, performance


class Page(HTMLParser):
    """What a page links to or loads, its ids, and its visible text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.text, self.images = [], [], "", []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[key] for key in ("href", "src") if key in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.images += [attrs] if tag == "img" else []

    def handle_data(self, data):
        self.text += data


def study(results, name, title, notes=()):
    experiment = SimpleNamespace(name=name, title=title, notes=notes)
    return SimpleNamespace(experiment=experiment, folder=results / name, results=results)


def write(study):
    shown = {path.relative_to(study.folder).as_posix() for path in study.folder.rglob("*.*")}
    return reports.write(study, shown)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two experiments with tables; the first with a figure and an executed notebook too."""
    results = tmp_path_factory.mktemp("results")
    models = {"gmp": [make(results, "gmp", 0, 0.8)], "msrn": [make(results, "msrn", 0, 1.5)]}
    for name in ("demo", "other"):
        performance.per_class(models).write(results / name / "tables")
        performance.scores(models).write(results / name / "tables")
    long = ablation.per_class("msrn", "layers", {"2": models["gmp"]}, models["msrn"])
    long.write(results / "demo" / "tables")
    (results / "demo" / "figures").mkdir()
    (results / "demo" / "figures" / "label_graph.png").write_bytes(b"\x89PNG")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Which labels?"), executed("41 + 1", "42")]
    )
    (results / "demo" / "notebooks").mkdir()
    nbformat.write(notebook, results / "demo" / "notebooks" / "01_data.ipynb")
    write(study(results, "demo", "Scenes & <things>", notes=("Drawn by the project.",)))
    write(study(results, "other", "The other one"))
    return results


def executed(source, result):
    output = nbformat.v4.new_output("execute_result", {"text/plain": result}, execution_count=1)
    return nbformat.v4.new_code_cell(source, execution_count=1, outputs=[output])


def test_the_readme_shows_tables_figures_notes_and_the_command(results):
    text = (results / "demo" / "README.md").read_text()
    assert text.startswith("# Scenes & <things>\n\n- Drawn by the project.\n\nMade by `make reproduce EXPERIMENT=demo`")
    assert text.index("### Scores on scenes") < text.index("### AP per class on scenes") < text.index("## Figures")
    assert "![label graph](figures/label_graph.png)" in text
    assert "| model | mAP |" in text
    link = "- [ablation msrn layers per class](tables/ablation_msrn_layers_per_class.md)"
    assert link in text and "### Ablation of msrn: layers" not in text  # linked, as it is long and one of many


def test_the_index_leads_to_everything_and_every_link_holds(results):
    page = Page(results / "index.html")
    for link in page.links:
        assert link[1:] in page.ids if link.startswith("#") else (results / link).exists(), link
    for wanted in (
        "demo/tables/scores.html",
        "demo/tables/scores.csv",
        "other/tables/per_class.tex",
        "demo/figures/label_graph.png",
        "demo/notebooks/01_data.html",
        "demo/notebooks/01_data.ipynb",
        "demo/README.md",
        "runs/scenes/msrn-0a1b2c3d/seed-0/run.yaml",
        "runs/scenes/msrn-0a1b2c3d/seed-0/manifest.json",
    ):
        assert wanted in page.links
    assert "Scenes & <things>" in page.text
    assert "msrn-0a1b2c3d, seed 0" in page.text


def test_the_index_opens_with_the_scores_of_each_experiment(results):
    page = Page(results / "index.html")
    assert {"table-scores-demo", "table-scores-other"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_pages_need_no_network_and_fit_a_phone(results):
    for path in results.rglob("*.html"):
        page = Page(path)
        assert not [link for link in page.links if "//" in link]
        assert "@import" not in page.source
        assert "url(" not in page.source
        assert 'content="width=device-width' in page.source
    assert all(image["alt"] for image in Page(results / "index.html").images)


def test_an_executed_notebook_can_be_read_in_a_browser_and_follows_its_source(results):
    page = results / "demo" / "notebooks" / "01_data.html"
    assert "Which labels?" in Page(page).text
    assert "42" in Page(page).text
    notebook = page.with_suffix(".ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[executed("6 * 8", "48")]), notebook)
    os.utime(notebook, (page.stat().st_mtime + 5,) * 2)
    reports.index(results)
    assert "48" in Page(page).text


def test_the_same_results_give_the_same_pages(results):
    before = {path: path.read_bytes() for path in results.rglob("*") if path.name in ("README.md", "index.html")}
    write(study(results, "demo", "Scenes & <things>", notes=("Drawn by the project.",)))
    assert len(before) == 3
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_index_of_nothing_says_so(tmp_path):
    assert "No run folders are on this disk" in Page(reports.index(tmp_path)).text
