"""Take README.md's pictures anew, from the results on this disk: `.venv/bin/python docs/pictures/retake.py`.

notebook.png: 03_ablation of the demo in JupyterLab, where it shows what a paired difference is. site.png: the front
page of the site. `make reproduce` makes both; a Chromium or Chrome is needed.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tests" / "lab"))

import chrome  # noqa: E402

NOTEBOOK = ROOT / "results" / "demo" / "notebooks" / "03_ablation-msrn-layers.ipynb"
CELLS = f"{chrome.PANEL}?.content.widgets ?? []"
CELL = f"({CELLS}).find(cell => cell.model.id == '03-ablation-by-hand-code')"


def save(name: str, picture: bytes) -> None:
    """Write a PNG in 256 colours, a third of its size."""
    Image.open(io.BytesIO(picture)).convert("RGB").quantize().save(HERE / name, optimize=True)


with tempfile.TemporaryDirectory() as folder:
    shutil.copy(NOTEBOOK, folder)
    with chrome.jupyterlab(Path(folder)) as address, chrome.Chrome(Path(folder) / "profile") as page:
        page.call("Page.navigate", url=(ROOT / "site" / "index.html").as_uri())
        chrome.wait(lambda: page.evaluate("document.readyState == 'complete'"), "the site")
        save("site.png", page.screenshot(1280, 860))

        page.call("Page.navigate", url=address.format(NOTEBOOK.name))
        chrome.wait(lambda: page.evaluate(f"{CELL}?.node.isConnected"), "the notebook", 120)
        page.evaluate("window.jupyterapp.shell.collapseLeft()")
        page.screenshot(1280, 1080)  # lays it out in its final size; then "No" is said to Jupyter's news
        page.evaluate("[...document.querySelectorAll('button')].find(each => each.innerText == 'No')?.click()")
        page.evaluate(f"{chrome.PANEL}.content.scrollToCell({CELL}, 'end')")
        save("notebook.png", page.screenshot(1280, 1080))
