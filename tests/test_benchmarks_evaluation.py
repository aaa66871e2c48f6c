"""The files that the evaluation benchmark generates, and how it judges its contenders."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from lvis import LVIS, LVISResults
from pycocotools import mask as mask_utils

from benchmarks.evaluation import run
from benchmarks.evaluation.shapes import BLOB, encode, outline, polygons
from fasa.evaluation import evaluate

N_IMAGES = 20


def generate(folder, *options):
    command = [sys.executable, run.SOURCES[0], "--images", str(N_IMAGES), "--out", folder, *options]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("generated") / "new")


@pytest.fixture(scope="module")
def files(folder):
    return {name: json.loads((folder / name).read_text()) for name in run.FILES}


@pytest.fixture
def blobs():
    """Blobs that may stick out of their images, of 60 x 80 pixels."""
    rng = np.random.default_rng(0)
    blobs = np.empty(300, BLOB)
    blobs["x"], blobs["y"] = rng.uniform(2, 78, 300), rng.uniform(2, 58, 300)
    blobs["a"], blobs["b"] = rng.uniform(2, 60, (2, 300))
    blobs["slant"] = rng.uniform(-1, 1, 300)
    blobs["top"], blobs["bottom"] = rng.uniform(0, 6, (2, 300))
    return blobs


SIZES = np.tile([60, 80], (300, 1))


def test_files_are_complete_and_depend_on_the_seed_alone(folder, tmp_path):
    assert {path.name for path in folder.iterdir()} == set(run.FILES)
    again, other = generate(tmp_path / "again"), generate(tmp_path / "other", "--seed", "1", "--no-masks")
    for name in run.FILES:
        assert (folder / name).read_bytes() == (again / name).read_bytes()
    assert {path.name for path in other.iterdir()} == {"gt.json", "bbox.json"}
    assert (folder / "gt.json").read_bytes() != (other / "gt.json").read_bytes()


def test_ground_truth_is_of_the_documented_shape(files):
    gt = files["gt.json"]
    images, annotations, categories = gt["images"], gt["annotations"], gt["categories"]
    assert len(images) == len({image["id"] for image in images}) == N_IMAGES
    assert [a["id"] for a in annotations] == list(range(1, len(annotations) + 1))
    assert Counter(c["frequency"] for c in categories) == {"r": 337, "c": 461, "f": 405}
    for least, most, group in [(1, 10, "r"), (11, 100, "c"), (101, 2000, "f")]:
        counts = [c["image_count"] for c in categories if c["frequency"] == group]
        assert (min(counts), max(counts)) == (least, most)

    cells = Counter((a["image_id"], a["category_id"]) for a in annotations)
    assert len(annotations) / N_IMAGES == pytest.approx(12.3, rel=0.4)
    assert len(cells) / N_IMAGES == pytest.approx(3.4, rel=0.3)
    assert max(cells.values()) > 20
    absent = {(image["id"], c) for image in images for c in image["neg_category_ids"]}
    partial = {(image["id"], c) for image in images for c in image["not_exhaustive_category_ids"]}
    assert len(absent) / N_IMAGES == pytest.approx(11, rel=0.2)
    assert not absent & cells.keys()
    assert partial <= cells.keys()
    assert 0 < len(partial) / N_IMAGES < 1


def test_detections_are_of_the_documented_shape(files):
    bbox, segm = files["bbox.json"], files["segm.json"]
    counts = Counter(d["image_id"] for d in bbox)
    assert len(counts) == N_IMAGES
    assert all(290 <= n <= 300 for n in counts.values())
    images, scores = (np.array([d[key] for d in bbox]) for key in ("image_id", "score"))
    assert (np.diff(scores)[np.diff(images) == 0] <= 0).all()
    assert 0.002 < np.median(scores) < 0.05
    for box, mask in zip(bbox, segm, strict=True):
        assert box.keys() == {"image_id", "category_id", "score", "bbox"}
        assert mask.keys() == {"image_id", "category_id", "score", "segmentation"}
        assert all(box[key] == mask[key] for key in ("image_id", "category_id", "score"))
        assert min(box["bbox"][2:]) > 0
        assert mask_utils.area(mask["segmentation"]) > 0


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # lvis-api logs with it
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_files_are_valid_for_lvis_api_and_for_us(folder, iou_type):
    gt, dt = str(folder / "gt.json"), str(folder / f"{iou_type}.json")
    assert len(LVISResults(LVIS(gt), dt).anns) > 290 * N_IMAGES
    assert 10 < evaluate(gt, dt, iou_type=iou_type).summary["AP"] < 90


def test_masks_are_those_that_painting_gives(blobs):
    counts, areas = encode(blobs, SIZES)
    for blob, text, area in zip(blobs, counts, areas, strict=True):
        rle = mask_utils.encode(painted(blob))
        assert text == rle["counts"].decode()
        assert area == mask_utils.area(rle) > 0


def painted(blob):
    """A bitmap, pixel by pixel."""
    bitmap = np.zeros((60, 80), np.uint8, order="F")
    for x in range(80):
        u = (x + 0.5 - blob["x"]) / blob["a"]
        if -1 <= u < 1:
            top, bottom = outline(blob, u)
            bitmap[:, x] = [top <= y + 0.5 < bottom for y in range(60)]
    return bitmap


def test_polygons_are_close_to_the_masks(blobs):
    counts, _ = encode(blobs, SIZES)
    for polygon, text in zip(polygons(blobs), counts, strict=True):
        (rle,) = mask_utils.frPyObjects([polygon.ravel().tolist()], 60, 80)
        assert mask_utils.iou([rle], [{"size": [60, 80], "counts": text.encode()}], [0]).item() > 0.8


def test_areas_and_boxes_of_annotations_are_those_of_their_polygons(files):
    sizes = {image["id"]: (image["height"], image["width"]) for image in files["gt.json"]["images"]}
    for annotation in files["gt.json"]["annotations"]:
        (rle,) = mask_utils.frPyObjects(annotation["segmentation"], *sizes[annotation["image_id"]])
        assert annotation["area"] == pytest.approx(mask_utils.area(rle), rel=0.1, abs=8)
        assert annotation["bbox"] == pytest.approx(mask_utils.toBbox(rle), abs=2)


def outcome(ap, failure=""):
    return run.Outcome(2.0, 0.5, {"old": {"AP": ap, "APr": None}} if not failure else {}, failure)


def test_a_wrong_ap_does_not_pass():
    reference, ours = ("bbox", "lvis"), ("bbox", "fasa AP_Old")
    assert run.agreement({reference: outcome(20.0), ours: outcome(20.0 + 1e-10)})[1]
    lines, fine = run.agreement({reference: outcome(20.0), ours: outcome(20.0 + 1e-8)})
    assert not fine
    assert "**DIFFER**" in lines[0]
    half_measured = run.Outcome(1.0, 1.0, {"old": {"AP": 20.0, "APr": 10.0}})
    assert not run.agreement({reference: half_measured, ours: outcome(20.0)})[1]


def test_a_contender_that_fails_is_shown_with_its_reason():
    failed = run.run([sys.executable, "-c", "raise ValueError('no such luck')"], "bbox")
    assert failed.failure == "ValueError: no such luck"
    ours, reference = ("bbox", "fasa AP_Old"), ("bbox", "lvis")
    assert "**failed**: ValueError: no such luck" in run.table({reference: outcome(20.0), ours: failed})
    assert not run.agreement({ours: failed})[1]
    assert run.agreement({reference: failed, ours: outcome(20.0)})[1]


def test_ratios_are_against_lvis_api():
    fast = run.Outcome(0.5, 0.125, {"old": {"AP": 20.0}})
    row = run.table({("segm", "lvis"): outcome(20.0), ("segm", "fasa AP_Old"): fast}).splitlines()[-1]
    assert row == "| segm | fasa AP_Old | 0.5 s | 4.0x | 0.0 s | 0.12 GiB | 0.25x | Old 20.0000 |"


def test_tide_is_compared_with_tidecvs_reading_alone():
    def tide(value):
        return run.Outcome(1.0, 0.1, {"tide": {"Cls": value}})

    outcomes = {("bbox", "tidecv"): tide(5.0), ("bbox", "fasa Old + Fixed + Pool + TIDE"): tide(9.0)}
    assert run.agreement(outcomes)[1]
    assert run.agreement(outcomes | {("bbox", "fasa TIDE as tidecv"): tide(5.0)})[1]
    assert not run.agreement(outcomes | {("bbox", "fasa TIDE as tidecv"): tide(5.1)})[1]


def test_peak_memory_is_that_of_the_child():
    """Measured from a small process, as in real use: a child's peak begins with what its parent holds."""
    script = "import sys; b = bytearray(2**28); open(sys.argv[1], 'w').write('{\"bbox\": {}}')"
    measure = "import sys; from benchmarks.evaluation import run; print(run.run(sys.argv[1:], 'bbox').gib)"
    command = [sys.executable, "-c", measure, sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.25 < float(done.stdout) < 0.35


def test_the_median_of_the_rounds_counts_and_a_failure_is_not_lost():
    several = [
        run.Outcome(seconds, gib, {"old": {}}) for seconds, gib in ((9.0, 1.0), (2.0, 3.0), (3.0, 2.0))
    ]
    assert run.middle(several)[:2] == (3.0, 2.0)
    failed = run.Outcome(0.1, 0.1, {}, "no such luck")
    assert run.middle([*several, failed]) == failed


def test_aims_are_met_or_missed():
    outcomes = {
        ("bbox", "hotcoco"): run.Outcome(10.0, 2.0, {}, processor=20.0),
        ("bbox", "fasa AP_Old"): run.Outcome(10.0, 2.1, {}, processor=15.0),
        ("bbox", "fasa Old + Fixed + Pool + TIDE"): run.Outcome(12.9, 1.0, {}, processor=27.0),
    }
    said = [line.rpartition(": ")[2] for line in run.aims(outcomes)]
    assert said == ["met", "met", "**missed**", "met", "**missed**", "met"]


def test_the_readme_has_a_place_for_what_is_measured():
    before, begin, rest = run.README.read_text().partition(run.MARKS[0])
    found, end, _ = rest.partition(run.MARKS[1])
    assert before and begin and end and "fasa AP_Old" in found


def test_slow_contenders_take_part_in_the_first_round_alone(tmp_path, monkeypatch):
    """With contenders that end at once, since there is nothing to read."""
    ran = []
    really = run.run
    monkeypatch.setattr(
        run, "run", lambda command, kind, name: ran.append(name) or really(command, kind, name)
    )
    outcomes = run.measure(tmp_path, ["bbox"], 2, ["tidecv", "lvis-fixed", "faster-coco-eval"])
    assert ran.count("lvis") == 1 and ran.count("fasa AP_Old") == 2 and "tidecv" not in ran
    assert outcomes["bbox", "lvis"].failure and outcomes["bbox", "fasa AP_Old"].failure
