"""The site: its pages need no network, a number opens what it is made of, and the browser scores as Python does."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
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
from mlclib.metrics import resampling as significance
from mlclib.metrics import scores as metrics
from mlclib.results import notebook
from mlclib.results import scores as performance
from mlclib.runs import plan
from mlclib.runs.plan import Job

sys.path.insert(0, str(Path(__file__).parent / "lab"))
chrome = pytest.importorskip("chrome", reason="the package websocket-client is not installed")
browser = pytest.mark.skipif(chrome.executable() is None, reason="no Chromium is installed (apt-get install chromium)")
node = pytest.mark.skipif(shutil.which("node") is None, reason="no node is installed, which runs the site's JavaScript")

AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
DIALOGS = [
    "demo.html#model=msrn&score=mAP",
    "demo.html#model=msrn&label=dog",
    "demo.html#model=gmp&image=000003&seed=0",
]
KINDS = ["index.html", "demo.html", *DIALOGS, "demo/02_train-gmp.html", "papers.html", "models.html", "run.html"]
PROTOCOLS = [
    {"ap": ap, "difficult": difficult, "threshold": threshold, "top": top}
    for ap in metrics.APS
    for difficult in ("ignore", "absent")
    for threshold in (0.0, 0.3, "sweep")
    for top in (None, 3)
]


@dataclass
class Made:
    """An experiment, as far as the site shows it."""

    name: str
    title: str
    notes: tuple[str, ...]
    training: dict[str, int]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The site of one experiment of two models, two seeds each, on 24 scenes; its folder, and the runs."""
    folder, marks = tmp_path_factory.mktemp("site"), targets()[:24]
    results = folder / "results"
    runs = {
        model: [make(results, model, s, g, marks=marks) for s in (0, 1)] for model, g in (("gmp", 0.3), ("msrn", 1))
    }
    for table in (performance.scores_table(runs), performance.per_class_table(runs)):
        table.write(results / "demo" / "tables")
    (results / "demo" / "README.md").write_text("# Scenes & <things>\n\n- A note.\n\nMade by `make`\n\n## Tables\n")
    reproduced(results / "demo")
    site.build(results, folder / "site")
    return folder / "site", runs


def reproduced(folder):
    """What `reproduce` leaves of two jobs that ran and one that has yet to: a notebook, its times, the experiment."""
    jobs = [Job("train gmp seed 0", ("run",)), Job("02_train-gmp", ("stage",), ("train gmp seed 0",)),
            Job("page", ("report",), ("02_train-gmp",), 1, ("it has not run",))]  # fmt: skip
    experiment = Made("demo", "Scenes & <things>", ("A note.",), {"epochs": 7})
    plan.keep(SimpleNamespace(experiment=experiment, folder=folder), jobs)
    cell = nbformat.v4.new_code_cell("6 * 7", outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "42"})])
    drawn = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(drawn, "png")
    png = {"image/png": base64.b64encode(drawn.getvalue()).decode() + "\n"}
    cell.outputs.append(nbformat.v4.new_output("display_data", png))
    table = {"text/markdown": "### Scores\n\n| mAP |\n| ---: |\n| 71.4≈ |\n\nIn percent. By seed.\n\n≈ Within noise."}
    cell.outputs.append(nbformat.v4.new_output("display_data", table))
    finding = {"text/markdown": notebook.finding("gmp < *msrn*").data}
    cell.outputs.append(nbformat.v4.new_output("display_data", finding))
    framed = {"text/html": pd.DataFrame({"mAP": [71.4]}).to_html()}  # its corner is an empty head
    cell.outputs.append(nbformat.v4.new_output("display_data", framed))
    (folder / "notebooks").mkdir()
    cells = [nbformat.v4.new_markdown_cell("# How well does it learn?"), cell]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "02_train-gmp.ipynb")
    (folder / "times" / "train").mkdir(parents=True)
    (folder / "times" / "train" / "train_gmp_seed_0.tsv").write_text("s\tmax_rss\n123\t1500\n")


