"""Stock against tidecv itself; the default against its definition in plain loops, lvis-api, and by hand."""

import copy
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lvis import LVIS, LVISEval, LVISResults
from pycocotools import mask as mask_utils
from tidecv import TIDE
from tidecv.ap import ClassedAPDataObject
from tidecv.datasets import LVIS as LVISForTidecv
from tidecv.datasets import LVISResult

from fasa.evaluation.inputs import read_detections, read_ground_truth
from fasa.evaluation.tide import ERRORS, KINDS, Tide, by_class, examples, tide

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated"),  # lvis-api logs with it
    pytest.mark.usefixtures("path"),
]

sizes = dict(
    seed=st.integers(0, 2**32 - 1),
    n_images=st.integers(1, 6),
    n_classes=st.integers(1, 6),
    most_detections=st.integers(0, 60),
    tied_scores=st.booleans(),
)
both_types = pytest.mark.parametrize("iou_type", ["bbox", "segm"])


def numbers(result):
    """All of a `Tide` in one dict; its keys keep their order."""
    return {
        "AP50": result.ap50,
        **result.main,
        **result.special,
        **{f"n {k}": v for k, v in result.count.items()},
    }


def assert_equal(result, expected, abs=1e-9):
    assert list(numbers(result)) == list(numbers(expected))
    assert numbers(result) == pytest.approx(numbers(expected), rel=0, abs=abs, nan_ok=True)


def run_tidecv(gt, detections, iou_type):
    """TIDE of tidecv, as it is called for LVIS, on what files cannot tell it otherwise than us."""
    gt = copy.deepcopy(gt)
    gt["images"].sort(key=lambda image: image["id"])
    gt["annotations"] = [thing for thing in gt["annotations"] if thing["area"] > 0]
    for image in gt["images"]:
        image["coco_url"] = ""
    for thing in gt["annotations"]:
        thing.setdefault("segmentation", [[0, 0, 0, 1, 1, 1]])  # it wants one, for boxes too
    for category in gt["categories"]:
        category["synset"] = ""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "gt.json", Path(folder) / "detections.json"]
        for path, content in zip(paths, [gt, detections], strict=True):
            path.write_text(json.dumps(content, default=bytes.decode))
        mode = {"bbox": TIDE.BOX, "segm": TIDE.MASK}[iou_type]
        return TIDE().evaluate(LVISForTidecv(str(paths[0])), LVISResult(str(paths[1])), mode=mode)


def tidecv(gt, detections, iou_type):
    def mean_or_nan(self):
        try:
            return mean(self)
        except ZeroDivisionError:
            return np.nan

    mean = ClassedAPDataObject.get_mAP
    with mock.patch.object(ClassedAPDataObject, "get_mAP", mean_or_nan):
        run = run_tidecv(gt, detections, iou_type)
        outcomes = [run.fix_main_errors(), run.fix_special_errors(), run.count_errors()]
    return Tide(run.ap, *({kind.short_name: value for kind, value in one.items()} for one in outcomes))


@both_types
@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_stock_equals_tidecv(make_federated, iou_type, **size):
    gt, detections = make_federated(**size)
    assert_equal(tide(gt, detections, iou_type, stock=True), tidecv(gt, detections, iou_type))


@both_types
@pytest.mark.parametrize("seed", range(4))
def test_stock_equals_tidecv_where_the_cap_cuts_and_images_are_empty(make_federated, iou_type, seed):
    gt, detections = make_federated(seed, n_images=4, n_classes=3, most_detections=900)
    unseen, bare, *_ = sorted({d["image_id"] for d in detections})
    detections = [d for d in detections if d["image_id"] != unseen]
    gt["annotations"] = [thing for thing in gt["annotations"] if thing["image_id"] != bare]
    assert max(sum(d["image_id"] == image["id"] for d in detections) for image in gt["images"]) > 300
    assert_equal(tide(gt, detections, iou_type, stock=True), tidecv(gt, detections, iou_type))


