"""A headless Chromium, spoken to over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol), and a
JupyterLab to open in it."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websocket import create_connection

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# In JupyterLab's page: the notebook that is open.
PANEL = "[...(window.jupyterapp?.shell.widgets('main') ?? [])].find(widget => widget.sessionContext)"


def executable() -> str | None:
    """The installed browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chrome:
    """One page of a headless browser; a context manager."""

    def __init__(self, profile: Path):
        self.profile, self.number = profile, 0
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-port=0", "--remote-allow-origins=*", "--window-size=1400,1800"]
        self.process = subprocess.Popen(
            [executable(), *options, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> "Chrome":
        port = wait(lambda: (self.profile / "DevToolsActivePort").read_text().split()[0], "the browser to start")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        self.socket = create_connection(page["webSocketDebuggerUrl"], timeout=300)
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)

    def call(self, method: str, **parameters: object) -> dict:
        """One command of the protocol and its result; events in between are left aside."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def evaluate(self, script: str) -> object:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result.get("exceptionDetails")
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key pressed and let go where the focus is."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, width: int, height: int) -> bytes:
        """A PNG of what a window of this size shows."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(2)  # until it is laid out anew
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """A JupyterLab server on `folder`, in which its runtime files and its log lie; the address of notebook `{}`."""
    runtime = folder / "runtime"
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root",
             "--IdentityProvider.token=tiny", "--expose-app-in-browser", f"--notebook-dir={folder}"],
            stdout=log, stderr=log, cwd=folder, env={**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime)},
        )  # fmt: skip
        try:
            info = wait(lambda: next(runtime.glob("jpserver-*.json"), None), "the server to start")
            port = wait(lambda: json.loads(info.read_text())["port"], "the server's port")
            address = f"http://127.0.0.1:{port}"
            wait(lambda: urllib.request.urlopen(f"{address}/api/status?token=tiny"), "the server to answer")
            yield address + "/lab/tree/{}?token=tiny"
        finally:
            server.terminate()
            server.wait(30)


def wait(what, name: str, seconds: float = 60):
    """What `what` returns once that is true; an error before then is waited out as well."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if value := what():
                return value
        except (OSError, AssertionError, IndexError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {name} ({last})")
