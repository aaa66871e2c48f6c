"""Against lvis-api on random federated data, and by hand."""

import copy
import json
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lvis import LVIS, LVISEval, LVISResults
from pycocotools import mask as mask_utils

from fasa.errors import UserError
from fasa.evaluation import FIXED, OLD, POOL, Protocol, evaluate, judge, match, read_ground_truth, tide

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated"),  # lvis-api logs with it
    pytest.mark.usefixtures("path"),
]

BOX, MASK = {"iou_type": "bbox"}, {"iou_type": "segm"}
FEW = Protocol("fixed", per_image=None, per_class=7, pooled=False)  # so few that the cap cuts


class InMemoryLVIS(LVIS):
    def _load_json(self, content):
        return copy.deepcopy(content)


def lvis_api(gt, detections, iou_type, max_dets=300):
    """(T, R, K) precision and the summary of lvis-api, both in its own units: 1, and -1 for not measured."""
    dropped = (
        "bbox" if iou_type == "segm" else "segmentation"
    )  # else it takes the area of the box for that of the mask
    detections = [{k: v for k, v in d.items() if k != dropped} for d in detections]
    gt = InMemoryLVIS(gt)
    with mock.patch.object(np, "float", float, create=True):
        reference = LVISEval(gt, LVISResults(gt, detections, max_dets=max_dets), iou_type)
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    summary = {name.partition("@")[0]: value for name, value in reference.get_results().items()}
    return reference.eval["precision"][..., 0], summary


def best_of_each_class(detections, cap):
    """The oracle of AP_Fixed's cap: of equal scores those that come first."""
    kept, n = [], Counter()
    for place in sorted(range(len(detections)), key=lambda i: -detections[i]["score"]):
        category = detections[place]["category_id"]
        n[category] += 1
        if n[category] <= cap:
            kept.append(place)
    return [detections[place] for place in sorted(kept)]


def assert_equals_lvis_api(gt, detections, iou_type, protocol=OLD):
    result = evaluate(gt, detections, protocol, iou_type)
    if protocol.per_class:
        detections = best_of_each_class(detections, protocol.per_class)
    expected, expected_summary = lvis_api(gt, detections, iou_type, protocol.per_image or -1)
    np.testing.assert_allclose(
        np.where(np.isnan(result.precision), -1, result.precision), expected, rtol=0, atol=1e-12
    )
    assert result.summary.keys() == expected_summary.keys()
    for name, value in expected_summary.items():
        wanted = np.nan if value == -1 else 100 * value
        np.testing.assert_allclose(result.summary[name], wanted, rtol=0, atol=1e-10, err_msg=name)
    np.testing.assert_allclose(
        np.where(np.isnan(result.per_class), -100, result.per_class),
        100 * expected.mean(axis=(0, 1)),
        atol=1e-10,
    )


@pytest.mark.parametrize("protocol", [OLD, FEW])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_images=st.integers(1, 6),
    n_classes=st.integers(1, 6),
    most_detections=st.integers(1, 60),
    scale=st.sampled_from([1, 14]),  # boxes of all sizes
)
def test_equals_lvis_api(
    make_federated, protocol, iou_type, seed, n_images, n_classes, most_detections, scale
):
    gt, detections = make_federated(seed, n_images, n_classes, most_detections, scale=scale)
    if detections:  # lvis-api fails on none
        assert_equals_lvis_api(gt, detections, iou_type, protocol)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_lvis_api_where_the_cap_cuts_through_equal_scores(make_federated, iou_type, seed):
    gt, detections = make_federated(seed, n_images=2, n_classes=3, most_detections=900)
    assert max(sum(d["image_id"] == image["id"] for d in detections) for image in gt["images"]) > 300
    assert_equals_lvis_api(gt, detections, iou_type)


