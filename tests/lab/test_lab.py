"""04_attention in a real JupyterLab: all its cells run, and the explorer's picture follows its slider."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]

chrome = pytest.importorskip("chrome", reason="the package websocket-client is not installed")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(chrome.executable() is None, reason="no Chromium or Chrome is installed"),
]

ROW = "document.querySelector('.widget-slider .widget-readout')"
PICTURE = "document.querySelector('img.widget-image')"


@pytest.fixture
def lab(tiny_study, tiny_yaml, tmp_path):
    """The address of a JupyterLab server on a folder with 04_attention, set to the tiny experiment."""
    notebook = nbformat.read(ROOT / "notebooks" / "04_attention.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = cell.source.replace('"demo"', repr(str(tiny_yaml))).replace(
        '"results"', repr(str(tiny_study.results))
    )
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "04_attention.ipynb")
    with chrome.jupyterlab(tmp_path) as address:
        yield address.format("notebooks/04_attention.ipynb")


def test_all_cells_run_and_the_picture_follows_the_slider(lab, tmp_path):
    with chrome.Chrome(tmp_path / "profile") as page:
        page.call("Page.navigate", url=lab)
        chrome.wait(
            lambda: page.evaluate(f"{chrome.PANEL}?.sessionContext.session?.kernel?.status == 'idle'"), "a kernel", 120
        )
        page.evaluate(f"window.jupyterapp.shell.activateById({chrome.PANEL}.id)")
        ran = page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        errors = page.evaluate(
            f"{chrome.PANEL}.content.widgets.map(cell => cell.node.innerText).filter(t => t.includes('Traceback'))"
        )
        assert ran and not errors, errors
        chrome.wait(lambda: page.evaluate(f"{PICTURE}?.naturalWidth > 500"), "the explorer's picture")

        before, row = page.evaluate(f"{PICTURE}.src"), page.evaluate(f"{ROW}.textContent")
        page.evaluate("document.querySelector('.noUi-handle').focus()")
        page.press("ArrowRight", 39)
        chrome.wait(lambda: page.evaluate(f"{ROW}.textContent") != row, "the slider to move")
        chrome.wait(lambda: page.evaluate(f"{PICTURE}.src") != before, "the picture to change")
        chrome.wait(lambda: page.evaluate(f"{PICTURE}.naturalWidth > 500"), "the new picture")