def asked(script, given):
    """What JavaScript that sees scores.js as `scores` and `given` prints as JSON."""
    path = json.dumps(str(site.HERE / "scores.js"))
    code = f"const scores = require({path}), given = JSON.parse(require('fs').readFileSync(0)); {script}"
    done = subprocess.run(["node", "-e", code], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def tied(seed=0, images=60, labels=9):
    """float32 logits with many ties, and targets with difficult ones and a label without a positive."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(images, labels)), 1).astype(np.float32)
    marks = rng.choice([-1, -1, 0, 1], size=logits.shape).astype(np.int8)
    marks[:, 2] = -1
    return logits, marks


@node
def test_javascript_scores_as_python_under_every_protocol():
    logits, marks = tied()
    given = {"logits": logits.ravel().tolist(), "targets": marks.ravel().tolist(), "labels": 9, "protocols": PROTOCOLS}
    script = """
    const logits = Float32Array.from(given.logits), targets = Int8Array.from(given.targets);
    console.log(JSON.stringify(given.protocols.map(p => {
      const found = scores.evaluate(logits, targets, given.labels, p);
      return ["mAP", "threshold", ...scores.RATES].map(key => found[key]).concat(found.AP);
    })));"""
    for protocol, found in zip(PROTOCOLS, asked(script, given), strict=True):
        wanted = metrics.evaluate(logits, marks, **protocol)
        wanted = [wanted[key] for key in ("mAP", "threshold", *metrics.RATES)] + wanted["AP"].tolist()
        found = [np.nan if value is None else value for value in found]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9, err_msg=str(protocol))


@node
def test_javascript_intervals_and_p_are_pythons_but_for_the_draws(made):
    runs = made[1]
    logits = {model: np.stack([run.logits["last"] for run in each]) for model, each in runs.items()}
    marks = runs["gmp"][0].targets
    given = {"models": [each.reshape(2, -1).tolist() for each in logits.values()], "targets": marks.ravel().tolist()}
    script = """
    const models = given.models.map(runs => runs.map(run => {
      const logits = Float32Array.from(run);
      return { logits, orders: scores.ranked(logits, 5) };
    }));
    const found = new scores.Bootstrap(models, Int8Array.from(given.targets), 5, scores.DEFAULT);
    found.draw(4000);
    console.log(JSON.stringify([found.interval(0), found.interval(1), found.p(0, 1)]));"""
    *intervals, p = asked(script, given)
    for interval, each in zip(intervals, logits.values(), strict=True):
        np.testing.assert_allclose(interval, significance.bootstrap(each, marks, draws=4000), atol=0.015)
    wanted = significance.paired(logits["gmp"], logits["msrn"], marks, draws=4000).p
    assert p == pytest.approx(wanted, abs=0.01)


def test_every_link_holds_and_no_page_needs_a_network(made):
    folder = made[0]
    pages = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    assert {"index.html", "demo.html", "papers.html", "models.html", "run.html"} <= {path.name for path in pages}
    for path, text in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            file, _, mark = link.partition("#")
            if link.startswith("data:"):
                continue
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            if mark and "=" not in mark:
                assert f'id="{mark}"' in target.read_text(encoding="utf-8"), f"{path.name}: {link}"
        assert "Scenes &amp; &lt;things&gt;" in text or path.stem in ("papers", "models", "run")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10e6


def test_the_page_of_an_experiment_has_its_jobs_times_configuration_notebooks_and_runs(made):
    text = (made[0] / "demo.html").read_text(encoding="utf-8")
    assert "1 of 3 jobs are still to run." in text and "it has not run" in text
    assert 'aria-label="train gmp: up to date, 2 min; 02_train: up to date; page: to run"' in text
    assert text.count('<path d="M') == 2  # train -> notebook -> page
    assert '<a href="demo/02_train-gmp.html">02_train-gmp</a>' in text
    assert "epochs: 7" in text and "<li>A note.</li>" in text
    assert "1.5 GB" in text and "All 4 runs that it trained" in text
    assert (made[0] / "demo/runs/scenes/msrn-0a1b2c3d/seed-1/run.yaml").exists()


def test_an_executed_notebook_is_a_page_with_its_figures_and_findings(made):
    text = (made[0] / "demo" / "02_train-gmp.html").read_text(encoding="utf-8")
    (name,) = re.findall('<img [^>]*src="([^"]+)"', text)
    with Image.open(made[0] / "demo" / name) as picture:
        assert picture.size == (9, 7) and picture.format == "WEBP"
    assert re.search("<summary><p>In percent.</p>\\s*</summary><p>By seed.</p>\\s*<p>≈ Within noise.</p>", text)
    assert "<pre>42</pre>" in text and "<strong>Finding.</strong> gmp &lt; *msrn*" in text


def test_pages_of_an_experiment_that_is_gone_are_removed_and_nothing_else(tmp_path):
    results, out = tmp_path / "results", tmp_path / "site"
    runs = {"gmp": [make(results, "gmp")]}
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
    assert "Scenes &amp; &lt;things&gt;" in text and "1 of 3 jobs are still to run." in text


def test_the_ledger_states_what_the_published_tables_state(made):
    text = (made[0] / "papers.html").read_text(encoding="utf-8")
    for figure in ("96.0", "83.4", "61.5", "94.4", "93.2", "81.7"):
        assert f">{figure}<" in text
    assert "make reproduce EXPERIMENT=voc2007-coco DATA=data/voc2007" in text
    assert "a finished run of the experiment coco2014; a download of voc2007" in text
    assert "all scores on apparel" in text and "all scores on voc2007" in text and "a GPU for about 14 hours" in text


@pytest.fixture
def page(made, tmp_path):
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
    """A click by the mouse's own event on the element, which must be in sight."""
    chrome.wait(lambda: page.evaluate(f"!!document.querySelector({json.dumps(selector)})"), selector)
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


@browser
def test_three_clicks_lead_from_the_front_page_to_the_picture_behind_a_wrong_decision(made, page):
    opened(page, made[0], "index.html")
    click(page, "tbody a[href*='model=gmp']")
    click(page, "dialog tbody a")  # the hardest label
    click(page, "dialog .strip a.miss")
    chrome.wait(lambda: page.evaluate("document.querySelector('dialog img.big')?.naturalWidth === 256"), "the picture")
    assert page.evaluate("[...document.querySelectorAll('dialog .miss-mark')].length > 0")
    assert page.evaluate("wrong") == []


@browser
def test_the_protocol_switch_scores_as_python_and_lights_up_ranks(made, page):
    folder, runs = made
    opened(page, folder, "demo.html")
    for protocol in PROTOCOLS:
        values = {
            "ap": protocol["ap"],
            "difficult": protocol["difficult"],
            "sweep": "sweep" if protocol["threshold"] == "sweep" else "",
            "threshold": "0" if protocol["threshold"] == "sweep" else protocol["threshold"],
            "top": protocol["top"] or 0,
        }
        page.evaluate(f"Object.entries({json.dumps(values)}).forEach(([k, v]) => live.form[k].value = v)")
        page.evaluate("live.form.dispatchEvent(new Event('input'))")
        for model, each in runs.items():
            for at, run in enumerate(each):
                wanted = metrics.evaluate(run.logits["last"], run.targets, **protocol)
                found = page.evaluate(f"(f => [f.mAP, f.CF1, f.OF1, f.threshold])(live.found['{model}'][{at}])")
                wanted = [wanted[key] for key in ("mAP", "CF1", "OF1", "threshold")]
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9, err_msg=str(protocol))
    shown = page.evaluate("document.querySelector('#scores [data-model=msrn] td').textContent")
    last = [metrics.evaluate(run.logits["last"], run.targets, **PROTOCOLS[-1])["mAP"] for run in runs["msrn"]]
    assert shown.startswith(f"{100 * np.mean(last):.1f} ± ")
    page.evaluate("live.standard = { gmp: live.found.msrn, msrn: live.found.gmp }; live.switched()")
    assert page.evaluate("document.querySelectorAll('#scores tr.moved').length") == 2
    chrome.wait(
        lambda: page.evaluate("document.getElementById('said').textContent.includes('1000 paired draws')"), "all"
    )
    assert page.evaluate("wrong") == []


