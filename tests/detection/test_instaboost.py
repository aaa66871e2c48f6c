import random
import sys

import numpy as np
import pytest
from mmdet.datasets import LVISV1Dataset
from mmdet.datasets.transforms import InstaBoost
from mmdet.registry import TRANSFORMS
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils

from fasa.detection.instaboost import CompatibleInstaBoost, uncompressed
from fasa.errors import UserError

SIZE = 96
COLORS = np.array([[200, 60, 90], [40, 220, 130], [10, 10, 10]])  # of two objects and the background


def annotations(results):
    """What a training pipeline reads after the augmentation: classes, boxes and masks as pixels."""
    init_default_scope("mmdet")
    load = TRANSFORMS.build(dict(type="LoadAnnotations", with_bbox=True, with_mask=True))
    sample = TRANSFORMS.build(dict(type="PackDetInputs", meta_keys=()))(load(results))["data_samples"]
    objects = sample.gt_instances
    return objects.labels.numpy(), objects.bboxes.tensor.numpy(), objects.masks.masks.astype(bool)


def compressed(mask):
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return rle | dict(counts=rle["counts"].decode())


def box_of(mask):
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.fixture
def two_frames():
    """Two flat frames with square holes, class 7 and class 3, far apart on a flat background."""
    masks = np.zeros((2, SIZE, SIZE), dtype=bool)
    masks[0, 14:44, 15:46] = masks[1, 52:80, 50:82] = True
    masks[0, 24:34, 25:36] = masks[1, 60:70, 60:72] = False
    img = COLORS[np.where(masks.any(0), masks.argmax(0), 2)].astype(np.uint8)
    instances = [
        dict(bbox=list(map(float, box_of(mask))), bbox_label=label, ignore_flag=0, mask=compressed(mask))
        for mask, label in zip(masks, (7, 3), strict=True)
    ]
    return dict(img=img, img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), instances=instances), masks


@pytest.fixture
def scene(tiny_glyphs):
    """Makes image i of the tiny data set as a pipeline has it before the annotations are loaded."""
    from mmcv.transforms import LoadImageFromFile

    dataset = LVISV1Dataset(
        data_root=str(tiny_glyphs), ann_file="annotations/train.json", data_prefix=dict(img=""), pipeline=[]
    )
    return lambda i: LoadImageFromFile()(dataset[i])


@pytest.mark.parametrize("seed", range(5))
def test_moved_objects_are_where_their_masks_and_boxes_say(two_frames, seed):
    results, before = two_frames
    random.seed(seed)
    results = CompatibleInstaBoost(aug_ratio=1.0, color_prob=0.0)(results)
    labels, boxes, masks = annotations(results)
    assert labels.tolist() == [7, 3]
    nearest = np.abs(results["img"][..., None, :] - COLORS).sum(-1).argmin(-1)
    for k, (mask, old, box) in enumerate(zip(masks, before, boxes, strict=True)):
        assert not np.array_equal(mask, old)
        assert 0.8**2 * 0.9 < mask.sum() / old.sum() < 1.2**2 * 1.1
        np.testing.assert_array_equal(box, box_of(mask))
        seen, inner, outer = nearest == k, mask, mask
        for axis in (0, 1):  # edges are interpolated: there the colour may be a pixel off
            inner = inner & np.roll(inner, 1, axis) & np.roll(inner, -1, axis)
            outer = outer | np.roll(outer, 1, axis) | np.roll(outer, -1, axis)
        assert seen[inner].all() and not seen[~outer].any()
        assert (seen & mask).sum() / (seen | mask).sum() > 0.9


def test_without_moves_the_masks_stay_as_they_are_holes_included(two_frames):
    results, before = two_frames
    still = CompatibleInstaBoost(aug_ratio=1.0, color_prob=0.0, action_prob=(0, 0, 1))
    np.testing.assert_array_equal(annotations(still(results))[2], before)


def test_polygons_with_several_contours_which_the_package_alone_refuses(two_frames):
    results, _ = two_frames
    results["instances"][0]["mask"] = [
        [15, 14, 45, 14, 45, 20, 15, 20],
        [15, 30, 40, 30, 40, 43, 30, 43, 15, 36],
    ]
    results["instances"][1]["mask"] = [[50, 52, 82, 52, 82, 80, 50, 80]]
    with pytest.raises(ValueError, match="inhomogeneous"):
        InstaBoost(aug_ratio=1.0)(results)
    random.seed(0)
    _, boxes, masks = annotations(CompatibleInstaBoost(aug_ratio=1.0)(results))
    assert masks.any((1, 2)).all()
    np.testing.assert_array_equal(boxes, [box_of(mask) for mask in masks])


def test_aug_ratio_0_changes_nothing(scene):
    before, after = scene(0), CompatibleInstaBoost(aug_ratio=0.0)(scene(0))
    np.testing.assert_array_equal(after["img"], before["img"])
    for got, want in zip(annotations(after), annotations(before), strict=True):
        np.testing.assert_array_equal(got, want)


