"""The command line, as a stranger with two files would use it."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

from fasa.evaluation import (
    PROTOCOLS,
    Detections,
    bootstrap,
    by_class,
    evaluate,
    examples,
    instruments,
    match,
    paired_bootstrap,
    read_ground_truth,
    save_detections,
    tide,
)
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
    head, row = [line.split() for line in done.stdout.splitlines()][1:3]
    assert head == ["segm", "AP_old", "AP_fixed", "AP_pool"] and row[0] == "AP"
    assert float(row[1]) == pytest.approx(written["segm"]["old"]["AP"], abs=0.005)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "%|" not in done.stderr  # no bar in a file
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


def test_intervals_differences_classes_and_examples_are_what_the_functions_say(files, capsys):
    other = json.loads((files / "dt.json").read_text())[::2]
    (files / "other.json").write_text(json.dumps(other))
    more = ["--bootstrap", "40", "--against", str(files / "other.json"), "--classes", "--examples", "2"]
    assert run(files, *more, "--protocol", "old", "pool", "--out", str(files / "out.json")) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    written = json.loads((files / "out.json").read_text())["segm"]
    gt = read_ground_truth(files / "gt.json", "segm")
    mine, theirs = match(gt, files / "dt.json"), match(gt, files / "other.json")
    for name in ("old", "pool"):
        spreads = bootstrap(mine, PROTOCOLS[name], 40)
        assert written["bootstrap"][name]["AP"] == spreads["AP"]._asdict()
        intervals = paired_bootstrap([theirs], [mine], 40, protocol=PROTOCOLS[name])
        assert written["against"][name]["AP50"] == intervals["AP50"]._asdict()
    per_class = evaluate(gt, files / "dt.json").per_class
    assert [one["AP"] for one in written["classes"]] == pytest.approx(
        [None if value != value else value for value in per_class.tolist()]
    )
    counts = by_class(gt, files / "dt.json")
    assert [one["Loc"] for one in written["classes"]] == counts["Loc"].tolist()
    assert written["examples"] == [one._asdict() for one in examples(gt, files / "dt.json", 2)]


def test_every_format_has_every_number(files, capsys):
    expected = instruments(files / "gt.json", files / "dt.json")
    printed = {}
    for name in ("text", "markdown", "csv", "json"):
        assert run(files, "--tide", "--protocol", "old", "fixed", "pool", "--format", name) == 0
        printed[name] = capsys.readouterr().out
    assert json.loads(printed["json"])["segm"] == {
        instrument: {name: None if value != value else value for name, value in values.items()}
        for instrument, values in expected.items()
    }
    rows = {row[1]: row for row in csv.reader(printed["csv"].splitlines())}
    assert (
        float(rows["AP"][3]) == expected["fixed"]["AP"] and float(rows["Cls"][2]) == expected["tide"]["Cls"]
    )
    shown = {}  # of each metric, by those instruments that have it
    for values in expected.values():
        for metric, value in values.items():
            shown.setdefault(metric, []).append("-" if value != value else f"{value:.2f}")
    for name, between in (("text", r" {2,}"), ("markdown", r" *\| *")):
        lines = [re.split(between, line.strip("| ")) for line in printed[name].splitlines()]
        cells = {line[0]: [cell for cell in line[1:] if cell] for line in lines}
        for metric, values in shown.items():  # what TIDE's mean is said behind them
            assert cells[metric][: len(values)] == values, (name, metric)


def test_annotations_like_those_of_coco_are_taken_on_request(files, capsys):
    """They equal LVIS's where every image lists every class as absent that it does not show."""
    gt = json.loads((files / "gt.json").read_text())
    classes = [category["id"] for category in gt["categories"]]
    listed = [
        image | dict(neg_category_ids=classes, not_exhaustive_category_ids=[]) for image in gt["images"]
    ]
    groups = [category | dict(frequency="r") for category in gt["categories"]]
    expected = evaluate(gt | dict(images=listed, categories=groups), files / "dt.json").summary
    for image in gt["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    for category in gt["categories"]:
        del category["frequency"]
    for thing in gt["annotations"]:
        thing["iscrowd"] = thing.pop("ignore")
    (files / "gt.json").write_text(json.dumps(gt))
    assert run(files) == 1 and "missing required field" in capsys.readouterr().err
    assert run(files, "--exhaustive", "--out", str(files / "out.json")) == 0
    assert (
        f"every class counts in every image; classes: {len(classes)} r, 0 c, 0 f" in capsys.readouterr().err
    )
    written = json.loads((files / "out.json").read_text())["segm"]["old"]
    assert {name: value for name, value in written.items() if value is not None} == pytest.approx(
        {name: value for name, value in expected.items() if value == value}
    )
    for n, group in ((10, "r"), (11, "c"), (100, "c"), (101, "f")):
        gt["categories"] = [category | dict(image_count=n) for category in gt["categories"]]
        assert set(read_ground_truth(gt, "bbox", exhaustive=True).frequency) == {group}
    gt["categories"][0]["frequency"], first = "c", gt["categories"][0]["id"]
    read = read_ground_truth(gt, "bbox", exhaustive=True)  # what the file says is kept, class by class
    assert read.frequency.tolist() == ["c" if k == first else "f" for k in read.category_ids]


def test_names_that_no_terminal_shows_are_spelt_out(files, capsys):
    gt = json.loads((files / "gt.json").read_text())
    gt["categories"][0]["name"] = "two\nlines\x1b[31m"
    (files / "gt.json").write_text(json.dumps(gt))
    assert run(files, "--classes") == 0
    assert r"  'two\nlines\x1b[31m'  " in capsys.readouterr().out


def test_no_images_have_no_intervals(files, capsys):
    gt = json.loads((files / "gt.json").read_text()) | dict(images=[], annotations=[])
    (files / "gt.json").write_text(json.dumps(gt))
    (files / "dt.json").write_text("[]")
    other = str(files / "dt.json")
    assert run(files, "--bootstrap", "9", "--against", other, "--out", str(files / "out.json")) == 0
    written = json.loads((files / "out.json").read_text())["segm"]
    assert set(written["bootstrap"]["old"]["AP"].values()) == {None}
    assert set(written["against"]["old"]["AP"].values()) == {None}


def test_a_number_that_will_not_do_is_said(files, capsys):
    for option in ("--examples", "--bootstrap"):
        for value in ("0", "-1", "x", "1.5", "9" * 30):
            with pytest.raises(SystemExit):
                run(files, option, value)
            assert "is not a whole number from 1" in capsys.readouterr().err


def on_a_terminal(*command, stderr=None):
    """What a terminal of 80 columns is sent, as lines and what overwrote them."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = os.environ | dict(TERM="xterm", COLUMNS="80", PYTHONPATH=str(Path.cwd()))
    command = [sys.executable, "-m", "fasa", "evaluate", *map(str, command)]
    process = subprocess.Popen(command, stdout=theirs, stderr=stderr or theirs, env=environment)
    os.close(theirs)
    sent = b""
    with contextlib.suppress(OSError):  # at its end
        while piece := os.read(mine, 65536):
            sent += piece
    os.close(mine)
    process.wait()
    return [line.split("\r") for line in sent.decode().replace("\r\n", "\n").split("\n")]


def test_on_a_terminal_it_fits_and_a_bar_has_its_own_line(files):
    lines = on_a_terminal(
        *("--gt", files / "gt.json", "--dt", files / "dt.json", "--tide", "--classes", "--examples", "2"),
        *("--protocol", "old", "fixed", "pool", "--bootstrap", "9", "--against", files / "dt.json"),
    )
    assert max(len(part) for line in lines for part in line) <= 80
    bars = [line for line in lines if any("match" in part for part in line)]
    assert bars and all("match" in part or not part for line in bars for part in line)
    assert max(map(len, on_a_terminal("--help")), default=0) == 1
    assert max(len(line[0]) for line in on_a_terminal("--help")) <= 80


def test_an_error_on_a_terminal_stands_on_a_line_of_its_own(files):
    rows = json.loads((files / "dt.json").read_text())
    rows[-1]["segmentation"]["counts"] = rows[-1]["segmentation"]["counts"][:-1]
    save_detections(
        Detections(
            *(np.array([row[name] for row in rows]) for name in ("image_id", "category_id", "score")),
            [row["segmentation"]["counts"].encode() for row in rows],
        ),
        files / "dt.npz",
    )
    for name in ("dt.npz", "gone.json"):
        lines = on_a_terminal("--gt", files / "gt.json", "--dt", files / name)
        errors = [line for line in lines if any("error: " in part for part in line)]
        assert len(errors) == 1 and errors[0][0].startswith("error: ") and len(errors[0]) == 1


def test_no_bar_goes_into_a_file(files):
    with open(files / "log", "w") as log:
        on_a_terminal("--gt", files / "gt.json", "--dt", files / "dt.json", stderr=log)
    log = (files / "log").read_text()
    assert "match" not in log and "\r" not in log and log.startswith("segm: reading gt.json and dt.json\n")
