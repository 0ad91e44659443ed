"""The site: its pages need no network, a number opens what it is made of, and the browser scores as Python does."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace

import axe_core_python
import nbformat
import numpy as np
import pandas as pd
import pytest
from made_runs import make, targets
from PIL import Image

from mlclib import site
from mlclib.metrics import resampling
from mlclib.metrics import scores as metrics
from mlclib.results import leaderboard, notebook
from mlclib.results import scores as performance
from mlclib.runs import plan
from mlclib.runs.plan import Job

sys.path.insert(0, str(Path(__file__).parent / "lab"))
chrome = pytest.importorskip("chrome", reason="the package websocket-client is not installed")
browser = pytest.mark.skipif(chrome.executable() is None, reason="no Chromium is installed (apt-get install chromium)")
node = pytest.mark.skipif(shutil.which("node") is None, reason="no node is installed, which runs the site's JavaScript")

AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
DIALOGS = ["demo.html#model=msrn", "demo.html#model=msrn&label=dog", "demo.html#model=gmp&image=000003&seed=0"]
TEXTS = ["demo/02_train-gmp.html", "papers.html", "models.html", "docs/readme.html"]
KINDS = ["index.html", "demo.html", *DIALOGS, *TEXTS]
PROTOCOLS = [
    {"ap": ap, "difficult": difficult, "threshold": threshold, "top": top}
    for ap in metrics.APS
    for difficult in ("ignore", "absent")
    for threshold in (0.0, 0.3, "sweep")
    for top in (None, 3)
]


Experiment = make_dataclass("Experiment", ["name", "title", "notes", "training"])  # as far as the site shows it


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site of one experiment of two models, two seeds each, on 24 scenes; its folder, and the runs."""
    folder, marks = tmp_path_factory.mktemp("site"), targets()[:24]
    results = folder / "results"
    gains = {"gmp": 0.3, "msrn": 1}
    runs = {model: [make(results, model, s, gain, marks=marks) for s in (0, 1)] for model, gain in gains.items()}
    boards = leaderboard.tables(leaderboard.compare_all(runs))
    for table in (performance.scores_table(runs), performance.per_class_table(runs), *boards):
        table.write(results / "demo" / "tables")
    (results / "demo" / "README.md").write_text("# Scenes & <things>\n\n- A note.\n\nMade by `make`\n\n## Tables\n")
    (results / "demo" / "figures").mkdir()
    for name in ("leaderboard", "per_class", "samples"):
        Image.new("RGB", (90, 70), "red").save(results / "demo" / "figures" / f"{name}.png")
    reproduced(results / "demo")
    site.build(results, folder / "site")
    return folder / "site", runs


def reproduced(folder):
    """What `reproduce` leaves of two jobs that ran and one that has yet to: a notebook, its times, the experiment."""
    jobs = [Job("train gmp seed 0", ("run",)), Job("02_train-gmp", ("stage",), ("train gmp seed 0",)),
            Job("page", ("report",), ("02_train-gmp",), 1, ("it has not run",))]  # fmt: skip
    experiment = Experiment("demo", "Scenes & <things>", ("A note.",), {"epochs": 7})
    plan.write_jobs(SimpleNamespace(experiment=experiment, folder=folder), jobs)
    png = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(png, "png")
    outputs = [
        {"text/plain": "42"},
        {"image/png": base64.b64encode(png.getvalue()).decode() + "\n"},
        {"text/markdown": "### Scores on scenes\n\n| mAP |\n| ---: |\n| 71.4≈ |\n\nIn percent.\n\n≈ Within noise."},
        {"text/markdown": notebook.finding("gmp < *msrn*").data},
        {"text/html": pd.DataFrame({"mAP": [71.4]}).to_html()},  # its corner is an empty head
    ]
    cell = nbformat.v4.new_code_cell("6 * 7", id="shown")
    cell.outputs = [nbformat.v4.new_output("display_data", data) for data in outputs]
    cells = [nbformat.v4.new_markdown_cell("# How well does it learn?"), cell]
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "02_train-gmp.ipynb")
    (folder / "times").mkdir()
    (folder / "times" / "train_gmp_seed_0.json").write_text('{"seconds": 123, "memory": 1500}')


