"""docs/explore-and-vary.md, executed block by block in a clone, at a scale that takes seconds."""

import json
import shutil
import subprocess
import sys

import pytest
from clones import ENVIRONMENT, ROOT, cloned, yaml
from pages import block, blocks

PAGE = "docs/explore-and-vary.md"
ROWS = ["mask_rcnn", "mask_rcnn_fasa"]
ME = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each block of the page said, and the folder of the clone, where all of them have run."""
    parent = tmp_path_factory.mktemp("explore")
    params = yaml.load((ROOT / "params.yaml").read_text())
    folder = cloned(
        parent / "fasa",
        embedded=params["tiny"],  # the page's commands name the embedded scale
        run=dict(rows=ROWS, seeds=[0]),
        repro=list(ROWS),
        classify=dict(sets=["tiny_digits"], rows=["ce"], seeds=[0]),
        tuning={name: study | dict(seeds=[0]) for name, study in params["tuning"].items()},
    )
    shutil.rmtree(folder / "results")  # of the real embedded scale
    (folder / ".venv").symlink_to(sys.prefix)
    (parent / "bin").mkdir()
    (parent / "bin" / "fasa").write_text(f'#!/bin/sh\nexec {sys.executable} -m fasa "$@"\n')
    (parent / "bin" / "fasa").chmod(0o755)
    environment = ENVIRONMENT | ME | dict(COLUMNS="500", DVC_SITE_CACHE_DIR=str(parent / "site"))
    path = f"export PATH={parent / 'bin'}:$PATH\n"  # the clone's code, whatever is installed
    said = {}

    def run(text):
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    run("source setup.sh; configure_checkout; git commit -qam 'Remove results'")
    for _, text in blocks(PAGE, "bash"):
        said[text] = run(path + text)
    return said, folder


def test_the_table_of_experiments_fits_120_columns(said):
    table, folder = said[0][block(PAGE, "dvc exp show")].split("Path")[0].splitlines(), said[1]
    header = next(line for line in table if "Experiment" in line).split()
    assert header[0] == "Experiment" and header[-1] == "embedded.traits.fasa.augmenter.prob_scale"
    names = ["AP", "AP_r", "APc", "APf", "box", "box_r"]
    assert header[1:-1] == [name for name in names if name in header]
    # at this scale no class is frequent, and what is the same everywhere is left out
    assert max(map(len, table)) + sum(max(len(name), 4) + 3 for name in names if name not in header) <= 120
    values = {line.split()[-1] for line in table if "[" in line}
    assert values == {"4", "8", "32"}
    shown = json.loads((folder / "results/embedded/runs/mask_rcnn_fasa-0.json").read_text())
    assert list(shown) == sorted(shown)  # as `dvc metrics show` has them


def test_losses_are_drawn_over_each_other(said):
    page = (said[1] / "dvc_plots/index.html").read_text()
    assert '"rev": "half"' in page and '"rev": "HEAD"' in page and '"field": "loss"' in page


def test_the_best_is_kept(said):
    git = ["git", "show", "half-as-many:params.yaml"]
    shown = subprocess.run(git, cwd=said[1], capture_output=True, text=True, check=True).stdout
    assert shown == (said[1] / "params.yaml").read_text()
    assert yaml.load(shown)["embedded"]["traits"]["fasa"]["augmenter"]["prob_scale"] == 8


def test_another_clone_trains_only_what_differs(said):
    out, again = said[0][block(PAGE, "git clone")], said[1].with_name("fasa-again")
    before, _, after = out.partition("Data and pipelines are up to date.")
    assert after and "Running stage" not in before  # nothing had run there
    ran = [line.split("'")[1] for line in after.splitlines() if line.startswith("Running stage")]
    assert ran == ["plan", "train@embedded-mask_rcnn_fasa-0", "evaluate@embedded-mask_rcnn_fasa-0"]
    assert (again / "runs/embedded/warmup/0.pth").exists()
