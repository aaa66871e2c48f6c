"""The compiled core against NumPy, to the last bit, and what it hands back to the careful readers."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils
from worlds import world

from fasa.errors import UserError
from fasa.evaluation import (
    instruments,
    match,
    native,
    overlap,
    read_detections,
    read_ground_truth,
    reading,
    save_detections,
)
from fasa.evaluation.masks import Masks, Outlines, drawn
from fasa.evaluation.overlap import nearest, ordered, places

both_types = pytest.mark.parametrize("iou_type", ["bbox", "segm"])


def test_the_core_is_there_where_a_compiler_is():
    """The tests of the core compare NumPy with itself where it is not."""
    build = f"{sys.executable} -c 'from setuptools import setup; setup()' build_ext --inplace"
    assert native.core or not shutil.which("c++"), f"build the core: {build}"
    if native.core:
        source = native.core.path.with_name("core.cpp")
        assert source.stat().st_mtime <= native.core.path.stat().st_mtime, f"core.cpp is newer: {build}"


def test_a_core_of_another_version_is_none(tmp_path, monkeypatch):
    """Its functions may take other arguments, and memory does not say so."""
    monkeypatch.delenv("FASA_CORE", raising=False)
    assert bool(native._find()) == bool(native.core)
    with monkeypatch.context() as patch:
        patch.setattr(native, "INTERFACE", 1)
        assert native._find() is None
    older = tmp_path / f"_core{native.EXTENSION_SUFFIXES[0]}"  # a library without that number
    shutil.copy(sys.modules["pycocotools._mask"].__file__, older)
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    assert native._find() is None


def both_ways(function):
    """What a function gives with the core and without."""
    by_core = function()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "core", None)
        return by_core, function()


def write(folder, gt, detections):
    """Their files."""
    for name, content in (("gt", gt), ("dt", detections)):
        (folder / f"{name}.json").write_text(json.dumps(content, default=bytes.decode))
    return folder / "gt.json", folder / "dt.json"


def assert_same(a, b):
    """Arrays, or masks, of the same type and bytes."""
    if isinstance(a, Masks):
        assert a.counts() == b.counts()
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@both_types
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    most_detections=st.sampled_from([3, 60]),
    part=st.sampled_from([64, 1 << 24]),
)
def test_all_that_is_read_and_measured_is_the_same(
    make_federated, tmp_path_factory, iou_type, seed, most_detections, part
):
    folder = tmp_path_factory.mktemp("files")
    gt, detections = make_federated(seed, most_detections=most_detections)
    for thing in gt["annotations"]:  # outlines, which the core reads too, and some RLEs
        if seed % 3:
            x, y, w, h = thing["bbox"]
            thing["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h + 0.5]]
    paths = write(folder, gt, detections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART", part)
        for fields in zip(*both_ways(lambda: read_ground_truth(paths[0], iou_type)), strict=True):
            assert_same(*fields)
        truth = read_ground_truth(paths[0], iou_type)
        for columns in zip(*both_ways(lambda: read_detections(paths[1], truth)), strict=True):
            assert_same(*columns)
        ours, twins = both_ways(lambda: match(*paths, iou_type))
        for field in dataclasses.fields(ours):
            assert_same(getattr(ours, field.name), getattr(twins, field.name))
        for reading_ in ("lvis", "stock"):
            numbers = both_ways(lambda r=reading_: instruments(*paths, iou_type, with_tide=r))
            assert json.dumps(numbers[0]) == json.dumps(numbers[1])


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_outlines_are_drawn_as_pycocotools_draws_them(seed):
    """Of any number of corners, also the same twice, outside the image, several to an object."""
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 12)
    sizes = rng.integers(1, 60, (n, 2))
    polygons = []
    for height, width in sizes.tolist():
        outlines = []
        for _ in range(rng.integers(1, 4)):
            corners = rng.uniform(-0.5, 1.5, (rng.integers(3, 12), 2)) * [width, height]
            corners = np.repeat(corners, rng.integers(1, 3, len(corners)), axis=0)
            outlines.append(corners.round(rng.integers(0, 4)).ravel().tolist())
        polygons.append(outlines)
    outlines = Outlines.of(polygons, "here", range(n))
    by_core, by_numpy = both_ways(lambda: drawn(outlines, sizes, "here", range(n)))
    for size, a, b in zip(sizes.tolist(), by_core.counts(), by_numpy.counts(), strict=True):
        np.testing.assert_array_equal(
            *(mask_utils.decode(dict(size=size, counts=counts)) for counts in (a, b))
        )


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.one_of(st.integers(0, 60), st.integers(500, 3000)),
    part=st.sampled_from([1, 10, 10**6]),
    sorted_already=st.booleans(),
)
def test_sorting_is_the_same(seed, n, part, sorted_already):
    """Also of zeros of either sign, in parts of some groups each, and where there is nothing to do."""
    rng = np.random.default_rng(seed)
    group, score = rng.integers(0, 4, n), rng.integers(-3, 4, n) / 2 * rng.choice([-1.0, 1.0], n)
    if sorted_already:
        score = -np.sort(-score)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "IN_A_PART", part)
        for function in (ordered, places):
            np.testing.assert_array_equal(*both_ways(lambda f=function: f(group, score)))
        by_core = places(group, score)
    expected = np.empty(n, int)
    for k in range(4):  # one after the other, by hand
        mine = sorted(np.flatnonzero(group == k).tolist(), key=lambda i: -score[i])
        expected[mine] = range(len(mine))
    np.testing.assert_array_equal(by_core, expected)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), last_first=st.booleans())
def test_the_nearest_objects_come_in_the_same_order(seed, n, last_first):
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 6, n)
    first, iou = rng.integers(0, 9, n), rng.integers(0, 5, found.sum()) / 4
    by_core, by_numpy = both_ways(lambda: nearest(first, found, iou, 0.25, last_first))
    for columns in zip(by_core, by_numpy, strict=True):
        np.testing.assert_array_equal(*columns)


def numerals():
    """Decimal numbers as JSON has them, plain ones of up to 25 digits most of all."""
    digits = st.integers(1, 25).flatmap(lambda n: st.integers(0, 10**n - 1))
    plain = st.builds(lambda sign, a, b: f"{sign}{a}.{b}", st.sampled_from(["", "-"]), digits, digits)
    floats = st.floats(allow_nan=False, allow_infinity=False)
    single = st.floats(width=32, allow_nan=False, allow_infinity=False)
    halfway = st.integers(2**53, 2**55).map(lambda n: f"{n // 1000}.{n % 1000:03}")
    return st.one_of(plain, floats.map(repr), single.map(repr), digits.map(str), halfway)


@settings(max_examples=300, deadline=None)
@given(numbers=st.lists(numerals(), min_size=4, max_size=4))
def test_numbers_are_read_to_the_nearest_double(tmp_path_factory, numbers):
    """As Python reads them, whose reading is exact."""
    folder = tmp_path_factory.getbasetemp()
    gt, dt = write(folder, *world())
    rows = world()[1]
    rows[0]["bbox"] = "HERE"
    dt.write_text(json.dumps(rows).replace('"HERE"', f"[{', '.join(numbers)}]"))
    found = reading.read_results(reading.Text(dt, "dt"), with_masks=False)
    assert found[3][0].tobytes() == np.array([float(number) for number in numbers]).tobytes()


ODD = [
    lambda text: text.replace('"score"', '"more": {"x": [1, {"image_id": 7}, "}, {"]}, "score"'),
    lambda text: text.replace('"score"', '"more": "\\u00e9 \\" \\\\", "score"'),
    lambda text: text.replace('"score"', '"more": "é", "score"'),
    lambda text: text.replace("[{", " \n[ {").replace("}]", "}\t]\n "),
    lambda text: text.replace('"score": 0.9', '"score": 9e-1').replace('"score": 0.8', '"score": 8E-01'),
    lambda text: text.replace('"image_id": 1', '"image_id": 1.0'),
    lambda text: text.replace("}, {", "}  ,\n\n{"),
    lambda text: text.replace('"size": [40, 40], "counts"', '"counts": "x", "size": [40, 40], "counts"'),
    lambda text: "[]",
    lambda text: text.replace('"score": 0.9', '"score": 0.9, "score": 0.9'),
]


@both_types
@pytest.mark.parametrize("change", ODD)
def test_json_of_any_make_is_read_alike(change, iou_type, tmp_path):
    gt, dt = write(tmp_path, *world())
    dt.write_text(change(dt.read_text()))
    ours, twins = both_ways(lambda: read_detections(dt, read_ground_truth(gt, iou_type)))
    for columns in zip(ours, twins, strict=True):
        assert_same(*columns)


BROKEN = [
    "01",
    "1.",
    ".5",
    "+1",
    "1e",
    "-",
    "0x1",
    "1_0",
    "NaN",
    "1e999",
    "9" * 400,
    "tru",
    "'a'",
    "[1,]",
    "{,}",
]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("field", ["image_id", "score", "more"])
def test_what_is_no_json_is_refused_alike(value, field, tmp_path):
    gt, dt = write(tmp_path, *world())
    rows = world()[1]
    rows[0][field] = "HERE"
    dt.write_text(json.dumps(rows).replace('"HERE"', value))

    def said():
        try:
            return read_detections(dt, read_ground_truth(gt, "bbox"))
        except UserError as error:
            return UserError, str(error)

    ours, twins = both_ways(said)
    assert field == "more" or ours[0] is UserError
    if ours[0] is UserError:
        assert ours == twins
    else:  # an unknown field is skipped by both
        for columns in zip(ours, twins, strict=True):
            assert_same(*columns)


def test_it_can_be_left_out():
    command = "from fasa.evaluation import native; print(native.core)"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env=os.environ | dict(FASA_CORE="off", PYTHONPATH=str(Path.cwd())),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"


@both_types
def test_detections_saved_as_columns_are_read_as_they_were(make_federated, iou_type, tmp_path):
    gt, dt = write(tmp_path, *make_federated(4))
    truth = read_ground_truth(gt, iou_type)
    detections = read_detections(dt, truth)
    for n, these in enumerate([detections, read_detections([], truth)]):
        save_detections(these, tmp_path / f"{n}.npz")
        for columns in zip(read_detections(tmp_path / f"{n}.npz", truth), these, strict=True):
            assert_same(*columns)
    save_detections(detections, tmp_path / "again.npz")
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    assert instruments(gt, tmp_path / "0.npz", iou_type)["tide"] == instruments(gt, dt, iou_type)["tide"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (dict(length=np.array([3])), "do not fit each other"),
        (dict(length=np.array([-1, 1, 0, 0])), "do not fit each other"),
        (dict(counts=np.zeros(9)), "do not fit each other"),
        (dict(score=np.array([0.5, np.nan, 0.5, 0.5])), "entry 1 has score nan"),
        (dict(score=np.array([0.5])), "differ in length"),
        (dict(image_id=np.array([1.5] * 4)), "image_id is an array of float64"),
        (dict(image_id=np.array([object()] * 4)), "cannot read columns of segm"),
        (dict(score=None), "cannot read columns of segm"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, line, tmp_path):
    gt, dt = write(tmp_path, *world())
    truth = read_ground_truth(gt, "segm")
    save_detections(read_detections(dt, truth), tmp_path / "columns.npz")
    arrays = dict(np.load(tmp_path / "columns.npz")) | change
    np.savez(tmp_path / "columns.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match=line):
        read_detections(tmp_path / "columns.npz", truth)
    (tmp_path / "columns.npz").write_bytes((tmp_path / "columns.npz").read_bytes()[:200])
    with pytest.raises(UserError, match="cannot read columns of segm"):
        read_detections(tmp_path / "columns.npz", truth)


@pytest.mark.parametrize("compress", [False, True])
def test_boxes_and_masks_of_the_same_detections_may_be_one_file(make_federated, compress, tmp_path):
    gt, dt = write(tmp_path, *make_federated(5))
    both = {kind: read_detections(dt, read_ground_truth(gt, kind)) for kind in ("bbox", "segm")}
    save_detections(both["bbox"], tmp_path / "both.npz", both["segm"].shape, compress)
    for kind, expected in both.items():
        found = read_detections(tmp_path / "both.npz", read_ground_truth(gt, kind))
        for columns in zip(found, expected, strict=True):
            assert_same(*columns)
