import copy
import json

import pytest

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


def refused(path, **kwargs):
    with pytest.raises(UserError) as error:
        lvis.read_annotations(path, **kwargs)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_missing_file(path):
    assert refused(path) == "no such file; run: dvc repro data"


@pytest.mark.parametrize("length", [0, 1, 300])
def test_truncated_file(path, length):
    path.write_text(json.dumps(CONTENT)[:length])
    message = refused(path)
    assert message.startswith("cut off or not JSON") and message.endswith("delete it and run: dvc repro data")


def test_binary_file(path):
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(path).startswith("cut off or not JSON")


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_missing_section(path, content, section):
    del content[section]
    path.write_text(json.dumps(content))
    assert refused(path) == f"has no list of {section}; delete it and run: dvc repro data"


def test_not_an_object(path):
    path.write_text("[1, 2]")
    assert refused(path).startswith("has no list of images")


def test_missing_key(path, content):
    del content["annotations"][2]["bbox"], content["annotations"][2]["area"]
    path.write_text(json.dumps(content))
    assert refused(path) == "annotations[2] lacks area, bbox; delete it and run: dvc repro data"


@pytest.mark.parametrize(("key", "section"), [("image_id", "images"), ("category_id", "categories")])
def test_unknown_reference(path, content, key, section):
    content["annotations"][0][key] = 77
    path.write_text(json.dumps(content))
    assert refused(path) == f"annotations name {key} 77, which is not in {section}; run: dvc repro data"


def test_a_category_without_instances_is_named_where_it_matters(path):
    path.write_text(json.dumps(CONTENT))
    assert lvis.read_annotations(path)
    assert refused(path, train=True) == "no instances of bee (1 in all), so nothing to learn from"


def test_images(tmp_path, content):
    folder = tmp_path / "train2017"
    with pytest.raises(
        UserError, match=r"000000000003\.jpg: missing, with 1 other images; run: dvc repro data"
    ):
        lvis.check_images(tmp_path, content)
    folder.mkdir()
    (folder / "000000000003.jpg").touch()
    with pytest.raises(UserError, match=r"000000000004\.jpg: missing, with 0 other images"):
        lvis.check_images(tmp_path, content)
    (folder / "000000000004.jpg").touch()
    lvis.check_images(tmp_path, content)
