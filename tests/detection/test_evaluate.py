import json
import math

import numpy as np
import pytest

from fasa.detection.evaluate import measured, results_file


def test_means_over_no_class_are_left_out():
    assert measured("segm", "old", dict(AP=1.0, APr=math.nan)) == dict(segm_AP=1.0)
    assert measured("bbox", "fixed", dict(AP=1.0, APr=math.nan)) == dict(bbox_fixed_AP=1.0)


SIZES = {7: [64, 48], 8: [64, 48], 9: [32, 48]}


def image(number, *scores, masks=True):
    """What `detect_part` holds after an image: the columns of its detections, the last of each kind."""
    n = len(scores)
    ids = [np.full(n, number), np.full(n, 3), np.array(scores)]
    boxes, codes = np.tile([1.0, 2.0, 3.0, 4.0], (n, 1)), np.array([b"PoS1"] * n, dtype=object)
    return dict(bbox=[[*ids, boxes]]) | (dict(segm=[[*ids, codes]]) if masks else {})


def test_results_are_written_in_lvis_format(tmp_path):
    path = tmp_path / "detections.json"
    with results_file(path, SIZES) as write:
        write(image(7, 0.5, 0.25))
        write(image(8))
        write(image(9, 0.125))
        assert not path.exists()
    found = json.loads(path.read_text())
    assert [(one["image_id"], one["score"]) for one in found] == [(7, 0.5), (7, 0.25), (9, 0.125)]
    box = dict(image_id=9, category_id=3, score=0.125, bbox=[1, 2, 3, 4])
    assert found[2] == box | dict(segmentation=dict(size=[32, 48], counts="PoS1"))


def test_boxes_alone_have_no_segmentation(tmp_path):
    with results_file(tmp_path / "detections.json", SIZES) as write:
        write(image(9, 0.125, masks=False))
    box = dict(image_id=9, category_id=3, score=0.125, bbox=[1, 2, 3, 4])
    assert json.loads((tmp_path / "detections.json").read_text()) == [box]


def test_no_results_are_an_empty_list(tmp_path):
    with results_file(tmp_path / "detections.json", SIZES):
        pass
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_interrupted_results_leave_what_was_there(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), results_file(path, SIZES) as write:
        write(image(7, 0.5))
        raise KeyboardInterrupt
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]
