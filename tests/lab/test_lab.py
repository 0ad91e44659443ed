"""04_attention in a real JupyterLab: all its cells run, and the explorer's picture follows its slider."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]

chrome = pytest.importorskip("chrome", reason="the package websocket-client is not installed")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(chrome.executable() is None, reason="no Chromium or Chrome is installed"),
]

PICTURE = "document.querySelector('img.widget-image')"


@pytest.fixture
def lab(tiny_study, tiny_yaml, tmp_path):
    """The address of a JupyterLab server on a folder with 04_attention, set to the tiny experiment."""
    notebook = nbformat.read(ROOT / "notebooks" / "04_attention.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = f'experiment = {str(tiny_yaml)!r}\nmodel = "msrn"\nlabels = ""\ndata = ""\nresults = {str(tiny_study.results)!r}'
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "04_attention.ipynb")
    with open(tmp_path / "log.txt", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root",
             "--IdentityProvider.token=tiny", "--expose-app-in-browser", f"--notebook-dir={tmp_path}"],
            stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")},
        )  # fmt: skip
        try:
            info = chrome.wait(
                lambda: next((tmp_path / "runtime").glob("jpserver-*.json"), None), "the server to start"
            )
            port = chrome.wait(lambda: __import__("json").loads(info.read_text())["port"], "the server's port")
            address = f"http://127.0.0.1:{port}"
            chrome.wait(lambda: urllib.request.urlopen(f"{address}/api/status?token=tiny"), "the server to answer")
            yield f"{address}/lab/tree/notebooks/04_attention.ipynb?token=tiny"
        finally:
            server.terminate()
            server.wait(30)


def test_all_cells_run_and_the_picture_follows_the_slider(lab, tmp_path):
    with chrome.Chrome(tmp_path / "profile") as page:
        page.call("Page.navigate", url=lab)
        ready = "window.jupyterapp && document.querySelectorAll('.jp-NotebookPanel .jp-Cell').length > 3"
        chrome.wait(lambda: page.evaluate(f"Boolean({ready})"), "the notebook to open", 120)
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status == 'idle'"
        chrome.wait(lambda: page.evaluate(kernel), "the kernel", 120)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => 1)")
        assert page.evaluate("document.querySelectorAll('.jp-OutputArea-output[data-mime-type*=error]').length") == 0
        chrome.wait(lambda: page.evaluate(f"Boolean({PICTURE}?.naturalWidth)"), "the explorer's picture", 120)

        before = page.evaluate(f"{PICTURE}.src")
        label = page.evaluate("document.querySelector('.widget-readout').textContent")
        page.evaluate("document.querySelector('.noUi-handle').focus()")
        page.press("ArrowRight", 39)
        moved = "document.querySelector('.widget-readout').textContent"
        chrome.wait(lambda: page.evaluate(moved) != label, "the slider to move")
        chrome.wait(lambda: page.evaluate(f"{PICTURE}.src") != before, "the picture to change")
        assert page.evaluate(f"{PICTURE}.naturalWidth") > 500
