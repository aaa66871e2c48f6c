"""The command line, as a stranger with two files would use it."""

import json
import os
import subprocess
import sys

import pytest

from fasa.evaluation import PROTOCOLS, instruments, tide
from fasa.evaluation.__main__ import main


@pytest.fixture
def files(make_federated, tmp_path):
    gt, detections = make_federated(6)
    for found in detections:
        found["segmentation"]["counts"] = found["segmentation"]["counts"].decode()
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    return tmp_path


def run(files, *more):
    return main(["--gt", str(files / "gt.json"), "--dt", str(files / "dt.json"), *more])


def test_writes_what_the_functions_say_and_prints_a_table(files):
    command = [
        sys.executable,
        "-m",
        "fasa.evaluation",
        "--gt",
        "gt.json",
        "--dt",
        "dt.json",
        "--iou",
        "segm",
        "bbox",
    ]
    command += ["--protocol", "old", "fixed", "pool", "--tide", "--out", "metrics.json"]
    done = subprocess.run(
        command, cwd=files, capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=os.getcwd())
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((files / "metrics.json").read_text())
    assert list(written) == ["segm", "bbox"] and list(written["segm"]) == [*PROTOCOLS, "tide"]
    for kind, measured in written.items():
        for instrument, values in instruments(files / "gt.json", files / "dt.json", kind).items():
            assert measured[instrument] == pytest.approx(
                {name: None if value != value else value for name, value in values.items()}, abs=0
            )
    assert sorted(os.listdir(files)) == ["dt.json", "gt.json", "metrics.json"]
    head, row = [line.split() for line in done.stdout.splitlines()][:2]
    assert head[:4] == ["segm", "[%]", "AP", "AP50"] and row[0] == "AP_old"
    assert float(row[1]) == pytest.approx(written["segm"]["old"]["AP"], abs=0.005)
    assert "detections in 4 images" in done.stderr


def test_takes_old_masks_by_default(files, capsys):
    assert run(files) == 0
    out = capsys.readouterr().out
    assert "AP_old" in out and "segm" in out and "AP_fixed" not in out and "TIDE" not in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], "dt.json: not JSON, or cut short"),
        (
            lambda text: text.replace('"score": 0', '"score": NaN, "s": 0', 1),
            "dt.json: entry 2 has score nan",
        ),
        (lambda text: text.replace('"image_id": ', '"image_id": 9', 1), "dt.json: entry 0 has image id 9"),
        (
            lambda text: text.replace('"category_id"', '"class"', 1),
            "[0]: Object missing required field `category_id`",
        ),
        (
            lambda text: text.replace('"size": [24', '"size": [25', 1),
            "entry 0: segmentation is of size [25, 24]",
        ),
        (lambda text: "{}", "dt.json: Expected `array`, got `object`"),
    ],
)
def test_bad_results_give_one_line_and_leave_no_file(files, change, message, capsys):
    path = files / "dt.json"
    path.write_text(change(path.read_text()))
    assert run(files, "--tide", "--out", str(files / "metrics.json")) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert sorted(os.listdir(files)) == ["dt.json", "gt.json"]


def test_an_output_folder_that_is_missing_is_said_before_any_work(files, capsys):
    assert run(files, "--out", str(files / "gone" / "metrics.json")) == 1
    assert capsys.readouterr().err.startswith("error: --out ")


def test_an_output_that_would_be_lost_or_lose_an_input_is_refused(files, capsys):
    for name in ("dt.json", "gt.json"):
        before = (files / name).read_bytes()
        assert run(files, "--out", str(files / name)) == 1
        assert "is an input and would be lost" in capsys.readouterr().err
        assert (files / name).read_bytes() == before
    (files / "folder").mkdir()
    assert run(files, "--out", str(files / "folder")) == 1
    assert sorted(os.listdir(files)) == ["dt.json", "folder", "gt.json"]


def test_tide_can_speak_as_tidecv_does(files, capsys):
    for reading in ("lvis", "stock"):
        out = files / f"{reading}.json"
        assert run(files, "--tide", reading, "--out", str(out)) == 0
        expected = tide(files / "gt.json", files / "dt.json", stock=reading == "stock")
        assert json.loads(out.read_text())["segm"]["tide"] == pytest.approx(expected.main | expected.special)