@both_types
def test_stock_is_nan_where_tidecv_divides_by_zero(make_federated, iou_type):
    gt, _ = make_federated(1)
    run = run_tidecv(gt, [], iou_type)
    with pytest.raises(ZeroDivisionError):
        run.fix_main_errors()
    result = tide(gt, [], iou_type, stock=True)
    assert result.ap50 == 0 and np.isnan(result.main["Miss"]) and np.isnan(result.special["FalseNeg"])


class InMemoryLVIS(LVIS):
    def _load_json(self, content):
        return copy.deepcopy(content)


def lvis_api_ap50(gt, detections, iou_type):
    dropped = "bbox" if iou_type == "segm" else "segmentation"  # or it mixes up their areas
    detections = [{k: v for k, v in d.items() if k != dropped} for d in detections]
    gt = InMemoryLVIS(gt)
    with mock.patch.object(np, "float", float, create=True):
        reference = LVISEval(gt, LVISResults(gt, detections), iou_type)
        reference.evaluate()
        reference.accumulate()
    ap50 = reference._summarize("ap", iou_thr=0.5)
    return np.nan if ap50 == -1 else 100 * ap50


def slow_tide(gt, detections, iou_type):
    """The default reading, one detection at a time."""
    field = {"bbox": "bbox", "segm": "segmentation"}[iou_type]
    area = {"bbox": lambda box: box[2] * box[3], "segm": mask_utils.area}[iou_type]
    real = [thing for thing in gt["annotations"] if thing["area"] > 0]
    n_objects = defaultdict(int)
    for thing in real:
        n_objects[thing["category_id"]] += not thing["ignore"]

    entries, errors, lost = [], [], []  # entries: (class, score, is true); errors: (kind, its entry, object)
    n_missed = defaultdict(int)
    for image in sorted(gt["images"], key=lambda image: image["id"]):
        objects = [thing for thing in real if thing["image_id"] == image["id"]]
        known = {thing["category_id"] for thing in objects} | set(image["neg_category_ids"])
        mine = [d for d in detections if d["image_id"] == image["id"]]
        mine = sorted(mine, key=lambda d: -d["score"])[:300]
        mine = [d for d in mine if d["category_id"] in known and area(d[field]) > 0]
        iou = np.zeros((len(mine), len(objects)))
        if mine and objects:
            shapes = [d[field] for d in mine], [thing[field] for thing in objects]
            iou = mask_utils.iou(*shapes, [0] * len(objects))

        found_by, wrong = {}, []
        for d, detection in enumerate(mine):
            best = None
            for g, thing in enumerate(objects):
                if g in found_by or thing["category_id"] != detection["category_id"] or iou[d, g] < 0.5:
                    continue
                rank = (not thing["ignore"], iou[d, g])
                if best is None or rank >= best[0]:
                    best = rank, g
            if best is not None:
                found_by[best[1]] = d
                if best[0][0]:
                    entries.append((detection["category_id"], detection["score"], True))
            elif detection["category_id"] not in image["not_exhaustive_category_ids"]:
                wrong.append((d, len(entries)))
                entries.append((detection["category_id"], detection["score"], False))

        fixable = {}  # object: the entry of the best Loc or Cls
        for d, entry in wrong:
            own, other, duplicate, anything = (0, None), (0, None), False, 0
            for g, thing in enumerate(objects):
                if thing["ignore"]:
                    continue
                anything = max(anything, iou[d, g])
                if thing["category_id"] != mine[d]["category_id"]:
                    other = max(other, (iou[d, g], g), key=lambda pair: (pair[0], pair[1] or 0))
                else:
                    own = max(own, (iou[d, g], g), key=lambda pair: (pair[0], pair[1] or 0))
                    duplicate |= g in found_by and iou[d, g] >= 0.5
            if 0.1 <= own[0] <= 0.5:
                kind, g = "Loc", own[1]
            elif other[0] >= 0.5:
                kind, g = "Cls", other[1]
            else:
                kind, g = "Dupe" if duplicate else "Bkg" if anything <= 0.1 else "Both", None
            right = None
            if g is not None and g not in found_by and fixable.setdefault(g, entry) == entry:
                right = objects[g]["category_id"]
            errors.append((kind, entry, right))
        for g, thing in enumerate(objects):
            if not thing["ignore"] and g not in found_by:
                lost.append(thing["category_id"])
                n_missed[thing["category_id"]] += g not in fixable

    def ap50(entries, n_left):
        of_class = []
        for category in [c for c, n in n_objects.items() if n > 0]:
            curve, tp = [], 0
            ranked = sorted((e for e in entries if e[0] == category), key=lambda e: -e[1])
            if not n_left[category]:
                of_class.append(0.0 if ranked else 1.0)
                continue
            for n, (_, _, true) in enumerate(ranked, start=1):
                tp += true
                curve.append((tp / n_left[category], tp / (n + np.spacing(1))))
            points = np.linspace(0, 1, 101)
            of_class.append(np.mean([max([p for r, p in curve if r >= x], default=0) for x in points]))
        return 100 * np.mean(of_class) if of_class else np.nan

    before = ap50(entries, n_objects)
    main = {}
    for kind in KINDS[:-1]:
        cured = dict(enumerate(entries))
        for name, entry, right in errors:
            if name == kind:
                _, score, _ = cured.pop(entry)
                if right is not None:
                    cured[entry] = right, score, True
        main[kind] = ap50([cured[entry] for entry in sorted(cured)], n_objects) - before
    main["Miss"] = ap50(entries, {c: n - n_missed[c] for c, n in n_objects.items()}) - before
    special = {
        "FalsePos": ap50([entry for entry in entries if entry[2]], n_objects) - before,
        "FalseNeg": ap50(entries, {c: n - lost.count(c) for c, n in n_objects.items()}) - before,
    }
    count = {kind: sum(name == kind for name, _, _ in errors) for kind in KINDS[:-1]}
    count["Miss"] = sum(n_missed.values())
    return Tide(before, {kind: max(gain, 0) for kind, gain in main.items()}, special, count)


