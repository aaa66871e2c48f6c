import numpy as np
import pycocotools.mask
import pytest
import torch
from jobs import job

import fasa
from fasa.data import lvis
from fasa.detection import keep
from fasa.detection.keep import rare_objects, remarks, scenes, seen
from fasa.evaluation import Detections, read_ground_truth
from fasa.evaluation.masks import Masks


def test_how_visible_rare_objects_are_by_hand():
    best, image = np.array([0.9, np.nan, 0.2]), np.array([0, 0, 2])
    found = seen(best, image, np.array([[1, 1, 1], [0, 5, 2], [0, 1, 0]]))
    np.testing.assert_allclose(found["score"], [110 / 3, 20, np.nan])
    np.testing.assert_allclose(found["low"], [200 / 3, 100, np.nan])
    np.testing.assert_allclose(found["missed"], [100 / 3, 0, np.nan])


def filled(x, width):
    """The mask of columns x to x + width of an image of 8 x 8."""
    mask = np.zeros((8, 8), np.uint8, order="F")
    mask[:, x : x + width] = 1
    return pycocotools.mask.encode(mask)


def glyphs(objects, found, frequency="rr"):
    """Annotations and detections of two images of 8 x 8 and classes 5 and 6.

    Args:
        objects: image, class, x.
        found: image, class, score, x, width.
    """
    things = [
        dict(id=i, image_id=image, category_id=c, bbox=[x, 0, 4, 8], area=32, segmentation=filled(x, 4))
        for i, (image, c, x) in enumerate(objects)
    ]
    image = dict(height=8, width=8, neg_category_ids=[], not_exhaustive_category_ids=[])
    gt = dict(
        images=[image | dict(id=i) for i in (1, 2)],
        categories=[dict(id=c, name=str(c), frequency=f) for c, f in zip((5, 6), frequency, strict=True)],
        annotations=things,
    )
    for thing in things:
        thing["segmentation"]["counts"] = thing["segmentation"]["counts"].decode()
    columns = [np.array(column) for column in zip(*found, strict=True)]
    masks = [filled(x, width)["counts"] for *_, x, width in found]
    boxes = np.array([[x, 0, width, 8] for *_, x, width in found], float)
    return gt, dict(segm=Detections(*columns[:3], Masks.of(masks)), bbox=Detections(*columns[:3], boxes))


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_of_each_object_the_best_detection_is_kept(kind, monkeypatch):
    """Three objects: one found twice, one only by another class, and one in another image by two alike."""
    monkeypatch.setattr(keep, "PICTURES", 3)
    found = [(2, 6, 0.5, 1, 4), (1, 5, 0.9, 0, 3), (1, 5, 0.2, 0, 4), (1, 6, 0.8, 4, 4), (2, 6, 0.5, 0, 4)]
    gt, best = glyphs([(1, 5, 0), (1, 5, 4), (2, 6, 0)], found)
    masks = [filled(x, width)["counts"] for *_, x, width in found]
    if kind == "bbox":
        del best["segm"]
    rare = rare_objects(read_ground_truth(gt, kind), best, np.arange(3))
    np.testing.assert_array_equal(rare.score, [0.9, np.nan, 0.5])
    np.testing.assert_array_equal(rare.iou, [0.75, np.nan, 1])
    np.testing.assert_array_equal(rare.box, [[0, 0, 3, 8], [np.nan] * 4, [0, 0, 4, 8]])
    assert rare.mask == ([masks[1], b"", masks[4]] if kind == "segm" else [b""] * 3)
    monkeypatch.setattr(keep, "PICTURES", 2)
    assert rare_objects(read_ground_truth(gt, kind), best, np.arange(3)).pictured.tolist() == [0, 2]


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_of_a_few_scenes_all_that_is_shown_is_kept(kind, monkeypatch):
    """Image 2 has the rare object, image 1 more objects."""
    found = [(1, 5, 0.9, 0, 3), (2, 6, 0.3, 1, 4), (2, 5, 0.8, 4, 2), (2, 6, 0.29, 0, 4)]
    gt, best = glyphs([(1, 5, 0), (1, 5, 4), (2, 6, 0)], found, frequency="fr")
    gt = read_ground_truth(gt, kind)
    if kind == "bbox":
        del best["segm"]
    every = scenes(gt, best)
    assert every.image.tolist() == [2, 1] and every.place.tolist() == [1, 0, 0]
    assert every.category.tolist() == [5, 6, 5] and every.score.tolist() == [0.9, 0.3, 0.8]
    assert every.box.tolist() == [[0, 0, 3, 8], [1, 0, 4, 8], [4, 0, 2, 8]]
    masks = [filled(x, width)["counts"] for *_, x, width in found[:3]]
    assert every.mask == (masks if kind == "segm" else [b""] * 3)
    monkeypatch.setattr(keep, "SCENES", 1)
    assert scenes(gt, best).image.tolist() == [2] and scenes(gt, best).place.tolist() == [0, 0]


def test_remarks_are_of_rows_whose_method_they_are_about(tiny_glyphs, tmp_path):
    assert remarks(job(tiny_glyphs), tmp_path) == {}
    told = remarks(job(tiny_glyphs, rfs=dict(threshold=1.0)), tmp_path)
    train = lvis.read_annotations(tiny_glyphs / "annotations" / "train.json")
    groups = set(lvis.frequencies(train))
    assert told.keys() == {f"{name}_{group}" for name in ("rfs", "rfs_up") for group in groups}
    assert all(told[f"rfs_up_{group}"] >= told[f"rfs_{group}"] > 1 for group in groups)

    counts = lvis.instance_counts(train)
    tail = int(sorted(counts)[-2])  # of the six classes one or two are head classes
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
