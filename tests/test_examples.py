"""The examples run, and say what they promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(name, *arguments):
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    command = [sys.executable, ROOT / "examples" / name, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_plain_pytorch_adapts_and_lifts_rare_classes():
    done = run("plain_pytorch.py")
    assert done.returncode == 0, done.stderr
    without, with_fasa, drawn = done.stdout.splitlines()
    rare = [float(line.split()[-5]) for line in (without, with_fasa)]
    assert rare[1] > rare[0] > 50
    assert all(n > 0 for n in json.loads(drawn.partition(": ")[2]))


def test_judge_a_detector(tiny_glyphs, tmp_path):
    annotations = tiny_glyphs / "annotations" / "val.json"
    objects = json.loads(annotations.read_text())["annotations"]
    results = [
        {key: a[key] for key in ("image_id", "category_id", "segmentation")} | dict(score=1) for a in objects
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = run("judge_a_detector.py", annotations, tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["AP_old", "AP_fixed", "AP_pool", "lost AP50"]
    assert all("'AP': 100.0" in line for line in lines[:3])


@pytest.mark.parametrize("missing", ["annotations", "results"])
def test_judge_says_what_is_missing(tiny_glyphs, missing):
    annotations = "nowhere.json" if missing == "annotations" else tiny_glyphs / "annotations" / "val.json"
    done = run("judge_a_detector.py", annotations, "nowhere.json")
    assert (
        done.returncode == 1
        and done.stderr.startswith("error: nowhere.json")
        and done.stderr.count("\n") == 1
    )