@both_types
@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_equals_its_definition_and_ap50_is_that_of_lvis_api(make_federated, iou_type, **size):
    gt, detections = make_federated(**size)
    result = tide(gt, detections, iou_type)
    assert_equal(result, slow_tide(gt, detections, iou_type))
    if detections:  # lvis-api fails on none
        expected = lvis_api_ap50(gt, detections, iou_type)
        assert result.ap50 == pytest.approx(expected, rel=0, abs=1e-10, nan_ok=True)


@both_types
@pytest.mark.parametrize("seed", range(8))
def test_what_is_too_large_for_ap50_is_no_error(make_federated, iou_type, seed):
    """lvis-api ignores objects of more than 1e10 pixels, and such detections where they find nothing."""
    gt, detections = make_federated(seed)
    for thing in gt["annotations"][::3]:
        thing["area"] = 1e11
    if iou_type == "bbox":
        for found in detections[::4]:
            found["bbox"] = [0.0, 0.0, 2e5, 2e5]
    result = tide(gt, detections, iou_type)
    assert result.ap50 == pytest.approx(
        lvis_api_ap50(gt, detections, iou_type), rel=0, abs=1e-10, nan_ok=True
    )
    ignored = copy.deepcopy(gt)
    for thing in ignored["annotations"][::3]:
        thing |= dict(area=1.0, ignore=1)
    if iou_type == "bbox":
        detections = [found for found in detections if found["bbox"][2] < 2e5]
    assert_equal(result, tide(ignored, detections, iou_type))