def pooled_ap(gt, detections, iou_type, members, cap):
    """AP_Pool from its definition: match each class, then walk down one list of all detections."""
    size = {image["id"]: image for image in gt["images"]}
    objects = [a for a in gt["annotations"] if a["area"] > 0 and a["category_id"] in members]
    kept = [d for d in best_of_each_class(detections, cap) if d["category_id"] in members]

    def shape(thing):
        return thing["bbox" if iou_type == "bbox" else "segmentation"]

    def counts(d):
        image, here = (
            size[d["image_id"]],
            {o["category_id"] for o in objects if o["image_id"] == d["image_id"]},
        )
        area = d["bbox"][2] * d["bbox"][3] if iou_type == "bbox" else mask_utils.area(shape(d))
        return area > 0 and d["category_id"] in here | set(image["neg_category_ids"])

    kept = sorted(filter(counts, kept), key=lambda d: (-d["score"], d["image_id"], d["category_id"]))
    n_objects = sum(not o["ignore"] for o in objects)
    if not n_objects:
        return np.nan
    aps = []
    for threshold in np.linspace(0.5, 0.95, 10):
        taken, outcomes = set(), []
        for d in kept:
            same = [
                o for o in objects if (o["image_id"], o["category_id"]) == (d["image_id"], d["category_id"])
            ]
            near = [
                (not o["ignore"], mask_utils.iou([shape(d)], [shape(o)], [0]).item(), o["id"])
                for o in same
                if o["id"] not in taken
            ]
            near = [one for one in near if one[1] >= min(threshold, 1 - 1e-10)]
            partial = d["category_id"] in size[d["image_id"]]["not_exhaustive_category_ids"]
            if near:
                taken.add(max(near)[2])
            outcomes.append((d["score"], max(near)[0] if near else None if partial else False, bool(near)))
        tp = fp = 0
        curve = []
        for _, right, found in sorted(outcomes, key=lambda outcome: -outcome[0]):
            if found and right:
                tp += 1
            elif not found and right is False:
                fp += 1
            curve.append((tp / n_objects, tp / max(tp + fp, 1)))
        aps.append(
            np.mean([max([p for r, p in curve if r >= at], default=0) for at in np.linspace(0, 1, 101)])
        )
    return 100 * np.mean(aps)


some_pools = dict(
    seed=st.integers(0, 2**32 - 1),
    n_images=st.integers(1, 4),
    n_classes=st.integers(1, 6),
    most_detections=st.integers(1, 40),
    cap=st.sampled_from([7, POOL.per_class]),
)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=40, deadline=None)
@given(**some_pools)
def test_pool_equals_its_definition(
    make_federated, iou_type, seed, n_images, n_classes, most_detections, cap
):
    gt, detections = make_federated(seed, n_images, n_classes, most_detections)
    summary = evaluate(gt, detections, POOL._replace(per_class=cap), iou_type).summary
    for name in ("AP", "APr", "APc", "APf"):
        members = {c["id"] for c in gt["categories"] if name[2:] in ("", c["frequency"])}
        expected = pooled_ap(gt, detections, iou_type, members, cap)
        assert summary[name] == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def devils_pools(gt, detections, iou_type, cap):
    """AP_Pool as large-vocab-devil (Dave et al., 2021) pools what lvis-api matched, ties included.

    lvis-api lists the outcomes of a class in an image from the best score down; here they stand one image
    after the other, in each one class after the other, and a stable sort by score keeps that among equals.
    """
    dropped = "bbox" if iou_type == "segm" else "segmentation"
    kept = [{k: v for k, v in d.items() if k != dropped} for d in best_of_each_class(detections, cap)]
    truth = InMemoryLVIS(gt)
    reference = LVISEval(truth, LVISResults(truth, kept, max_dets=-1), iou_type)
    reference.params.area_rng = reference.params.area_rng[:1]
    reference.evaluate()
    classes, images = sorted(c["id"] for c in gt["categories"]), sorted(i["id"] for i in gt["images"])
    cells = dict(zip(((c, i) for c in classes for i in images), reference.eval_imgs, strict=True))
    frequency = {c["id"]: c["frequency"] for c in gt["categories"]}
    pools = {}
    for group in ("", "r", "c", "f"):
        mine = [cells[c, i] for i in images for c in classes if group in ("", frequency[c])]
        mine = [cell for cell in mine if cell is not None]
        n_objects = sum(int((cell["gt_ignore"] == 0).sum()) for cell in mine)
        pools[f"AP{group}"] = np.nan
        if not n_objects:
            continue
        scores = [score for cell in mine for score in cell["dt_scores"]]
        order = sorted(range(len(scores)), key=lambda d: -scores[d])
        aps = []
        for t in range(10):
            found = np.concatenate([cell["dt_matches"][t] for cell in mine])[order] > 0
            counts = np.concatenate([cell["dt_ignore"][t] for cell in mine])[order] == 0
            tp = np.cumsum(found & counts)
            precision, recall = tp / (np.cumsum(counts) + np.spacing(1)), tp / n_objects
            aps += [max(precision[recall >= r], default=0) for r in np.linspace(0, 1, 101)]
        pools[f"AP{group}"] = 100 * np.mean(aps)
    return pools


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=40, deadline=None)
@given(**some_pools)
def test_pool_equals_large_vocab_devil_where_scores_tie(
    make_federated, iou_type, seed, n_images, n_classes, most_detections, cap
):
    gt, detections = make_federated(seed, n_images, n_classes, most_detections)
    if detections:  # lvis-api fails on none
        summary = evaluate(gt, detections, POOL._replace(per_class=cap), iou_type).summary
        for name, expected in devils_pools(gt, detections, iou_type, cap).items():
            assert summary[name] == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True), name


