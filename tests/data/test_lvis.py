import copy
import json
import os
import re

import msgspec
import numpy as np
import pytest
from damage import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle

from fasa.data import lvis
from fasa.errors import UserError

CONTENT = {
    "images": [
        {
            "id": number,
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "width": 8,
            "height": 8,
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
        for number in (3, 4)
    ],
    "annotations": [
        {"id": i, "image_id": image, "category_id": k, "bbox": [0, 0, 2, 2], "area": 4, "segmentation": []}
        for i, (image, k) in enumerate([(3, 20), (3, 20), (4, 20), (4, 5)], start=1)
    ],
    "categories": [  # ids with gaps, out of order
        {"id": k, "name": name, "frequency": group, "image_count": 1, "instance_count": 1}
        for k, name, group in ((20, "cat", "f"), (5, "ant", "r"), (9, "bee", "c"))
    ],
}


@pytest.fixture
def content():
    return copy.deepcopy(CONTENT)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.json"


def test_reads_categories_in_order_of_id(path):
    path.write_text(json.dumps(CONTENT))
    content = lvis.read_annotations(path)
    assert [c["id"] for c in content["categories"]] == [5, 9, 20]
    assert content["annotations"] == CONTENT["annotations"]


def test_counts_and_groups_are_in_order_of_category_id(content):
    assert lvis.instance_counts(content).tolist() == [1, 0, 3]
    assert lvis.frequencies(content) == ["r", "c", "f"]


def test_counts_without_annotations_are_zero(content):
    content["annotations"] = []
    assert lvis.instance_counts(content).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "shape",
    [
        None,
        [],
        [[0, 0, 8, 0, 8, 8.5]],
        [[-7, 0, 15, 0, 8, 8], [1, 1, 2, 2, 3, 3]],
        {"size": [8, 8], "counts": [0, 3, 61]},
        {"size": [8, 8], "counts": [64]},
        {"size": [8, 8], "counts": rle.encode(np.eye(8, dtype=np.uint8, order="F"))["counts"].decode()},
    ],
)
def test_every_form_of_a_mask_is_read(path, content, shape):
    content["annotations"][1]["segmentation"] = shape
    path.write_text(json.dumps(content))
    assert lvis.read_annotations(path)["annotations"][1]["segmentation"] == shape


def refused(path, **kwargs):
    with pytest.raises(UserError) as error:
        lvis.read_annotations(path, **kwargs)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400
    return message.removeprefix(f"{path}: ").removesuffix("; delete it and run: dvc repro -fs data@NAME")