@both_types
@pytest.mark.parametrize("seed", range(3))
def test_equals_its_definition_where_the_cap_cuts_through_equal_scores(make_federated, iou_type, seed):
    gt, detections = make_federated(seed, n_images=2, n_classes=3, most_detections=900)
    assert max(sum(d["image_id"] == image["id"] for d in detections) for image in gt["images"]) > 300
    result = tide(gt, detections, iou_type)
    assert_equal(result, slow_tide(gt, detections, iou_type))
    assert result.ap50 == pytest.approx(lvis_api_ap50(gt, detections, iou_type), rel=0, abs=1e-10)


CUP, JUG, HAT, OWL = 1, 2, 3, 4


def world(**image):
    """One image with two cups and a jug, known to be without hats; of owls nothing is known."""
    boxes = [(CUP, [0, 0, 30, 30]), (CUP, [40, 40, 30, 30]), (JUG, [100, 100, 30, 30])]
    image = {"neg_category_ids": [HAT], "not_exhaustive_category_ids": [], **image}
    return {
        "images": [{"id": 1, "height": 400, "width": 400, **image}],
        "categories": [{"id": c, "frequency": "r"} for c in (CUP, JUG, HAT, OWL)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": c, "bbox": box, "area": 900}
            for i, (c, box) in enumerate(boxes, start=1)
        ],
    }


def box(category_id, x, y, score):
    return {"image_id": 1, "category_id": category_id, "bbox": [x, y, 30, 30], "score": score}


CUP_1, CUP_2, JUG_1 = box(CUP, 0, 0, 0.9), box(CUP, 40, 40, 0.7), box(JUG, 100, 100, 0.8)
HIT, HIT_MISS, MISS_HIT, HIT_MISS_HIT = (
    51 / 101,
    51 / 101,
    51 / 101 / 2,
    (51 + 50 * 2 / 3) / 101,
)  # AP of cups


@pytest.mark.parametrize(
    ("kind", "detections", "before", "after"),
    [
        ("Cls", [CUP_1, box(HAT, 42, 42, 0.95)], HIT, 1),
        ("Cls", [CUP_1, CUP_2, box(CUP, 100, 100, 0.8)], HIT_MISS_HIT, 1),  # the jug is found: it vanishes
        ("Loc", [CUP_1, box(CUP, 40, 52, 0.95)], MISS_HIT, 1),  # IoU 18 / 42
        ("Loc", [CUP_1, CUP_2, box(CUP, 0, 10, 0.8)], HIT_MISS_HIT, 1),  # 20 / 40 with one that is found
        ("Both", [CUP_1, CUP_2, box(CUP, 100, 112, 0.8)], HIT_MISS_HIT, 1),
        ("Dupe", [CUP_1, CUP_2, box(CUP, 0, 9, 0.8)], HIT_MISS_HIT, 1),  # IoU 21 / 39
        ("Bkg", [CUP_1, CUP_2, box(CUP, 200, 0, 0.8)], HIT_MISS_HIT, 1),
        ("Bkg", [CUP_1, CUP_2, box(CUP, 0, 25, 0.8)], HIT_MISS_HIT, 1),  # IoU 5 / 55
        ("Miss", [CUP_1], HIT, 1),
    ],
)
def test_each_kind_by_hand(kind, detections, before, after):
    result = tide(world(), [JUG_1, *detections], "bbox")
    assert result.ap50 == pytest.approx(100 * (before + 1) / 2)
    expected = dict.fromkeys(KINDS, 0) | {kind: 100 * (after - before) / 2}
    assert result.main == pytest.approx(expected)
    assert result.count == dict.fromkeys(KINDS, 0) | {kind: 1}


def test_special_errors_by_hand():
    detections = [JUG_1, box(HAT, 0, 0, 0.99), box(CUP, 200, 0, 0.95), CUP_1]
    special = tide(world(), detections, "bbox").special
    assert special == pytest.approx(
        {"FalsePos": 100 * (HIT - MISS_HIT) / 2, "FalseNeg": 100 * (0.5 - MISS_HIT) / 2}
    )


