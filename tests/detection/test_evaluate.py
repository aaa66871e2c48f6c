import json
import math

import numpy as np
import pytest

from fasa.judging import Writer, measured


def test_means_over_no_class_are_left_out():
    assert measured("segm", "old", dict(AP=1.0, APr=math.nan)) == dict(segm_AP=1.0)
    assert measured("bbox", "fixed", dict(AP=1.0, APr=math.nan)) == dict(bbox_fixed_AP=1.0)


def columns(image, *scores):
    n = len(scores)
    return (
        np.full(n, image),
        np.full(n, 3),
        np.array(scores),
        np.tile([1.0, 2.0, 3.0, 4.0], (n, 1)),
        np.array([b"PoS1"] * n, dtype=object),
    )


def test_results_are_written_in_lvis_format(tmp_path):
    path = tmp_path / "detections.json"
    with Writer(path) as writer:
        writer.write([64, 48], *columns(7, 0.5, 0.25))
        writer.write([64, 48], *columns(8))
        writer.write([32, 48], *columns(9, 0.125))
        assert not path.exists()
    found = json.loads(path.read_text())
    assert [(one["image_id"], one["score"]) for one in found] == [(7, 0.5), (7, 0.25), (9, 0.125)]
    assert found[2] == dict(
        image_id=9,
        category_id=3,
        score=0.125,
        bbox=[1, 2, 3, 4],
        segmentation=dict(size=[32, 48], counts="PoS1"),
    )


def test_no_results_are_an_empty_list(tmp_path):
    with Writer(tmp_path / "detections.json"):
        pass
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_interrupted_results_leave_what_was_there(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), Writer(path) as writer:
        writer.write([64, 48], *columns(7, 0.5))
        raise KeyboardInterrupt
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]