def test_half_of_the_images_are_augmented_and_none_loses_an_object(scene):
    random.seed(0), np.random.seed(0)
    augment, changed = CompatibleInstaBoost(), 0
    for i in [*range(12)] * 5:
        before = scene(i)
        after = augment(scene(i))
        changed += not np.array_equal(after["img"], before["img"])
        labels, boxes, masks = annotations(after)
        assert sorted(labels) == sorted(annotations(before)[0])
        np.testing.assert_array_equal(boxes, [box_of(mask) for mask in masks])
    assert 20 <= changed <= 40


def test_the_global_generators_decide(scene):
    augment = CompatibleInstaBoost(aug_ratio=1.0)

    def run(seed):
        random.seed(seed), np.random.seed(seed)
        return [augment(scene(i)) for i in range(3)]

    first, again, other = run(0), run(0), run(1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["img"], b["img"])
        assert a["instances"] == b["instances"]
    assert any(a["instances"] != b["instances"] for a, b in zip(first, other, strict=True))


def test_ignored_objects_stay_and_objects_without_a_pixel_go(two_frames):
    results, before = two_frames
    results["instances"][1]["ignore_flag"] = 1
    results["instances"].append(
        dict(bbox=[1.0, 1, 2, 2], bbox_label=5, ignore_flag=0, mask=compressed(np.zeros((SIZE, SIZE))))
    )
    results = CompatibleInstaBoost(aug_ratio=1.0)(results)
    assert [(i["bbox_label"], i["ignore_flag"]) for i in results["instances"]] == [(7, 0), (3, 1)]
    np.testing.assert_array_equal(mask_utils.decode(results["instances"][1]["mask"]), before[1])
    assert annotations(results)[0].tolist() == [7]


def test_an_image_left_without_objects_loads(two_frames):
    results, _ = two_frames
    for instance in results["instances"]:
        instance["mask"] = compressed(np.zeros((SIZE, SIZE)))
    labels, boxes, masks = annotations(CompatibleInstaBoost(aug_ratio=1.0)(results))
    assert (labels.shape, boxes.shape, masks.shape) == ((0,), (0, 4), (0, SIZE, SIZE))


@pytest.mark.parametrize(
    "mask", [[[0, 1], [1, 1]], [[1, 0], [0, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]], [[1, 1, 0], [0, 0, 1]]]
)
def test_uncompressed_rle_is_the_same_mask(mask):
    mask = np.array(mask, dtype=np.uint8)
    rle = uncompressed(compressed(mask), *mask.shape)
    np.testing.assert_array_equal(mask_utils.decode(mask_utils.frPyObjects(rle, *mask.shape)), mask)
    assert uncompressed(rle, *mask.shape) is rle


def test_polygons_become_what_they_are_when_rasterized():
    rle = uncompressed([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6)
    want = np.zeros((5, 6))
    want[1:3, 1:4] = 1
    np.testing.assert_array_equal(mask_utils.decode(mask_utils.frPyObjects(rle, 5, 6)), want)


@pytest.mark.parametrize("action", ["horizontal", "vertical"])
def test_flips_are_refused(action):
    with pytest.raises(UserError, match=f"cannot flip: set action_prob of {action} to 0"):
        CompatibleInstaBoost(action_candidate=("normal", action), action_prob=(0.5, 0.5))


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "instaboostfast", None)
    with pytest.raises(UserError, match=r"needs the package instaboostfast .*: pip install .*") as error:
        TRANSFORMS.build(dict(type="CompatibleInstaBoost"))
    assert "\n" not in str(error.value)


NO_MASK = {
    "no polygon": [],
    "an empty polygon": [[]],
    "two points": [[5.0, 5.0, 25.0, 25.0]],
    "half a point": [[5.0, 5.0, 25.0, 25.0, 5.0, 25.0, 7.0]],
    "not finite": [[5.0, 5.0, 25.0, float("nan"), 5.0, 25.0]],
    "far away": [[5.0, 5.0, 25.0, 1e9, 5.0, 25.0]],
    "RLE of another size": dict(size=[9, 9], counts=[40, 41]),
}


@pytest.mark.parametrize("name", NO_MASK)
@pytest.mark.parametrize("alone", [True, False])
def test_objects_without_a_mask_stay_as_they_are(two_frames, name, alone):
    results, _ = two_frames
    odd = dict(bbox=[5.0, 5.0, 25.0, 25.0], bbox_label=1, ignore_flag=0, mask=NO_MASK[name])
    results["instances"] = [odd] if alone else [results["instances"][0], odd, results["instances"][1]]
    image = results["img"].copy()
    random.seed(0), np.random.seed(0)
    results = CompatibleInstaBoost(aug_ratio=1.0, color_prob=0.0)(results)
    assert odd in results["instances"] and odd["mask"] is NO_MASK[name]
    assert np.array_equal(image, results["img"]) == alone
    assert sorted(one["bbox_label"] for one in results["instances"]) == ([1] if alone else [1, 3, 7])
