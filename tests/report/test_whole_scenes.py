"""Whole scenes: what is drawn, and what counts as right."""

import numpy as np
import pytest

from fasa.data import lvis
from fasa.detection import keep
from fasa.evaluation import Detections, read_ground_truth
from fasa.evaluation.masks import Masks
from fasa.record import Record
from fasa.report import scenes, style
from fasa.report.style import COLOUR

SIZES = dict(height=8, width=8)


def test_the_best_detection_takes_an_object_and_a_second_is_wrong():
    box = np.array([0.0, 0, 4, 4])
    shapes, objects = [box, box + [1, 0, 0, 0], box, box + [2, 0, 0, 0]], [box, box + [4, 0, 0, 0]]
    score, label = np.array([0.5, 0.9, 0.8, 0.7]), np.array([1, 1, 2, 3])
    right = scenes.right(shapes, label, score, objects, np.array([1, 3]), SIZES)
    # IoU 0.6; the same object again, worse scored; none of its class; IoU 1/3 with its object
    assert right.tolist() == [False, True, False, False]
    assert scenes.right([], label[:0], score[:0], objects, np.array([1, 3]), SIZES).tolist() == []
    assert scenes.right(shapes, label, score, [], np.array([]), SIZES).tolist() == [False] * 4


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_scenes_show_the_truth_and_what_two_runs_found(tiny_glyphs, kind):
    """One finds nothing, the other every object, the first of a scene as another class."""
    style.use()
    path = tiny_glyphs / "annotations" / "val.json"
    gt = read_ground_truth(path, kind)
    label = gt.label.copy()
    first = np.unique(gt.image, return_index=True)[1]
    label[first] = (label[first] + 1) % len(gt.category_ids)
    columns = gt.image_ids[gt.image], gt.category_ids[label], np.full(len(label), 0.5)
    best = dict(bbox=Detections(*columns, read_ground_truth(path, "bbox").shape))
    blind = dict(bbox=Detections(*(x[:0] for x in columns), np.zeros((0, 4))))
    if kind == "segm":
        best["segm"] = Detections(*columns, Masks.of([gt.shape[i] for i in range(len(label))]))
        blind["segm"] = Detections(*(x[:0] for x in columns), Masks.of([]))
    runs = [Record({}, 0, {}, {}, scenes=keep.scenes(gt, found)) for found in (blind, best)]
    names = [one["name"] for one in lvis.read_annotations(path)["categories"]]
    figure = scenes.figure(*runs, tiny_glyphs, names)
    shown = [axes for axes in figure.axes if axes.images]
    n = len(shown) // 3
    truth, without, with_fasa = shown[:n], shown[n : 2 * n], shown[2 * n :]
    assert 1 < n <= scenes.PICKED and not any(axes.texts for axes in without)
    for above, below in zip(truth, with_fasa, strict=True):
        assert len(above.texts) == len(below.texts) > 0
        assert all(text.get_text().endswith(" 50%") for text in below.texts)
        if kind == "bbox":
            colours = [patch.get_edgecolor() for patch in below.patches]
            assert len({*colours}) == 2 if len(colours) > 1 else True
    nothing = Record({}, 0, {}, {})
    for empty in (
        scenes.figure(*runs, tiny_glyphs / "none", names),
        scenes.figure(nothing, nothing, tiny_glyphs, names),
    ):
        assert empty.axes[0].texts[0].get_text() == "the images of val are not here"
    assert COLOUR["right"] != COLOUR["wrong"]
