import dataclasses
import os

import numpy as np
import pytest

from fasa.errors import UserError
from fasa.evaluation import (
    FIXED,
    OLD,
    POOL,
    Detections,
    Matcher,
    Matches,
    judge,
    match,
    read_detections,
    read_ground_truth,
)

pytestmark = pytest.mark.usefixtures("path")


def test_saved_matches_are_the_same_when_loaded_and_the_same_bytes_when_saved_again(make_federated, tmp_path):
    matches = match(*make_federated(1))
    assert matches.matched.any() and matches.ignored.any()
    matches.save(tmp_path / "first.npz")
    loaded = Matches.load(tmp_path / "first.npz")
    for field in dataclasses.fields(Matches):
        expected = getattr(matches, field.name)
        np.testing.assert_array_equal(getattr(loaded, field.name), expected)
        assert getattr(loaded, field.name).dtype == expected.dtype
    loaded.save(tmp_path / "second.npz")
    os.utime(tmp_path / "second.npz", (0, 0))
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["first.npz", "second.npz"]


def test_what_is_not_matches_says_so(make_federated, tmp_path):
    path = tmp_path / "matches.npz"
    match(*make_federated(1)).save(path)
    whole = path.read_bytes()
    with path.open("wb") as other:
        np.savez(other, something=np.zeros(3))
    contents = [path.read_bytes(), whole[: len(whole) // 2], b"", b"text"]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"matches\.npz: cannot read matches .*; evaluate again"):
            Matches.load(path)
    with pytest.raises(UserError, match=r"gone\.npz"):
        Matches.load(tmp_path / "gone.npz")


def matched_by_score(object_boxes, detection_boxes):
    """At how many thresholds each detection, best first, finds one of the objects."""
    image = {"id": 1, "height": 99, "width": 99, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    here = {"image_id": 1, "category_id": 1}
    gt = {
        "images": [image],
        "categories": [{"id": 1, "frequency": "r"}],
        "annotations": [here | {"area": 100, "bbox": box} for box in object_boxes],
    }
    detections = [here | {"bbox": box, "score": 1 - i / 10} for i, box in enumerate(detection_boxes)]
    return np.bitwise_count(match(gt, detections[::-1], "bbox").matched[:, 0]).tolist()


def test_an_object_is_found_once():
    square, part = [0, 0, 10, 10], [0, 0, 10, 8]
    found = matched_by_score([part, square, square], [square] * 4)
    assert found == [10, 10, 7, 0]  # IoU 1, 1, then 0.8: at .5, .55, .., .8


def test_of_objects_with_equal_iou_the_last_is_taken():
    left, middle, right = [0, 0, 20, 10], [2, 0, 20, 10], [4, 0, 20, 10]
    assert matched_by_score([left, right], [middle, left]) == [7, 10]  # IoU 18 / 22, 1
    assert matched_by_score([right, left], [middle, left]) == [
        7,
        7,
    ]  # 16 / 24 up to .65; above, middle found none


def by_image(dt):
    """One image after the other, in no order, as a detector would find them."""
    images = np.unique(dt.image_id)
    for image in np.random.default_rng(0).permutation(images):
        mine = np.flatnonzero(dt.image_id == image)
        shape = dt.shape[mine] if isinstance(dt.shape, np.ndarray) else [dt.shape[n] for n in mine]
        yield mine, Detections(dt.image_id[mine], dt.category_id[mine], dt.score[mine], shape)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(6))
def test_a_stream_gives_what_all_at_once_gives(make_federated, iou_type, seed):
    """Also with caps so small that it prunes all the time, and where what is not wanted never comes."""
    gt, detections = make_federated(seed, n_images=12, n_classes=4, most_detections=60)
    whole = match(gt, detections, iou_type)
    gt = read_ground_truth(gt, iou_type)
    old, fixed = OLD._replace(per_image=9), FIXED._replace(per_class=20)
    plain, thrifty = Matcher(gt), Matcher(gt, [old, fixed])
    unwanted = 0
    for place, here in by_image(read_detections(detections, gt)):
        plain.add(here, place)
        wanted = np.flatnonzero(thrifty.wanted(here.category_id, here.score))
        unwanted += len(here.score) - len(wanted)
        shape = here.shape[wanted] if iou_type == "bbox" else [here.shape[n] for n in wanted]
        kept = Detections(here.image_id[wanted], here.category_id[wanted], here.score[wanted], shape)
        thrifty.add(kept, place[wanted])
    assert unwanted > 20
    plain = plain.matches()
    for field in dataclasses.fields(Matches):
        np.testing.assert_array_equal(getattr(plain, field.name), getattr(whole, field.name))
    thrifty = thrifty.matches()
    assert len(thrifty.score) < len(whole.score)
    for protocol in (old, fixed, POOL._replace(per_class=20)):
        expected, result = judge(whole, protocol), judge(thrifty, protocol)
        assert result.summary == pytest.approx(expected.summary, abs=0, nan_ok=True)
        np.testing.assert_array_equal(result.precision, expected.precision)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_matchers_that_share_images_give_together_what_one_gives(make_federated, iou_type, seed, tmp_path):
    """To the byte, whatever each had left out; one of them has no image at all."""
    gt, detections = make_federated(seed, n_images=12, n_classes=4, most_detections=60)
    gt = read_ground_truth(gt, iou_type)
    protocols = [OLD._replace(per_image=9), FIXED._replace(per_class=20)]
    alone, *sharing = (Matcher(gt, protocols) for _ in range(4))
    pruned = 0
    for turn, (place, here) in enumerate(by_image(read_detections(detections, gt))):
        for matcher in (alone, sharing[turn % 2]):
            wanted = np.flatnonzero(matcher.wanted(here.category_id, here.score))
            pruned += len(here.score) - len(wanted)
            shape = here.shape[wanted] if iou_type == "bbox" else [here.shape[n] for n in wanted]
            kept = Detections(here.image_id[wanted], here.category_id[wanted], here.score[wanted], shape)
            matcher.add(kept, place[wanted])
    first, *others = sharing
    for other in others:
        first.merge(other.share())
    assert pruned > 20 and len(alone.matches().score) > 40
    for name, matcher in (("alone", alone), ("together", first)):
        matcher.matches().save(tmp_path / f"{name}.npz")
    assert (tmp_path / "alone.npz").read_bytes() == (tmp_path / "together.npz").read_bytes()


def test_an_annotation_of_id_0_can_be_found():
    """lvis-api marks a detection with the id of its object, and takes 0 for none."""
    image = {"id": 1, "height": 99, "width": 99, "neg_category_ids": [], "not_exhaustive_category_ids": []}
    thing = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100}
    gt = {"images": [image], "categories": [{"id": 1, "frequency": "r"}], "annotations": [thing]}
    assert judge(match(gt, [thing | {"score": 0.5}], "bbox")).summary["AP"] == pytest.approx(100)


def test_an_image_is_added_once(make_federated):
    gt, dt = make_federated(1)
    gt = read_ground_truth(gt, "bbox")
    dt = read_detections(dt, gt)
    matcher = Matcher(gt)
    matcher.add(dt)
    ap = judge(matcher.matches()).summary["AP"]
    with pytest.raises(UserError, match=r"image \d+ was added before; add all of an image at once"):
        matcher.add(Detections(*(column[-1:] for column in dt)))
    assert judge(matcher.matches()).summary["AP"] == ap


@pytest.mark.parametrize("place", [np.zeros(1, np.int64), np.array(3), 0.5])
def test_a_place_is_that_of_each_detection(make_federated, place):
    gt, dt = make_federated(1)
    gt = read_ground_truth(gt, "bbox")
    dt = read_detections(dt, gt)
    place = np.full(len(dt.score), place) if isinstance(place, float) else place
    with pytest.raises(UserError, match="place is .*, not a whole number for each of"):
        Matcher(gt).add(dt, place)
