"""A real browser for tests, and JupyterLab in it."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"
)
# A page so high that JupyterLab, which renders what is in sight, renders all of a notebook.
WINDOW = dict(width=1280, height=9000)
TOO_WIDE = """() => [...document.querySelectorAll('.jp-OutputArea-output, .jp-MarkdownOutput')]
    .filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => one.textContent.slice(0, 200))"""


@contextlib.contextmanager
def browser() -> Iterator:
    """Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextlib.contextmanager
def jupyterlab(folder: Path, **environment: str) -> Iterator[str]:
    """JupyterLab in a folder, without a token; its address."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += ["--port=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    env = os.environ | dict(JUPYTER_RUNTIME_DIR=str(folder / ".runtime"), PYTHONPATH=str(folder))
    env |= dict(JUPYTER_CONFIG_DIR=str(folder / ".jupyter"), IPYTHONDIR=str(folder / ".ipython"))
    log = folder / "lab.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=env | environment, stdout=file, stderr=file)
    try:
        yield _address(folder / ".runtime", process, log)
    finally:
        process.terminate()
        process.wait()


def _address(runtime: Path, process: subprocess.Popen, log: Path) -> str:
    """Waits until the server answers."""
    import json

    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):
                url = json.loads(path.read_text())["url"]
                urllib.request.urlopen(f"{url}api/status").close()
                return url
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


def run_all(page, url: str, path: str, seconds: float = 300) -> dict:
    """Open a notebook, run all its cells and wait for the end; the notebook as it is then."""
    page.set_default_timeout(1000 * seconds)
    page.goto(f"{url}doc/tree/{path}?reset")
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate(
        """async () => {
            await jupyterapp.shell.currentWidget.sessionContext.ready
            await jupyterapp.commands.execute('runmenu:run-all')
        }"""
    )
    return page.evaluate("() => jupyterapp.shell.currentWidget.content.model.toJSON()")


def outputs(notebook: dict, kind: str) -> list[str]:
    """The texts of all outputs of a kind: "error", "stdout" or "stderr"."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = [out for cell in cells for out in cell["outputs"] if kind in (out["output_type"], out.get("name"))]
    return ["".join(out.get("text") or out.get("traceback")) for out in found]
