"""What a profile will take, against arithmetic by hand."""

import json
import math
import re
from pathlib import Path

import pytest
from lvis_folder import categories

from fasa.data import lvis_v1
from fasa.params import read_params
from fasa.pipeline import estimate, plan

ROOT = Path(__file__).parents[2]
PARAMS = read_params(ROOT / "params.yaml")
RESULTS = [json.loads(line) for line in (ROOT / "benchmarks/gpu/results.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def inside(monkeypatch):
    monkeypatch.chdir(ROOT)


def told(capsys, *arguments):
    assert plan.main(list(arguments)) == 0
    out = capsys.readouterr().out
    rows = [re.split(r" *\| *", line.strip("| ")) for line in out.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}, out


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("mask_rcnn", "mask_rcnn_r50"), ("mask_rcnn_r101",) * 2, ("cascade_rcnn", "cascade_mask_rcnn_r101")],
)
def test_what_was_measured_is_what_the_benchmark_says(ours, theirs):
    """With FASA, of 2 and 8 images."""
    known = estimate.MODELS[ours]
    for i, batch in enumerate((2, 8)):
        (one,) = (
            r
            for r in RESULTS
            if r["part"] == "detectors" and (r["model"], r["batch"], r["fasa"]) == (theirs, batch, True)
        )
        assert known.seconds[i] == pytest.approx(one["seconds"], abs=6e-4)
        assert known.memory[i] == pytest.approx(one["memory_gb"], abs=6e-3)
    (one,) = (r for r in RESULTS if r["part"] == "adaptation")
    assert pytest.approx(one["seconds_per_image"], abs=5e-4) == estimate.PASS_IMAGE


def test_lvis_by_hand(capsys):
    """Plain Mask R-CNN on one GPU: 24 epochs of 90,153 images, 16 an iteration, which takes 0.594 s."""
    there = estimate.images("lvis", PARAMS.sections["lvis"], 1e-3)
    assert (there.train, there.adapt, there.val) == (90_153, 10_017, 19_809)
    job = plan.compose(PARAMS, "lvis", "mask_rcnn", 0)
    one = estimate.training(job, job.train, there, 1)
    iterations = 24 * 5635
    assert one.gpu == pytest.approx(iterations * (0.132 + 14 * 0.033) / 3600)
    assert one.memory == pytest.approx(5.27 + 14 * (19.02 - 5.27) / 6)
    eight = estimate.training(job, job.train, there, 8)
    assert eight.gpu == pytest.approx(iterations * 0.132 * 8 / 3600) and eight.memory == 5.27
    with_fasa = plan.compose(PARAMS, "lvis", "mask_rcnn_fasa", 0)
    passes = 24 * (0.013 * 10_017 + 10) / 3600
    assert estimate.training(with_fasa, job.train, there, 1).gpu == pytest.approx(one.gpu + passes)
    table, text = told(capsys, "--profile", "lvis", "--gpus", "8")
    assert table["train"][0] == str(3 * len(PARAMS.run.rows)) and float(table["in all"][1]) > 1000
    assert "Guessed: detection" in text
    sums = [float(cells[1]) for name, cells in table.items() if name in ("train", "evaluate", "cost")]
    assert float(table["in all"][1]) == pytest.approx(sum(sums), abs=2)


def test_what_rfs_adds_at_most_follows_from_the_counts():
    counts = [one["image_count"] for one in categories()]
    more = sum(n * (math.ceil(max(1, math.sqrt(1e-3 * 100_170 / n))) - 1) for n in counts)
    assert pytest.approx(more / 100_170, abs=0.005) == lvis_v1.REPEATED


def test_embedded_is_the_sum_of_dvc_yaml(capsys):
    table, text = told(capsys, "--profile", "embedded")
    assert (
        float(table["train"][2]) == pytest.approx(3 * len(PARAMS.run.rows) * 320 / 3600, abs=0.05)
        and "dvc.yaml" in text
    )
    assert table["train"][1] == ""  # no GPU


def test_what_is_prepared_is_counted(tmp_path, monkeypatch):
    """Three images, class 1 in one of them, class 2 in all: at a threshold of 0.75 that image comes twice."""
    folder = tmp_path / "data" / "lvis" / "annotations"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    categories = [
        dict(id=k, name=f"c{k}", frequency="r", image_count=n, instance_count=n) for k, n in ((1, 1), (2, 3))
    ]
    for part, n in (("train", 3), ("adapt", 1), ("val", 2)):
        content = dict(images=[dict(id=i) for i in range(n)], categories=categories, annotations=[])
        (folder / f"{part}.json").write_text(json.dumps(content))
    there = estimate.images("lvis", PARAMS.sections["lvis"], 0.75)
    assert (there.train, there.adapt, there.val, there.repeated) == (3, 1, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "nope"], "there is no profile 'nope'; known: embedded"),
        (["--profile", "lvis", "--gpus", "3"], "a batch of 16 cannot be shared out among 3"),
        (["--profile", "lvis", "--gpus", "0"], "a whole number from 1"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, capsys):
    assert plan.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
