"""README.md's commands; its lines for configs are in tests/detection."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from pages import ROOT, block

import fasa
from fasa.report.tables import definition, words

PAGE = "README.md"


def test_its_two_commands_are_targets_of_make():
    for line in block(PAGE, "make repro").splitlines():
        command = [*shlex.split(line, comments=True), "--dry-run"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and ".venv/bin/" in done.stdout, done.stderr


def test_its_evaluator_says_100_of_the_truth(tiny_glyphs, tmp_path):
    truth = (tiny_glyphs / "annotations" / "val.json").read_text()
    (tmp_path / "lvis_v1_val.json").write_text(truth)
    wanted = ("image_id", "category_id", "segmentation")
    found = [{key: one[key] for key in wanted} | dict(score=1) for one in json.loads(truth)["annotations"]]
    (tmp_path / "results.json").write_text(json.dumps(found))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | dict(PATH=path, PYTHONPATH=str(ROOT))
    command = shlex.split(block(PAGE, "fasa evaluate"))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "100.0" in done.stdout and metrics


def test_it_cites_the_paper_as_the_citation_file_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]
    fields = dict(re.findall(r"^  (\w+) += \{(.+?)\},?$", block(PAGE, "@inproceedings"), re.MULTILINE))
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert fields["title"].replace("{", "").replace("}", "") == paper["title"] and fields["author"] == authors
    assert fields["booktitle"] == paper["collection-title"] and fields["year"] == str(paper["year"])
    assert (
        citation["version"] == fasa.__version__
        and citation["license"] in (ROOT / "pyproject.toml").read_text()
    )


def test_it_is_short():
    """Words as `wc -w` counts them, tables and snippets among them: what it does not say has a page."""
    assert len((ROOT / PAGE).read_text().split()) < 750


def test_its_first_table_is_that_of_the_committed_results():
    found = json.loads((ROOT / "results/embedded/metrics.json").read_text())
    papers = definition("table2")["paper"] | definition("main")["paper"]
    lines = re.findall(r"^\| (Mask R-CNN.*?) +\| (.+?) +\|$", (ROOT / PAGE).read_text(), re.MULTILINE)
    rows = {words(row): row for row in papers}
    assert len(lines) == 4
    for name, cells in lines:
        row = rows[name]
        means = (found[row][f"segm_{metric}"]["mean"] for metric in ("AP", "APr", "APc", "APf"))
        expected = [f"{ours:.1f} ({its})" for ours, its in zip(means, papers[row][:4], strict=True)]
        assert re.split(r" *\| ", cells) == expected and found[row]["segm_AP"]["n"] == 3
