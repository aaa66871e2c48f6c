"""The page of `dvc plots show`, as DVC makes it from our frame."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM
from PIL import Image

from fasa.report import plots_page

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="3000" height="400"></svg>'
MEASURE = """<script>
const seen = () => [...document.images].filter(one => one.offsetParent).map(one => one.src.split("/").pop())
const measure = () => {
  document.title = `over ${document.documentElement.scrollWidth - innerWidth} seen ${seen()}`
}
addEventListener("load", () => setTimeout(measure, 500))
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What `dvc plots show` writes of a table, a wide figure, and a file that has nothing to draw."""
    folder = tmp_path_factory.mktemp("plots")
    plots_page.write(folder / "frame.html")
    (folder / "losses.tsv").write_text("iteration\tloss\n50\t3.5\n100\t2.5\n")
    (folder / "numbers.json").write_text('{"AP": 1.5}')
    Image.new("RGB", (3000, 400), "white").save(folder / "wide.png")
    (folder / "wide.svg").write_text(SVG)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in (
        ["dvc", "init", "-q", "--no-scm"],
        ["dvc", "config", "plots.html_template", "../frame.html"],  # as set-up does
        ["dvc", "plots", "show", "-x", "iteration", "losses.tsv", "numbers.json", "wide.png", "wide.svg"],
    ):
        environment = os.environ | dict(PATH=path, DVC_SITE_CACHE_DIR=str(folder / "site"))
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder / "dvc_plots" / "index.html"


def test_nothing_is_loaded_from_elsewhere(page):
    text = page.read_text()
    head, _, body = text.rpartition("<body>")  # Vega's source has one too
    assert "<script>" in head and "vegaEmbed=" in head and "{vega}" not in head
    assert not re.search(r"<script[^>]+src=|<link", head)
    shown = re.findall(r'<img src="([^"]+)"', body)
    assert shown == ["static/workspace_wide.png", "static/workspace_wide.svg"]
    assert "vegaEmbed('#losses_tsv'" in body


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1280])
def test_in_a_browser_curves_are_drawn_and_nothing_is_cut(page, width, tmp_path):
    text, _, end = page.read_text().rpartition("</body>")
    measured = page.with_name("measured.html")
    measured.write_text(f"{text}{MEASURE}</body>{end}")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    options += [f"--user-data-dir={tmp_path}", f"--window-size={width},900", "--virtual-time-budget=10000"]
    command = [CHROMIUM, *options, measured.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert 'id = "numbers_json"' in text and 'id="numbers_json"' not in done.stdout
    assert re.search(r'<(svg|canvas)[^>]* class="marks"', done.stdout.rpartition("<body>")[2])
    over, seen = re.search(r"<title>over (-?\d+) seen (.*)</title>", done.stdout).groups()
    assert int(over) <= 0
    assert seen == "workspace_wide.png"  # a figure once, though it is saved twice
