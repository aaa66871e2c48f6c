"""A real browser for tests, and JupyterLab in it."""

import contextlib
import json
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


@contextlib.contextmanager
def browser() -> Iterator:
    """Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextlib.contextmanager
def jupyterlab(folder: Path, **environment: str) -> Iterator[str]:
    """JupyterLab in a folder, without a token; the address of its page."""
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
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):
                url = json.loads(path.read_text())["url"]
                urllib.request.urlopen(f"{url}api/status").close()
                return f"{url}lab?reset"
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


def run_all(page, path: str) -> dict:
    """Open a notebook in JupyterLab, which the page shows, and run all its cells; the notebook after that."""
    return page.evaluate(
        """async path => {
            const app = window.jupyterapp
            const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'})
            await panel.context.ready
            await panel.sessionContext.ready
            await app.commands.execute('runmenu:run-all')
            return panel.content.model.toJSON()
        }""",
        path,
    )


def too_wide(page) -> list[str]:
    """What the outputs say that do not fit the width of the page."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.jp-OutputArea-output')]
            .filter(one => one.scrollWidth > one.clientWidth + 1)
            .map(one => one.textContent.slice(0, 200))"""
    )


def close(page) -> None:
    """Close the notebook and end its kernel."""
    page.evaluate(
        """async () => {
            const panel = window.jupyterapp.shell.currentWidget
            await panel.sessionContext.shutdown()
            panel.context.model.dirty = false
            panel.dispose()
        }"""
    )


def outputs(notebook: dict, kind: str) -> list[str]:
    """The texts of all outputs of a kind: "error", "stdout" or "stderr"."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = [
        out for cell in cells for out in cell["outputs"] if kind in (out["output_type"], out.get("name"))
    ]
    return ["".join(out.get("text") or out.get("traceback")) for out in found]
