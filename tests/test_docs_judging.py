"""Every command and snippet of docs/judge-detections.md, run in turn as a reader would."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks

ROOT = Path(__file__).parents[1]
NAME = "docs/judge-detections.md"
PAGE = ROOT / NAME
EXECUTED = [*blocks(NAME, "bash"), *blocks(NAME, "python")]


@pytest.fixture
def shell(tmp_path):
    """Runs a block in an empty folder with a checkout's files; gives what it printed."""
    for name in ("benchmarks", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, call in (("python", '"$@"'), ("fasa", '-m fasa "$@"')):
        (commands / name).write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {call}\n")
        (commands / name).chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"

    def run(language, block):
        command = ["python", "-c", block] if language == "python" else ["bash", "-ec", block]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | dict(PATH=path, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_all_of_it_runs_and_prints_what_the_page_shows(shell):
    printed, shown = [], 0
    for language, block in blocks(NAME):
        if (language, block) in EXECUTED:
            printed.append(shell(language, block))
        elif not language:
            assert block == printed[-1]
            shown += 1
    assert shown == 1 and len(printed) == 8
    assert "is missed most often" in printed[4] and "better by" in printed[5]


def test_the_format_that_it_shows_is_json():
    (shown,) = blocks(NAME, "json")
    (one,) = json.loads(shown.text)
    assert one.keys() == {"image_id", "category_id", "score", "bbox", "segmentation"}


def test_it_is_short():
    assert len(re.sub(r"^```.*?^```$", "", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE).split()) < 700


def test_its_files_are_there():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).is_file()