def asked(script, given):
    """What JavaScript that sees scores.js as `scores` and `given` prints as JSON."""
    path = json.dumps(str(site.HERE / "scores.js"))
    code = f"const scores = require({path}), given = JSON.parse(require('fs').readFileSync(0)); {script}"
    done = subprocess.run(["node", "-e", code], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@node
def test_javascript_scores_as_python_under_every_protocol():
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(size=(60, 9)), 1).astype(np.float32)  # with many ties
    marks = rng.choice([-1, -1, 0, 1], size=logits.shape).astype(np.int8)
    marks[:, 2] = -1  # a label without a positive
    given = {"logits": logits.ravel().tolist(), "targets": marks.ravel().tolist(), "labels": 9, "protocols": PROTOCOLS}
    script = """
    const logits = Float32Array.from(given.logits), targets = Int8Array.from(given.targets);
    console.log(JSON.stringify(given.protocols.map(p => {
      const found = scores.evaluate(logits, targets, given.labels, p);
      return ["mAP", "threshold", ...scores.RATES].map(key => found[key]).concat(found.AP);
    })));"""
    for protocol, values in zip(PROTOCOLS, asked(script, given), strict=True):
        wanted = metrics.evaluate(logits, marks, **protocol)
        wanted = [wanted[key] for key in ("mAP", "threshold", *metrics.RATES)] + wanted["AP"].tolist()
        values = [np.nan if value is None else value for value in values]
        np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-9, err_msg=str(protocol))


@node
def test_javascript_intervals_and_p_are_pythons_but_for_the_draws(built):
    runs = built[1]
    logits = {model: np.stack([run.logits["last"] for run in each]) for model, each in runs.items()}
    marks = runs["gmp"][0].targets
    given = {"models": [each.reshape(2, -1).tolist() for each in logits.values()], "targets": marks.ravel().tolist()}
    script = """
    const models = given.models.map(runs => runs.map(run => {
      const logits = Float32Array.from(run);
      return { logits, orders: scores.ranked(logits, 5) };
    }));
    const drawn = new scores.Bootstrap(models, Int8Array.from(given.targets), 5, scores.DEFAULT);
    drawn.draw(4000);
    console.log(JSON.stringify([drawn.interval(0), drawn.interval(1), drawn.p(0, 1)]));"""
    *intervals, p = asked(script, given)
    for interval, each in zip(intervals, logits.values(), strict=True):
        np.testing.assert_allclose(interval, resampling.bootstrap(each, marks, draws=4000), atol=0.005)
    assert p == pytest.approx(resampling.paired_bootstrap(logits["gmp"], logits["msrn"], marks, draws=4000).p, abs=0.01)


def test_every_link_leads_somewhere_and_no_page_needs_a_network(built):
    folder = built[0]
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            file, _, mark = link.partition("#")
            if link.startswith("data:") or link.startswith("http") and path.parent.name == "docs":
                continue
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            if mark and "=" not in mark.removeprefix("cell-id="):
                assert f'id="{mark}"' in target.read_text(encoding="utf-8"), f"{path.name}: {link}"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10e6


def test_the_front_page_answers_by_the_strongest_contest_and_has_a_card_for_each_other_experiment(built, tmp_path):
    text = (built[0] / "index.html").read_text(encoding="utf-8")
    assert re.search(r"MSRN has the highest mAP, [\d.]+ % \(95 % interval [\d.]+ to [\d.]+\): shown to be better", text)
    assert "Scenes &amp; &lt;things&gt;" in text and "2 models, 24 test images, 2 seeds" in text
    assert text.count("demo/figures/leaderboard.png") == 1 and "No other has results" in text
    shutil.copytree(built[0].parent / "results", tmp_path / "results")
    for name, figures in {"first": ("tuning",), "second": ("leaderboard", "learning_curves")}.items():
        (tmp_path / "results" / name / "figures").mkdir(parents=True)
        (tmp_path / "results" / name / "README.md").write_text(f"# The {name} question\n")
        for figure in figures:
            (tmp_path / "results" / name / "figures" / f"{figure}.png").touch()
    site.build(tmp_path / "results", tmp_path / "site")
    cards = (tmp_path / "site" / "index.html").read_text(encoding="utf-8").partition("<h2>Experiments")[2]
    assert re.findall(r"(\w+)/figures/(\w+)", cards) == [("first", "tuning"), ("second", "learning_curves")]
    assert "The second question" in cards and "Scenes" not in cards


