"""How long the site's switch of the protocol takes: `python -m benchmarks.site`.

On the demo's page in headless Chromium: a change of the form until all is scored and laid out anew. Its intervals and p
follow in pieces, while the page stays awake, and are not counted.
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from mlclib import site
from mlclib.common.sources import ROOT

sys.path.insert(0, str(ROOT / "tests" / "lab"))
import chrome

SWITCHES = [
    {"ap": "envelope"}, {"ap": "11-point"}, {"ap": "ranks"}, {"difficult": "absent"}, {"difficult": "ignore"},
    {"sweep": "sweep"}, {"top": "3"}, {"sweep": ""}, {"top": "always"}, {"top": "0"},
]  # fmt: skip
# Reading a height makes the browser lay the page out before it answers.
SWITCH = """(chosen => {
  Object.entries(chosen).forEach(([key, value]) => { live.form[key].value = value; });
  const start = performance.now();
  live.form.dispatchEvent(new Event("input"));
  document.body.offsetHeight;
  return (performance.now() - start) / 1000;
})"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chrome.Chrome(Path(folder) / "profile") as page:
        front = site.build("results", Path(folder) / "site")
        page.call("Page.navigate", url=front.with_name("demo.html").as_uri())
        chrome.wait(lambda: page.evaluate("document.readyState === 'complete' && !!window.live"), "the demo's page")
        seconds = max(page.evaluate(f"{SWITCH}({json.dumps(chosen)})") for chosen in SWITCHES)
        size = page.evaluate("`${live.data.names.length} x ${live.C}, ${live.models.length} models`")
    row = {"name": "site, switch of the protocol", "value": seconds, "unit": "s"}
    print(report.write([row | {"detail": f"the slowest of {len(SWITCHES)} changes, {size}"}]))


if __name__ == "__main__":
    main()