def test_the_best_of_loc_and_cls_finds_an_object_and_the_others_vanish():
    cls, loc = box(HAT, 42, 42, 0.6), box(CUP, 40, 52, 0.5)
    worse = [box(HAT, 38, 40, 0.4), box(CUP, 40, 28, 0.3)]
    for detections, costs in [
        (
            [cls, loc, *worse],
            {"Cls": 100 * (1 - HIT) / 2},
        ),  # to vanish does not help the Locs: all hits are above
        ([cls | {"score": 0.45}, loc, *worse], {"Loc": 100 * (1 - HIT) / 2}),
    ]:
        result = tide(world(), [JUG_1, CUP_1, *detections], "bbox")
        assert result.main == pytest.approx(dict.fromkeys(KINDS, 0) | costs)
        assert result.count == dict.fromkeys(KINDS, 0) | {"Cls": 2, "Loc": 2}


def test_a_class_without_objects_is_in_the_mean_of_stock_only():
    detections = [JUG_1, CUP_1, CUP_2]
    for stock in (False, True):
        assert tide(world(), detections, "bbox", stock).ap50 == pytest.approx(100)
    hat = box(HAT, 200, 0, 0.1)
    default, stock = (tide(world(), [*detections, hat], "bbox", stock) for stock in (False, True))
    assert default.count == stock.count == dict.fromkeys(KINDS, 0) | {"Bkg": 1}
    assert default.ap50 == pytest.approx(100) and default.main["Bkg"] == 0
    assert stock.ap50 == pytest.approx(200 / 3) and stock.main["Bkg"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("gt", "ignored"),
    [
        (world(), box(OWL, 40, 40, 0.95)),  # is there an owl? nobody looked
        (world(not_exhaustive_category_ids=[CUP]), box(CUP, 40, 52, 0.95)),
    ],
)
def test_what_does_not_count_is_an_error_of_stock_only(gt, ignored):
    detections = [JUG_1, CUP_1, ignored]
    default, stock = (tide(gt, detections, "bbox", stock) for stock in (False, True))
    assert default.ap50 == stock.ap50 == pytest.approx(100 * (HIT + 1) / 2)
    gain = pytest.approx(100 * (1 - HIT) / 2)
    assert [default.main["Miss"], default.count["Miss"], sum(default.count.values())] == [gain, 1, 1]
    kind = "Cls" if ignored["category_id"] == OWL else "Loc"
    assert [stock.main[kind], stock.count[kind], sum(stock.count.values())] == [gain, 1, 1]


def test_objects_to_ignore_are_no_miss_and_no_measure():
    gt = world()
    gt["annotations"][1]["ignore"] = 1
    assert sum(tide(gt, [JUG_1, CUP_1, CUP_2], "bbox").count.values()) == 0
    result = tide(gt, [JUG_1, CUP_1, CUP_2, box(HAT, 40, 40, 0.5), box(CUP, 40, 40, 0.6)], "bbox")
    assert result.count == dict.fromkeys(KINDS, 0) | {"Bkg": 2}


def test_an_object_to_ignore_is_found_only_if_no_other_will_do():
    gt = world()
    gt["annotations"][1] |= {"ignore": 1, "bbox": [0, 5, 30, 30]}
    result = tide(gt, [JUG_1, box(CUP, 0, 5, 0.9)], "bbox")  # IoU 25 / 35 with the other, 1 with this
    assert result.ap50 == pytest.approx(100) and sum(result.count.values()) == 0


def test_of_objects_with_equal_iou_the_last_is_found_but_in_stock_the_first():
    gt = world()
    gt["annotations"][1]["bbox"] = [10, 0, 30, 30]
    detections = [JUG_1, box(CUP, 5, 0, 0.9), box(CUP, -5, 0, 0.8)]  # IoU 25 / 35 twice; 25 / 35 and 15 / 45
    assert tide(gt, detections, "bbox").ap50 == pytest.approx(100)
    stock = tide(gt, detections, "bbox", stock=True)
    assert stock.count == dict.fromkeys(KINDS, 0) | {"Dupe": 1, "Miss": 1}
    assert_equal(stock, tidecv(gt, detections, "bbox"))


