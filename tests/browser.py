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

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"
)
# So high that JupyterLab, which renders what is in sight, renders all of a notebook.
WINDOW = dict(width=1280, height=6000)


@contextlib.contextmanager
def chromium() -> Iterator:
    """Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextlib.contextmanager
def jupyterlab(folder: Path, settings: Path) -> Iterator[str]:
    """JupyterLab in a folder, without a token, nor a user's settings; the address of its page."""
    flags = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    command = [sys.executable, "-m", "jupyterlab", *flags, "--LabApp.expose_app_in_browser=True"]
    env = os.environ | dict(PYTHONPATH=str(folder), IPYTHONDIR=str(settings / "ipython"))
    env |= {f"JUPYTER_{name.upper()}_DIR": str(settings / name) for name in ("config", "data", "runtime")}
    log = settings / "lab.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file)
    try:
        yield _address(settings / "runtime", process, log)
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


def open_lab(chromium, url: str):
    """A page with JupyterLab in it, ready for `run_all`."""
    page = chromium.new_page(viewport=WINDOW)
    page.set_default_timeout(300_000)
    page.goto(url)
    page.wait_for_function("window.jupyterapp && window.jupyterapp.restored.then(() => true)")
    return page


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
    """What the outputs say that do not fit the width of the page; tables are given a bar to scroll by."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.jp-OutputArea-output')]
            .filter(one => one.scrollWidth > one.clientWidth + 1 && !one.querySelector('table'))
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