@browser
@pytest.mark.parametrize("path", KINDS)
def test_no_page_is_wider_than_its_window_and_all_is_named(made, page, path):
    opened(page, made[0], path)
    for width in (400, 800, 1400):
        mobile = width < 500
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    nameless = """[...document.querySelectorAll("a, button, img, select, input, [role], dialog")]
      .filter(e => !(e.textContent.trim() || e.alt || e.ariaLabel || e.closest("label") ||
        e.getAttribute("aria-labelledby") || e.getAttribute("role") === "status")).map(e => e.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.evaluate(
        "document.querySelectorAll('main').length === 1 && document.querySelectorAll('h1').length === 1"
    )
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("wrong") == []


@browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_any_page(made, page, scheme):
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.call("Page.addScriptToEvaluateOnNewDocument", source=AXE.read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"]} | ({"runOnly": ["color-contrast"]} if scheme == "dark" else {})
    run = f"""axe.run(document.querySelector("dialog[open]") ?? document, {json.dumps(options)})
      .then(found => found.violations.filter(one => ["serious", "critical"].includes(one.impact))
      .flatMap(one => one.nodes.map(node => [one.id, one.help, node.html])))"""
    found = []
    for path in KINDS:
        opened(page, made[0], path)
        chrome.wait(lambda: page.evaluate("!location.hash || document.querySelector('dialog').open"), path)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        found += [f"{rule} ({words}) on {path}: {element}" for rule, words, element in page.evaluate(run)]
    assert not found, "\n".join(found)
