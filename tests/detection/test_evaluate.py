import json
import math

import numpy as np
import pytest

from fasa.detection.evaluate import joined, measured, taken, write_results
from fasa.evaluation import Detections


def test_means_over_no_class_are_left_out():
    assert measured("segm", "old", dict(AP=1.0, APr=math.nan)) == dict(segm_AP=1.0)
    assert measured("bbox", "fixed", dict(AP=1.0, APr=math.nan)) == dict(bbox_fixed_AP=1.0)


SIZES = {7: [64, 48], 8: [64, 48], 9: [32, 48]}


def image(number, *scores, kind="bbox"):
    """What a model finds on an image; masks as they are encoded."""
    n = len(scores)
    shape = np.tile([1.0, 2.0, 3.0, 4.0], (n, 1)) if kind == "bbox" else [b"PoS%d" % i for i in range(n)]
    return Detections(np.full(n, number), np.full(n, 3), np.array(scores), shape)


def found(kind):
    """Of three images, the second empty, what is best of each."""
    images = image(7, 0.5, 0.75, 0.25, kind=kind), image(8, kind=kind), image(9, 0.125, kind=kind)
    return joined([taken(one, np.argsort(-one.score)[:2]) for one in images], kind)


def test_results_are_written_in_lvis_format(tmp_path, monkeypatch):
    path, best = tmp_path / "detections.json", dict(segm=found("segm"), bbox=found("bbox"))
    write_results(path, best, SIZES)
    results = json.loads(path.read_text())
    assert [(one["image_id"], one["score"]) for one in results] == [(7, 0.75), (7, 0.5), (9, 0.125)]
    assert [one["segmentation"]["counts"] for one in results] == ["PoS1", "PoS0", "PoS0"]
    box = dict(image_id=9, category_id=3, score=0.125, bbox=[1, 2, 3, 4])
    assert results[2] == box | dict(segmentation=dict(size=[32, 48], counts="PoS0"))
    whole = path.read_bytes()
    monkeypatch.setattr("fasa.detection.evaluate.AT_ONCE", 2)
    write_results(path, best, SIZES)
    assert path.read_bytes() == whole


def test_boxes_alone_have_no_segmentation(tmp_path):
    write_results(tmp_path / "detections.json", dict(bbox=joined([image(9, 0.125)], "bbox")), SIZES)
    box = dict(image_id=9, category_id=3, score=0.125, bbox=[1, 2, 3, 4])
    assert json.loads((tmp_path / "detections.json").read_text()) == [box]


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_no_results_are_an_empty_list(tmp_path, kind):
    best = dict.fromkeys(["bbox", kind], joined([], "bbox")) | {kind: joined([], kind)}
    write_results(tmp_path / "detections.json", best, SIZES)
    assert json.loads((tmp_path / "detections.json").read_text()) == []