def test_of_equal_scores_in_the_pool_the_lower_image_comes_first_then_the_lower_class():
    gt = square_world(neg_category_ids=[2])
    gt["images"].append(gt["images"][0] | {"id": 2})
    hit, miss = box(0, 0, 0.5), box(200, 0, 0.5, category_id=2)
    for detections, expected in [
        ([miss | {"image_id": 2}, hit], 51 / 101),  # the hit is in the lower image
        ([miss, hit | {"image_id": 2}], 0),  # which finds no object there: image 2 has none
        ([miss, hit], 51 / 101),  # in one image the lower class
    ]:
        assert evaluate(gt, detections, POOL, "bbox").summary["AP"] == pytest.approx(100 * expected)
    gt["annotations"].append(gt["annotations"][0] | {"id": 9, "image_id": 2, "category_id": 2})
    late = box(0, 0, 0.5, category_id=2) | {"image_id": 2}
    early = box(200, 0, 0.5)
    # of 3 objects 1 is found, behind a miss of a lower image and class
    assert evaluate(gt, [late, early], POOL, "bbox").summary["AP"] == pytest.approx(100 * 34 / 101 / 2)


def square_world(n_objects=2, **image):
    """One image with objects of class 1 on the diagonal; a class 2 of which nothing is known."""
    image = {"neg_category_ids": [], "not_exhaustive_category_ids": [], **image}
    corners = [40 * i for i in range(n_objects)]
    return {
        "images": [{"id": 1, "height": 400, "width": 400, **image}],
        "categories": [{"id": 1, "frequency": "r"}, {"id": 2, "frequency": "f"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [c, c, 30, 30],
                "area": 900,
                "segmentation": [[c, c, c + 30, c, c + 30, c + 30, c, c + 30]],
            }
            for i, c in enumerate(corners)
        ],
    }


def box(x, y, score, category_id=1):
    return {"image_id": 1, "category_id": category_id, "bbox": [x, y, 30, 30], "score": score}


HIT_MISS_HIT = [box(0, 0, 0.9), box(200, 0, 0.8), box(40, 40, 0.7)]


def test_by_hand():
    result = evaluate(square_world(), HIT_MISS_HIT, **BOX)
    expected = 100 * (51 * 1 + 50 * 2 / 3) / 101  # precision 1 up to recall 0.5, then 2 / 3
    assert result.summary["AP"] == pytest.approx(expected)
    assert result.summary["APr"] == pytest.approx(expected) == result.summary["AP50"]
    assert np.isnan(result.summary["APf"])
    assert result.per_class == pytest.approx([expected, np.nan], nan_ok=True)


def test_equals_lvis_api_where_every_recall_point_is_met_exactly():
    """k / 100 and linspace(0, 1, 101)[k] are not always the same float: precision drops right behind each."""
    gt = square_world(n_objects=100, neg_category_ids=[2])
    hits = [box(40 * i, 40 * i, 1 - i / 100) for i in range(100)]
    misses = [box(4000, 0, 1 - i / 100 - 0.005) for i in range(100)]
    assert_equals_lvis_api(gt, hits + misses, "bbox")


def test_unmatched_detections_of_a_class_that_is_not_exhaustively_annotated_are_ignored():
    gt = square_world(not_exhaustive_category_ids=[1])
    assert evaluate(gt, HIT_MISS_HIT, **BOX).summary["AP"] == pytest.approx(100)