DELETE = object()
RLE = {"size": [8, 8], "counts": "0"}
WRONG = [  # where, what, the message
    (("images",), DELETE, r"Object missing required field `images`"),
    (("annotations",), DELETE, r"Object missing required field `annotations`"),
    (("categories",), DELETE, r"Object missing required field `categories`"),
    (("images",), {}, r"images: Expected `array`, got `object`"),
    (("categories",), [], r"categories is empty"),
    (("annotations", 2), 7, r"annotations\[2\]: Expected `object`, got `int`"),
    (("annotations", 2), None, r"annotations\[2\]: Expected `object`, got `null`"),
    (("annotations", 2), [1, 2], r"annotations\[2\]: Expected `object`, got `array`"),
    (("images", 1), "3", r"images\[1\]: Expected `object`, got `str`"),
    (("categories", 0), "cat", r"categories\[0\]: Expected `object`, got `str`"),
    (("annotations", 2, "bbox"), DELETE, r"annotations\[2\]: Object missing required field `bbox`"),
    (("annotations", 2, "area"), DELETE, r"annotations\[2\]: Object missing required field `area`"),
    (("annotations", 0, "id"), [1], r"annotations\[0\]\.id: Expected `int`, got `array`"),
    (("annotations", 0, "id"), 1.5, r"annotations\[0\]\.id: Expected `int`, got `float`"),
    (("annotations", 0, "id"), True, r"annotations\[0\]\.id: Expected `int`, got `bool`"),
    (("annotations", 0, "id"), -1, r"annotations\[0\]\.id: Expected `int` >= 0"),
    (("annotations", 0, "id"), 2**70, r"annotations\[0\]\.id: Expected `int`"),
    (("annotations", 3, "id"), 1, r"annotations\[3\]\.id: 1 is that of annotations\[0\] too"),
    (("images", 1, "id"), 3, r"images\[1\]\.id: 3 is that of images\[0\] too"),
    (("categories", 2, "id"), 5, r"categories\[2\]\.id: 5 is that of categories\[1\] too"),
    (("categories", 2, "name"), "cat", r"categories\[2\]\.name: 'cat' is that of categories\[0\] too"),
    (("categories", 2, "name"), "", r"categories\[2\]\.name: Expected `str` of length >= 1"),
    (("categories", 2, "frequency"), "few", r"categories\[2\]\.frequency: Invalid enum value 'few'"),
    (("categories", 2, "frequency"), "R", r"categories\[2\]\.frequency: Invalid enum value 'R'"),
    (("categories", 2, "image_count"), -1, r"categories\[2\]\.image_count: Expected `int` >= 0"),
    (("annotations", 1, "image_id"), 77, r"annotations\[1\]\.image_id: 77 is not in images"),
    (("annotations", 1, "image_id"), "3", r"annotations\[1\]\.image_id: Expected `int`, got `str`"),
    (("annotations", 1, "category_id"), 77, r"annotations\[1\]\.category_id: 77 is not in categories"),
    (("annotations", 1, "category_id"), {}, r"annotations\[1\]\.category_id: Expected `int`, got `object`"),
    (("images", 0, "neg_category_ids"), [9, 6], r"images\[0\]\.neg_category_ids: 6 is not in categories"),
    (("images", 0, "neg_category_ids"), 9, r"images\[0\]\.neg_category_ids: Expected `array`"),
    (("images", 0, "neg_category_ids"), DELETE, r"images\[0\]: .*missing required field `neg_category_ids`"),
    (("images", 0, "not_exhaustive_category_ids"), [0], r"images\[0\]\..*: 0 is not in categories"),
    (("images", 0, "width"), 0, r"images\[0\]\.width: Expected `int` >= 1"),
    (("images", 0, "height"), 10**9, r"images\[0\]\.height: Expected `int` <= 65535"),
    (("images", 0, "width"), "8", r"images\[0\]\.width: Expected `int`, got `str`"),
    (("images", 0, "coco_url"), DELETE, r"images\[0\]: .*missing required field `coco_url`"),
    (("images", 0, "coco_url"), "", r"images\[0\]\.coco_url: '' does not name a file inside"),
    (("images", 0, "coco_url"), ".", r"images\[0\]\.coco_url: '\.' does not name a file inside"),
    (("images", 0, "coco_url"), "../../../etc/passwd", r"images\[0\]\.coco_url: '\.\./.*inside"),
    (("images", 0, "coco_url"), "a/../../etc/passwd", r"images\[0\]\.coco_url: .*inside"),
    (("images", 0, "coco_url"), "/etc/passwd", r"images\[0\]\.coco_url: '/etc/passwd' does not"),
    (("images", 0, "coco_url"), lvis.HOST + "/etc/passwd", r"images\[0\]\.coco_url: '/etc/passwd' does not"),
    (("images", 0, "coco_url"), "http://x.y/a.jpg", r"images\[0\]\.coco_url: 'http://x.y/a.jpg' does not"),
    (("images", 0, "coco_url"), "a\0b", r"images\[0\]\.coco_url: .*inside"),
    (
        ("images", 0, "coco_url"),
        "a\nb.jpg",
        r"images\[0\]\.coco_url: 'a\\nb\.jpg' does not name a file inside",
    ),
    (("images", 0, "coco_url"), "\ud800.jpg", r"cut off or not JSON"),
    (("images", 0, "coco_url"), "//etc/passwd", r"images\[0\]\.coco_url: '//etc/passwd' does not"),
    (("annotations", 0, "bbox"), [0, 0, 2], r"annotations\[0\]\.bbox: Expected `array` of length 4"),
    (("annotations", 0, "bbox"), [0, 0, -2, 2], r"annotations\[0\]\.bbox\[2\]: Expected `float` >= 0"),
    (("annotations", 0, "bbox"), [0, "0", 2, 2], r"annotations\[0\]\.bbox\[1\]: Expected `float`"),
    (
        ("annotations", 0, "bbox"),
        [0, float("nan"), 2, 2],
        r"annotations\[0\]\.bbox\[1\]: is nan, not a finite",
    ),
    (
        ("annotations", 3, "bbox"),
        [0, 0, 2, float("inf")],
        r"annotations\[3\]\.bbox\[3\]: is inf, not a finite",
    ),
    (("annotations", 0, "area"), float("-inf"), r"annotations\[0\]\.area: is -inf, not a finite number"),
    (("annotations", 0, "area"), -4, r"annotations\[0\]\.area: Expected `float` >= 0"),
    (("annotations", 0, "segmentation"), 5, r"annotations\[0\]\.segmentation: Expected `object \| array`"),
    (("annotations", 0, "segmentation"), "ab", r"annotations\[0\]\.segmentation: Expected"),
    (
        ("annotations", 0, "segmentation"),
        [1, 2, 3, 4, 5, 6],
        r"annotations\[0\]\.segmentation: Expected `array`",
    ),
    (("annotations", 0, "segmentation"), [[1, 2, 3, 4]], r"\.segmentation: a polygon of 4 numbers"),
    (("annotations", 0, "segmentation"), [[1, 2, 3, 4, 5, 6, 7]], r"\.segmentation: a polygon of 7 numbers"),
    (("annotations", 0, "segmentation"), [[]], r"\.segmentation: a polygon of 0 numbers"),
    (("annotations", 0, "segmentation"), [[1, 2, 3, 4, 5, float("nan")]], r"segmentation\[0\]\[5\]: is nan"),
    (("annotations", 0, "segmentation"), [[1, 2, 3, 4, 5, 1e9]], r"a polygon reaches from 1 to 1e\+09"),
    (
        ("annotations", 0, "segmentation"),
        [[1, 2, 3, 4, 5, -9]],
        r"a polygon reaches from -9 to 5 in an image of 8",
    ),
    (
        ("annotations", 0, "segmentation"),
        RLE | {"size": [8, 9]},
        r"its size is \[8, 9\], the image's \[8, 8\]",
    ),
    (("annotations", 0, "segmentation"), RLE | {"size": [8]}, r"segmentation: Expected `array` of length 2"),
    (("annotations", 0, "segmentation"), {"size": [8, 8]}, r"missing required field `counts`"),
    (("annotations", 0, "segmentation"), RLE | {"counts": [3, 4]}, r"its runs do not fill the image"),
    (("annotations", 0, "segmentation"), RLE | {"counts": [-3, 67]}, r"segmentation: Expected `int` >= 0"),
    (("annotations", 0, "segmentation"), RLE | {"counts": [2**40]}, r"its runs do not fill the image"),
    (("annotations", 0, "segmentation"), RLE | {"counts": []}, r"its runs do not fill the image"),
    (("annotations", 0, "segmentation"), RLE | {"counts": ""}, r"its runs do not fill the image"),
    (("annotations", 0, "segmentation"), RLE | {"counts": "0"}, r"its runs do not fill the image"),
    (("annotations", 0, "segmentation"), RLE | {"counts": "P"}, r"its runs end within a number"),
    (("annotations", 0, "segmentation"), RLE | {"counts": "é"}, r"its runs hold 'é', so it is no RLE"),
    (("annotations", 0, "segmentation"), RLE | {"counts": "o" * 40}, r"its runs hold 'o', so it is no RLE"),
    (("annotations", 0, "segmentation"), RLE | {"counts": "P2PO"}, r"its runs"),
]