@pytest.mark.parametrize(
    "ties, end",
    [
        (["a", "b", "b"], "2 of 2 others."),
        (["a", "ab", "b"], "1 of 2 others, all but GMP."),
        (["ab", "a", "b"], "0 of 2 others."),
    ],
)
def test_the_answer_counts_the_models_that_share_no_letter_with_the_leader(ties, end):
    board = pd.DataFrame({"model": ["msrn", "gmp", "dsdl"], "mAP": 70.0, "mAP low": 69, "mAP high": 71, "ties": ties})
    answer = site.pages.answer(board)
    assert answer == f"MSRN has the highest mAP, 70.0 % (95 % interval 69.0 to 71.0): shown to be better than {end}"
    assert site.pages.answer(board.replace("msrn", "linear")).startswith(
        "The linear baseline has the highest mAP, 70.0 %"
    )


def test_the_page_of_an_experiment_has_its_tables_jobs_times_configuration_notebooks_and_runs(built):
    text = (built[0] / "demo.html").read_text(encoding="utf-8")
    assert "1 of 3 jobs were still to run" in text and "it has not run" in text
    assert "2 min" in text and "1.5 GB" in text and "epochs: 7" in text and "<li>A note.</li>" in text
    assert '<a href="demo/02_train-gmp.html">02_train-gmp</a>' in text and "#cell-id=shown" in text
    assert "All 4 runs that it trained" in text
    assert (built[0] / "runs/scenes/msrn-0a1b2c3d/seed-1/run.yaml").exists()
    section = text[text.index('id="table-per_class"') :]
    assert "demo/figures/per_class.png" in section[: section.index("</section>")]
    figures = text[text.index('id="figures"') :]
    assert "samples.png" in figures and "per_class.png" not in figures


def test_an_executed_notebook_is_a_page_with_its_figures_and_findings(built):
    text = (built[0] / "demo" / "02_train-gmp.html").read_text(encoding="utf-8")
    (name,) = re.findall('<img [^>]*src="([^"]+)"', text)
    with Image.open(built[0] / "demo" / name) as picture:
        assert picture.size == (9, 7)
    assert "<pre>42</pre>" in text and "<strong>Finding.</strong> gmp &lt; *msrn*" in text


def test_pages_of_an_experiment_that_is_gone_are_removed_and_nothing_else(tmp_path):
    results, out = tmp_path / "results", tmp_path / "site"
    runs = {"gmp": [make(results, "gmp", data="folder")]}
    for name in ("demo", "other"):
        performance.scores_table(runs).write(results / name / "tables")
        (results / name / "README.md").write_text(f"# {name}\n\n## Tables\n")
    site.build(results, out)
    (out / "mine.html").write_text("not of any build")
    assert (out / "other.html").exists() and (out / "other" / "tables" / "scores.csv").exists()
    shutil.rmtree(results / "other")
    site.build(results, out)
    assert not (out / "other.html").exists() and not (out / "other").exists()
    assert (out / "demo.html").exists() and (out / "demo" / "tables" / "scores.csv").exists()
    assert (out / "mine.html").exists()
    assert "other.html" not in (out / "index.html").read_text(encoding="utf-8")


def test_an_experiment_that_never_ended_has_a_page_of_its_jobs(tmp_path):
    (tmp_path / "results" / "demo").mkdir(parents=True)
    reproduced(tmp_path / "results" / "demo")
    site.build(tmp_path / "results", tmp_path / "site")
    text = (tmp_path / "site" / "demo.html").read_text(encoding="utf-8")
    assert "Scenes &amp; &lt;things&gt;" in text and "1 of 3 jobs were still to run" in text


def test_the_ledger_states_what_the_published_tables_state_and_who_measured_it(built):
    text = (built[0] / "papers.html").read_text(encoding="utf-8")
    for figure in ("96.0", "94.8", "83.4", "61.5", "94.4", "93.2", "81.7", "93.6", "95.8", "95.0"):
        assert f">{figure}<" in text
    assert "make reproduce EXPERIMENT=voc2007-coco" in text and "a finished run of coco2014" in text
    assert (
        text.count("<td>independent</td>") == 4
        and "<td>authors</td>" in text
        and "<td>here</td>" in text
        and "all scores on apparel" in text
    )