def test_a_detection_counts_only_where_its_class_is_annotated_or_negative():
    gt = square_world()
    gt["images"].append(gt["images"][0] | {"id": 2})
    elsewhere = box(0, 0, 1.0) | {"image_id": 2}
    assert evaluate(gt, [*HIT_MISS_HIT, elsewhere], **BOX).summary == pytest.approx(
        evaluate(gt, HIT_MISS_HIT, **BOX).summary, nan_ok=True
    )
    gt["images"][1]["neg_category_ids"] = [1]
    expected = 100 * 0.5  # miss, hit, miss, hit: precision 2 / 4 at the last, 1 / 2 before
    assert evaluate(gt, [*HIT_MISS_HIT, elsewhere], **BOX).summary["AP"] == pytest.approx(expected)


def test_only_the_best_300_of_an_image_take_part():
    others = [box(200, 0, 0.9, category_id=2)] * 299
    hit, worse_hit, equal_miss = box(0, 0, 0.8), box(40, 40, 0.7), box(200, 0, 0.8)
    for two, expected in [
        ([hit, worse_hit], 51 / 101),
        ([worse_hit, hit], 51 / 101),
        ([hit, equal_miss], 51 / 101),  # of equal scores the first
        ([equal_miss, hit], 0),
    ]:
        assert evaluate(square_world(), others + two, **BOX).summary["AP"] == pytest.approx(100 * expected)
        assert_equals_lvis_api(square_world(), others + two, "bbox")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_no_detections_give_0(iou_type):
    result = evaluate(square_world(), [], iou_type=iou_type)
    assert result.summary["AP"] == 0
    assert result.per_class == pytest.approx([0, np.nan], nan_ok=True)


def test_the_box_of_a_mask_does_not_matter_for_masks(make_federated):
    gt, detections = make_federated(5)
    without = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    assert evaluate(gt, detections).summary == pytest.approx(
        evaluate(gt, without).summary, abs=0, nan_ok=True
    )


def test_reads_paths_and_every_kind_of_segmentation(make_federated, tmp_path):
    gt, detections = make_federated(6)
    expected = evaluate(gt, detections).summary
    as_text = [
        d | {"segmentation": d["segmentation"] | {"counts": d["segmentation"]["counts"].decode()}}
        for d in detections
    ]
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "detections.json").write_text(json.dumps(as_text))
    assert evaluate(tmp_path / "gt.json", str(tmp_path / "detections.json")).summary == pytest.approx(
        expected, abs=0, nan_ok=True
    )

    world = square_world(n_objects=1)
    # uncompressed: lengths of runs down the columns, zeros first
    runs = {"size": [400, 400], "counts": [0, *[30, 370] * 29, 30, 370 + 400 * 370]}
    for ground_truth in (world["annotations"][0]["segmentation"], runs):
        world["annotations"][0]["segmentation"] = ground_truth
        assert evaluate(world, [box(0, 0, 1.0) | {"segmentation": runs}]).summary["AP"] == pytest.approx(100)


def wrong(**change):
    return [box(0, 0, 0.9) | change]


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        (wrong(score=float("nan")), "detections: entry 0 has score nan"),
        (wrong(image_id=7), "detections: entry 0 has image id 7, which is not among"),
        (wrong(category_id=9), "detections: entry 0 has category id 9, which is not among"),
        (wrong(bbox=[0, 0, float("inf"), 1]), "detections: entry 0 has bbox .*finite"),
        ([{"image_id": 1}], r"detections: \[0\]: Object missing required field `category_id`"),
        ({"results": []}, "detections: Expected `array`, got `object`"),
    ],
)
def test_bad_detections_say_what_is_wrong(detections, message):
    with pytest.raises(UserError, match=message) as error:
        evaluate(square_world(), detections, **BOX)
    assert "\n" not in str(error.value)