def test_both_where_every_recall_point_is_met_exactly():
    """k / 100 and linspace(0, 1, 101)[k] are not always the same float: precision drops right behind each."""
    gt = world()
    cup = gt["annotations"][0]
    gt["annotations"] = [cup | {"id": i + 1, "bbox": [40 * i, 0, 30, 30]} for i in range(100)]
    hits = [box(CUP, 40 * i, 0, 1 - i / 100) for i in range(100)]
    misses = [box(CUP, 0, 400, 1 - i / 100 - 0.005) for i in range(100)]
    default, stock = (tide(gt, hits + misses, "bbox", stock) for stock in (False, True))
    assert default.ap50 == pytest.approx(lvis_api_ap50(gt, hits + misses, "bbox"), rel=0, abs=1e-10)
    assert_equal(stock, tidecv(gt, hits + misses, "bbox"))
    assert default.ap50 != pytest.approx(stock.ap50, rel=0, abs=1e-6)  # so this is told apart


def test_a_class_that_miss_empties_is_perfect_only_without_false_positives():
    for detections, cost in [([CUP_1, CUP_2], 50), ([CUP_1, CUP_2, box(JUG, 200, 0, 0.1)], 0)]:
        result = tide(world(), detections, "bbox")
        assert [result.ap50, result.main["Miss"], result.special["FalseNeg"]] == pytest.approx(
            [50, cost, cost]
        )


@both_types
def test_no_detections_are_all_miss(make_federated, iou_type):
    gt, _ = make_federated(1)
    result = tide(gt, [], iou_type)
    assert result.ap50 == 0
    assert result.main == dict.fromkeys(KINDS, 0) | {"Miss": 100}
    assert result.special == {"FalsePos": 0, "FalseNeg": 100}
    n_objects = sum(thing["area"] > 0 and not thing["ignore"] for thing in gt["annotations"])
    assert result.count == dict.fromkeys(KINDS, 0) | {"Miss": n_objects}


@pytest.mark.parametrize("stock", [False, True])
def test_no_objects_and_no_images_are_no_error(stock):
    gt = world() | {"annotations": []}
    assert np.isnan(tide(gt, [], "bbox", stock).ap50)
    assert tide(gt, [CUP_1, box(HAT, 0, 0, 0.5)], "bbox", stock).count["Bkg"] == (2 if stock else 1)
    assert np.isnan(tide(gt | {"images": []}, [], "bbox", stock).ap50)


@both_types
@pytest.mark.parametrize("stock", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_images_and_detections_does_not_matter_unless_scores_tie(
    make_federated, iou_type, stock, seed
):
    gt, detections = make_federated(seed)
    rng = np.random.default_rng(seed)
    scores = (rng.permutation(len(detections)) + 1) / (len(detections) + 1)
    detections = [d | {"score": score} for d, score in zip(detections, scores.tolist(), strict=True)]
    expected = tide(gt, detections, iou_type, stock)

    ids = [image["id"] for image in gt["images"]]
    new = dict(zip(ids, rng.permutation(ids).tolist(), strict=True))
    images = [image | {"id": new[image["id"]]} for image in gt["images"]]
    moved = [
        [one | {"image_id": new[one["image_id"]]} for one in many] for many in (gt["annotations"], detections)
    ]
    shuffled = [moved[1][i] for i in rng.permutation(len(detections))]
    assert_equal(tide(gt | {"images": images, "annotations": moved[0]}, shuffled, iou_type, stock), expected)


@both_types
def test_takes_what_was_read_already(make_federated, iou_type, tmp_path):
    gt, detections = make_federated(2)
    expected = tide(gt, detections, iou_type)
    read = read_ground_truth(gt, iou_type)
    assert tide(read, read_detections(detections, read), iou_type) == expected
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "detections.json").write_text(json.dumps(detections, default=bytes.decode))
    assert tide(tmp_path / "gt.json", str(tmp_path / "detections.json"), iou_type) == expected