@pytest.fixture
def page(tmp_path):
    with chrome.Chrome(tmp_path / "profile") as page:
        page.call("Page.enable")
        page.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.wrong = []; addEventListener('error', e => wrong.push(e.message || e.target.src), true)",
        )
        yield page


def opened(page, folder, path):
    page.call("Page.navigate", url=f"{folder.as_uri()}/{path}")
    chrome.wait(lambda: page.evaluate("document.readyState === 'complete' && location.protocol === 'file:'"), path)


def click(page, selector):
    chrome.wait(lambda: page.evaluate(f"!!document.querySelector({json.dumps(selector)})"), selector)
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


@browser
def test_three_clicks_lead_from_the_front_page_to_the_picture_behind_a_wrong_decision(built, page):
    opened(page, built[0], "index.html")
    click(page, "summary")
    click(page, "tbody a[href*='model=gmp']")
    click(page, "dialog .strip a.miss")
    chrome.wait(lambda: page.evaluate("document.querySelector('dialog img.big')?.naturalWidth === 256"), "the picture")
    assert page.evaluate("[...document.querySelectorAll('dialog .miss-mark')].length > 0")
    assert page.evaluate("wrong") == []


@browser
def test_the_protocol_switch_scores_as_python_and_lights_up_ranks(built, page):
    folder, runs = built
    opened(page, folder, "demo.html")
    for protocol in PROTOCOLS[::5]:
        sweep = protocol["threshold"] == "sweep"
        values = {"ap": protocol["ap"], "difficult": protocol["difficult"], "top": protocol["top"] or 0}
        values |= {"sweep": "sweep" if sweep else "", "threshold": "0" if sweep else protocol["threshold"]}
        page.evaluate(f"Object.entries({json.dumps(values)}).forEach(([k, v]) => live.form[k].value = v)")
        page.evaluate("live.form.dispatchEvent(new Event('input'))")
        shown = page.evaluate("document.querySelector('#scores [data-model=msrn] td').textContent")
        each = [metrics.evaluate(run.logits["last"], run.targets, **protocol)["mAP"] for run in runs["msrn"]]
        assert shown.startswith(f"{100 * np.mean(each):.1f} ± "), protocol
    page.evaluate("live.standard = { gmp: live.scores.msrn, msrn: live.scores.gmp }")
    page.evaluate("live.data.draws = 1e9; live.switched()")
    assert page.evaluate("document.querySelectorAll('#scores tr.moved').length") == 2
    text = "document.getElementById('draws').textContent"
    chrome.wait(lambda: "are still being drawn" in page.evaluate(text), "the first draws")
    assert page.evaluate("document.querySelector('#scores.drawing td[id^=interval]').textContent").endswith("…")
    page.evaluate("live.data.draws = 1000")
    chrome.wait(lambda: "paired draws" in page.evaluate(text), "all draws")
    assert page.evaluate("document.getElementById('drawn').hidden") and page.evaluate("wrong") == []


@browser
def test_no_page_is_wider_than_its_window_all_is_named_and_axe_finds_no_serious_fault(built, page):
    page.call("Page.addScriptToEvaluateOnNewDocument", source=AXE.read_text(encoding="utf-8"))
    nameless = """[...document.querySelectorAll("a, button, img, select, input, [role], dialog")]
      .filter(e => !(e.textContent.trim() || e.alt || e.ariaLabel || e.closest("label, a") ||
        e.getAttribute("aria-labelledby") || e.getAttribute("role") === "status")).map(e => e.outerHTML)"""
    axe = """axe.run(document.querySelector("dialog[open]") ?? document, { resultTypes: ["violations"] })
      .then(found => found.violations.filter(one => ["serious", "critical"].includes(one.impact))
      .flatMap(one => one.nodes.map(node => [one.id, one.help, node.html])))"""
    for path in KINDS:
        for scheme in ("light", "dark"):
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            opened(page, built[0], path)
            chrome.wait(lambda: page.evaluate("!location.hash || document.querySelector('dialog').open"), path)
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
            assert page.evaluate(axe) == [], f"{path}, {scheme}"
        for width in (400, 800, 1400):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} at {width} px"
        assert page.evaluate(nameless) == [], path
        assert page.evaluate("document.querySelectorAll('main, h1').length") == 2, path
        assert page.evaluate("wrong") == [], path