@pytest.mark.parametrize(("where", "value", "message"), WRONG)
def test_a_wrong_entry_is_named(path, content, where, value, message):
    *above, last = where
    target = content
    for key in above:
        target = target[key]
    if value is DELETE:
        del target[last]
    else:
        target[last] = value
    path.write_text(json.dumps(content))
    assert re.search(message, refused(path)), refused(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off or not JSON"),
        (b"\xff\xfe\x00", "cut off or not JSON"),
        (b"not JSON", "cut off or not JSON"),
        (json.dumps(CONTENT).encode()[:300], "cut off or not JSON"),
        (json.dumps(CONTENT).encode() + b"}", "cut off or not JSON"),
        (b"[" * 100_000, "Expected `object`, got `array`"),
        (b'{"a":' * 100_000, "cut off or not JSON"),
        (b'{"images": NaN', "cut off or not JSON"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b"\x1f\x8b\x08\x00", "is packed by gzip; unpack it first"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (json.dumps(CONTENT).replace('"cat"', '"\x07"').encode(), "cut off or not JSON"),
        (json.dumps(CONTENT).encode().replace(b'"cat"', b'"\xff\xff"'), "cut off or not JSON"),
        (
            json.dumps(CONTENT).encode().replace(b'"area": 4', b'"area": 1e999'),
            "annotations[0].area: Number out of range",
        ),
    ],
)
def test_what_is_no_annotation_file(path, data, message):
    path.write_bytes(data)
    assert refused(path).startswith(message)


