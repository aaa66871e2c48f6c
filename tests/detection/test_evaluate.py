import json
import math

import numpy as np
import pytest
import torch
from jobs import job

import fasa
from fasa.data import lvis
from fasa.detection.evaluate import measured, remarks, results_file, seen


def test_means_over_no_class_are_left_out():
    assert measured("segm", "old", dict(AP=1.0, APr=math.nan)) == dict(segm_AP=1.0)
    assert measured("bbox", "fixed", dict(AP=1.0, APr=math.nan)) == dict(bbox_fixed_AP=1.0)


def test_how_visible_rare_objects_are_by_hand():
    best, image = np.array([0.9, np.nan, 0.2]), np.array([0, 0, 2])
    found = seen(best, image, np.array([[1, 1, 1], [0, 5, 2], [0, 1, 0]]))
    np.testing.assert_allclose(found["score"], [110 / 3, 20, np.nan])
    np.testing.assert_allclose(found["missed"], [200 / 3, 100, np.nan])


def test_remarks_are_of_rows_whose_method_they_are_about(tiny_glyphs, tmp_path):
    assert remarks(job(tiny_glyphs), tmp_path) == {}
    told = remarks(job(tiny_glyphs, rfs=dict(threshold=1.0)), tmp_path)
    train = lvis.read_annotations(tiny_glyphs / "annotations" / "train.json")
    groups = set(lvis.frequencies(train))
    assert told.keys() == {f"{name}_{group}" for name in ("rfs", "rfs_up") for group in groups}
    assert all(told[f"rfs_up_{group}"] >= told[f"rfs_{group}"] > 1 for group in groups)

    counts = lvis.instance_counts(train)
    tail = int(sorted(counts)[1])
    mixing = fasa.CAMMixing(6, 1, bank=0, tail=tail)
    mixing.counts.copy_(torch.tensor(counts))
    mixing.confusion.fill_(1 / 6)
    mixing.seen.fill_(1)
    path = tmp_path / "cam.pth"
    state = {f"roi_head.bbox_head.augmenter.{name}": value for name, value in mixing.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    told = remarks(job(tiny_glyphs, augmenter=dict(type="CAMMixing", bank=2, tail=tail)), path)
    assert list(told) == [f"cam_{share}_{size}" for size in (1, 2, 4, 8) for share in ("some", "every")]
    assert told["cam_some_8"] >= told["cam_some_2"] and told["cam_some_8"] >= told["cam_every_8"] > 0


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
