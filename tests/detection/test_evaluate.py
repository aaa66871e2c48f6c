import json
import math

import numpy as np
import pytest
import torch
from jobs import job

import fasa
from fasa.data import lvis
from fasa.detection.evaluate import joined, measured, remarks, seen, taken, write_results
from fasa.evaluation import Detections


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