def test_a_mask_that_does_not_fit_its_image_says_so():
    for segmentation, message in (
        (
            {"size": [200, 200], "counts": "PoS1"},
            r"detections: entry 0: segmentation is of size \[200, 200\], the image of \[400, 400\]",
        ),
        (None, r"detections: \[0\].segmentation: Expected `object \| array`, got `null`"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(square_world(), wrong(segmentation=segmentation))


def test_files_cut_short_or_missing_and_annotations_of_another_format_say_so(tmp_path):
    cut = tmp_path / "detections.json"
    cut.write_text(json.dumps(HIT_MISS_HIT)[:-20])
    with pytest.raises(UserError, match=r"detections\.json: not JSON, or cut short"):
        evaluate(square_world(), cut, **BOX)
    with pytest.raises(UserError, match=r"gone\.json: No such file"):
        evaluate(tmp_path / "gone.json", [], **BOX)
    gt = square_world()
    with pytest.raises(UserError, match="ground truth: Object missing required field `categories`"):
        evaluate({"images": gt["images"], "annotations": []}, [], **BOX)
    del gt["images"][0]["neg_category_ids"]
    with pytest.raises(
        UserError, match=r"ground truth: images\[0\]: Object missing required field `neg_category_ids`"
    ):
        evaluate(gt, [], **BOX)
    with pytest.raises(UserError, match="iou_type 'mask' is unknown"):
        evaluate(gt, [], iou_type="mask")


def test_a_mask_that_was_cut_short_is_refused_not_waited_for():
    """pycocotools never returns from an IoU with one."""
    mask = np.zeros((400, 400), np.uint8, order="F")
    mask[10:50, 20:90] = 1
    mask[15:30, 30:60] = 0
    whole = mask_utils.encode(mask)["counts"].decode()
    rle = {"size": [400, 400], "counts": whole}
    assert evaluate(square_world(), [box(0, 0, 0.9) | {"segmentation": rle}]).summary["AP"] >= 0
    for cut in range(1, len(whole)):
        bad = [box(0, 0, 0.9) | {"segmentation": rle | {"counts": whole[:-cut]}}]
        with pytest.raises(UserError, match="detections: entry 0: its mask does not fill its size"):
            evaluate(square_world(), bad)
        with pytest.raises(UserError, match="does not fill its size"):
            tide(square_world(), bad)
        gt = square_world()
        gt["annotations"][0]["segmentation"] = rle | {"counts": whole[:-cut]}
        with pytest.raises(UserError, match="ground truth: annotations: entry 0: its mask does not fill"):
            evaluate(gt, [box(0, 0, 0.9) | {"segmentation": rle}])
    for runs in ([0, 5], [10**6, 5], [-1, 5], [0, 2**33]):
        with pytest.raises(UserError, match="the runs of segmentation do not fill"):
            evaluate(square_world(), [box(0, 0, 0.9) | {"segmentation": rle | {"counts": runs}}])


def test_numbers_of_numpy_are_taken():
    plain = evaluate(square_world(), HIT_MISS_HIT, **BOX).summary
    found = [
        d | {"score": np.float64(d["score"]), "bbox": np.array(d["bbox"], float), "image_id": np.int64(1)}
        for d in HIT_MISS_HIT
    ]
    assert evaluate(square_world(), found, **BOX).summary == pytest.approx(plain, nan_ok=True)


def test_other_caps_are_what_they_say():
    others = [box(200, 0, 0.9, category_id=1)] * 320
    uncapped = Protocol("uncapped", per_image=None, per_class=None, pooled=False)
    expected = 100 * 51 / 101 / 321  # one of two objects found, last of all
    assert evaluate(square_world(), [*others, box(0, 0, 0.5)], uncapped, "bbox").summary[
        "AP"
    ] == pytest.approx(expected)
    with pytest.raises(UserError, match="matched for the best 300 an image"):
        judge(match(square_world(), others, "bbox", [OLD]), FIXED)


def test_annotations_read_for_boxes_do_not_serve_masks():
    with pytest.raises(UserError, match="ground truth was read for 'bbox'; read it for 'segm'"):
        evaluate(read_ground_truth(square_world(), "bbox"), HIT_MISS_HIT)


def test_ids_beyond_64_bits_and_below_0():
    with pytest.raises(UserError, match="detections: an id does not fit"):
        evaluate(square_world(), wrong(image_id=10**20), **BOX)
    gt = square_world()
    gt["images"][0]["id"] = -1
    gt["annotations"] = [a | {"image_id": -1} for a in gt["annotations"]]
    found = [d | {"image_id": -1} for d in HIT_MISS_HIT]
    assert evaluate(gt, found, **BOX).summary["AP"] > 80