def test_missing_file(path):
    assert refused(path) == "no such file; run: dvc repro -fs data@NAME"


def test_a_pipe_or_folder_is_not_read(path):
    os.mkfifo(path)
    assert refused(path) == "is no regular file"
    path.unlink()
    path.mkdir()
    assert refused(path) == "is no regular file"


def test_a_category_without_instances_is_named_where_it_matters(path):
    path.write_text(json.dumps(CONTENT))
    assert lvis.read_annotations(path)
    assert refused(path, train=True) == "no instances of bee (1 in all), so nothing to learn from"


@settings(deadline=None, max_examples=int(os.environ.get("FASA_FUZZ", 300)))
@given(text=damaged(CONTENT))
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path_factory, text):
    """Whatever bytes change: no crash, no traceback, and nothing inconsistent passes."""
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(text)
    try:
        content = lvis.read_annotations(path)
    except UserError as error:
        assert "\n" not in str(error)
        return
    ids = {category["id"] for category in content["categories"]}
    assert all(a["bbox"][2] >= 0 and a["category_id"] in ids for a in content["annotations"])
    assert lvis.instance_counts(content).sum() == len(content["annotations"])


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_are_those_of_the_mask(mask):
    counts = rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    runs = lvis.run_lengths(counts)
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.ravel(order="F"))


def test_what_is_not_understood_of_a_mask_keeps_its_digits(path, content):
    content["annotations"][0]["segmentation"] = [[0.10, 1e0, 2, 2.50, 3, 3]]
    path.write_text(json.dumps(content).replace("0.1,", "0.10,"))
    file = lvis.decode(path, lvis.File)
    assert bytes(file.annotations[0].segmentation) == b"[[0.10, 1.0, 2, 2.5, 3, 3]]"
    assert msgspec.json.encode(file.annotations[0]).endswith(b'"segmentation":[[0.10, 1.0, 2, 2.5, 3, 3]]}')


def test_images(tmp_path, content):
    folder = tmp_path / "train2017"
    with pytest.raises(
        UserError, match=r"000000000003\.jpg: missing, with 1 other images; run: dvc repro -fs data@NAME"
    ):
        lvis.check_images(tmp_path, content)
    folder.mkdir()
    (folder / "000000000003.jpg").touch()
    with pytest.raises(UserError, match=r"000000000004\.jpg: missing, with 0 other images"):
        lvis.check_images(tmp_path, content)
    os.mkfifo(folder / "000000000004.jpg")
    with pytest.raises(UserError, match=r"000000000004\.jpg: is no regular file, with 0 other images"):
        lvis.check_images(tmp_path, content)
    (folder / "000000000004.jpg").unlink()
    content["images"][1]["coco_url"] = "x" * 300  # longer than a name can be
    with pytest.raises(UserError, match=r"xxx: missing, with 0 other images"):
        lvis.check_images(tmp_path, content)
    content["images"][1]["coco_url"] = "train2017/000000000004.jpg"
    (folder / "000000000004.jpg").symlink_to("000000000003.jpg")  # a link in the folder is its owner's
    lvis.check_images(tmp_path, content)
