"""Figure 2: which objects are shown, and what is said of all."""

import numpy as np
import pycocotools.mask
import pytest

from fasa.data import lvis
from fasa.detection.keep import rare_objects
from fasa.evaluation import Detections, read_ground_truth
from fasa.evaluation.masks import Masks
from fasa.record import Rare, Record
from fasa.report import rare, style


def record(scores, pictured=None):
    scores = np.array(scores, float)
    places = np.arange(len(scores)) if pictured is None else np.array(pictured)
    nothing = np.full((len(places), 4), np.nan)
    return Record({}, 0, {}, {}, Rare(scores, scores, places, nothing, [b""] * len(places)))


def test_pictures_are_at_even_ranks_of_what_was_gained():
    gains = np.random.default_rng(0).permutation(29) / 100
    picked = rare.pick(record(np.full(29, 0.5)), record(0.5 + gains))
    np.testing.assert_allclose(gains[picked], [0.04, 0.08, 0.12, 0.16, 0.2, 0.24])
    one = record([0.5, np.nan, 0.1], pictured=[0, 2])
    assert rare.pick(one, record([0.4, 1.0, 0.3], pictured=[0, 2])).tolist() == [0, 1]


def test_what_is_said_is_counted():
    text = rare.reading([record([0.5, np.nan])] * 2, [record([0.5, 0.25])] * 2)
    assert "of 2 rare objects, 2 seeds, the best score is 25.0% on average without FASA and 37.5%" in text
    assert "50% and 50% of them have a score of 30% or more, 50% and 0% have no detection at all" in text
    assert [rare.percent(score) for score in (0.3, 0.012, 0.001)] == ["30%", "1%", "<1%"]


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_pictures_show_what_was_found(tiny_glyphs, kind):
    """A detector that finds every second rare object, and finds it exactly."""
    style.use()
    path = tiny_glyphs / "annotations" / "val.json"
    gt = read_ground_truth(path, kind)
    places = np.flatnonzero(gt.frequency[gt.label] == "r")
    found = places[::2]
    columns = gt.image_ids[gt.image[found]], gt.category_ids[gt.label[found]], np.full(len(found), 0.5)
    boxes = read_ground_truth(path, "bbox").shape[found]
    best = dict(bbox=Detections(*columns, boxes))
    if kind == "segm":
        best["segm"] = Detections(*columns, Masks.of([gt.shape[int(i)] for i in found]))
    run = Record({}, 0, {}, {}, rare_objects(gt, best, places))
    assert len(places) > 1 and run.rare.iou[::2] == pytest.approx(np.ones(len(found)))
    names = [one["name"] for one in lvis.read_annotations(path)["categories"]]
    figure = rare.figure([run], [run], tiny_glyphs, names)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 3 * min(len(places), rare.PICKED)
    drawn = [bool(axes.collections or axes.patches) for axes in shown[: len(shown) // 3]]
    labels = {axes.get_xlabel() for axes in shown}
    assert all(drawn) and labels == {"", "50%", "nothing"}
    assert not rare.figure([run], [run], tiny_glyphs / "none", names).axes[0].images


def test_frames_stay_in_the_image():
    mask = np.zeros((20, 30), np.uint8, order="F")
    mask[0:4, 26:30] = 1
    counts = pycocotools.mask.encode(mask)["counts"]
    assert rare._frame(counts, dict(height=20, width=30)) == (24, 30, 0, 6)
    assert rare._frame(np.array([0.0, 0, 30, 4]), dict(height=20, width=30)) == (5, 25, 0, 20)