@both_types
@settings(max_examples=25, deadline=None)
@given(**sizes)
def test_an_example_costs_what_curing_it_alone_brings(make_federated, iou_type, **size):
    """A kind of one error costs what that error does, and no example costs more than all of its kind can."""
    gt, detections = make_federated(**size)
    whole, found = tide(gt, detections, iou_type), examples(gt, detections, 3, iou_type)
    for kind in KINDS:
        mine = [one for one in found if one.kind == kind]
        assert len(mine) == min(3, whole.count[kind])
        assert [one.cost for one in mine] == sorted((one.cost for one in mine), reverse=True)
        if whole.count[kind] == 1 and whole.ap50 == whole.ap50:
            assert max(mine[0].cost, 0) == pytest.approx(whole.main[kind], abs=1e-9, nan_ok=True)
        for one in mine:
            if kind == "Miss":
                continue
            detection = detections[one.entry]
            assert [one.image_id, one.category_id, one.score] == [
                detection[name] for name in ("image_id", "category_id", "score")
            ]
            objects = [a for a in gt["annotations"] if a["image_id"] == one.image_id and a["area"] > 0]
            field = {"bbox": "bbox", "segm": "segmentation"}[iou_type]
            ious = [mask_utils.iou([detection[field]], [a[field]], [0]).item() for a in objects]
            assert one.iou == 0 or min(abs(one.iou - iou) for iou in ious) < 1e-12


@both_types
@settings(max_examples=25, deadline=None)
@given(**sizes)
def test_examples_of_one_class_are_those_of_all_that_are_its_own(make_federated, iou_type, **size):
    gt, detections = make_federated(**size)
    everything = examples(gt, detections, 99, iou_type)
    for category in gt["categories"]:
        mine = examples(gt, detections, 99, iou_type, category["id"])
        assert mine == [one for one in everything if one.category_id == category["id"]]


def test_examples_by_hand():
    detections = [JUG_1, CUP_1, box(HAT, 42, 42, 0.95)]
    (cls,) = examples(world(), detections, 9, "bbox")
    assert cls.kind == "Cls" and cls.cost == pytest.approx(100 * (1 - HIT) / 2)
    assert (cls.image_id, cls.category_id, cls.object_category_id, cls.entry) == (1, HAT, CUP, 2)
    assert cls.score == 0.95 and cls.iou == pytest.approx(28 * 28 / (1800 - 28 * 28))
    (miss,) = examples(world(), [JUG_1, CUP_1], 9, "bbox")
    assert (miss.kind, miss.category_id, miss.score, miss.entry) == ("Miss", CUP, None, None)
    assert set(ERRORS) == {*KINDS, "FalsePos", "FalseNeg"}


@both_types
@settings(max_examples=25, deadline=None)
@given(**sizes)
def test_errors_of_the_classes_add_up(make_federated, iou_type, **size):
    gt, detections = make_federated(**size)
    counts = by_class(gt, detections, iou_type)
    assert {kind: int(count.sum()) for kind, count in counts.items()} == tide(gt, detections, iou_type).count


def test_an_error_counts_for_the_class_that_was_detected_a_miss_for_the_objects():
    counts = by_class(world(), [JUG_1, CUP_1, box(HAT, 42, 42, 0.95)], "bbox")
    assert {kind: count.tolist() for kind, count in counts.items() if count.any()} == {"Cls": [0, 0, 1, 0]}
    counts = by_class(world(), [JUG_1, CUP_1], "bbox")
    assert {kind: count.tolist() for kind, count in counts.items() if count.any()} == {"Miss": [1, 0, 0, 0]}
