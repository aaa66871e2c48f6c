"""Sets of others' making, prepared: what is filled in, what is left out and said, what is refused."""

import copy
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from lvis import LVIS, LVISEval, LVISResults
from PIL import Image
from pycocotools import mask as rle

from fasa.data import Source, importing, source
from fasa.data.compact import annotations
from fasa.data.kinds import DETECTION, find
from fasa.data.lvis import check_images, instance_counts, read, read_annotations
from fasa.data.pictures import read_manifest
from fasa.errors import UserError

SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]
CLASSES = {7: "cat", 3: "dog", 20: "unicorn"}  # ids with gaps; there is no unicorn


def coco(images, first=1):
    """An annotation file: for each image the category ids of its objects."""
    content = {
        "images": [
            {"id": first + i, "file_name": f"{first + i}.png", "width": 32, "height": 24}
            for i in range(len(images))
        ],
        "annotations": [],
        "categories": [{"id": k, "name": name, "supercategory": "any"} for k, name in CLASSES.items()],
    }
    for i, classes in enumerate(images):
        for k in classes:
            content["annotations"].append(
                {
                    "id": 100 * first + len(content["annotations"]),
                    "image_id": first + i,
                    "category_id": k,
                    "bbox": [4, 4, 8, 8],
                    "area": 64,
                    "iscrowd": 0,
                    "segmentation": copy.deepcopy(SQUARE),
                }
            )
    return content


@pytest.fixture
def train():
    return coco([[7, 7], [7, 3]] + [[7], [3]] * 9)


@pytest.fixture
def val():
    return coco([[7, 3], [], [3]], first=50)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where annotation files and images go; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    return tmp_path


def save(folder, **files):
    """Write annotation files, and an image for each of their entries."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
        for image in content["images"]:
            if isinstance(image, dict) and isinstance(name := image.get("file_name"), str):
                path = folder / "images" / name
                if path.parent.exists() and not path.exists():
                    Image.new("RGB", (32, 24)).save(path)


def prepare(**section):
    section = dict(kind="coco", train="train.json", images="images") | section
    module, chosen = find(DETECTION, section, "mine.data")
    module.prepare(chosen, "out")
    return {part: read_annotations(f"out/annotations/{part}.json") for part in ("train", "adapt", "val")}


def objects(content):
    return Counter(a["category_id"] for a in content["annotations"])


def test_a_set_of_two_files(folder, train, val, capsys):
    save(folder, train=train, val=val)
    parts = prepare(val="val.json")
    assert source("out") == Source(kind="coco", images=str(folder / "images"), iou_types=["segm", "bbox"])
    assert objects(parts["train"]) + objects(parts["adapt"]) == {7: 12, 3: 10}
    assert len(parts["adapt"]["images"]) == 2 and len(parts["train"]["images"]) == 18
    assert objects(parts["val"]) == {7: 1, 3: 2} and len(parts["val"]["images"]) == 3
    for content in parts.values():
        assert content["categories"] == parts["train"]["categories"]
        assert [c["id"] for c in content["categories"]] == [3, 7]
        check_images(folder / "images", content)
        present = present_in(content)
        for image in content["images"]:
            assert image["neg_category_ids"] == sorted({3, 7} - present[image["id"]])
            assert image["not_exhaustive_category_ids"] == []
    for category in parts["val"]["categories"]:
        k, mine = (
            category["id"],
            [a for a in parts["train"]["annotations"] if a["category_id"] == category["id"]],
        )
        assert category["name"] == CLASSES[k] and category["instance_count"] == len(mine)
        assert category["image_count"] == len({a["image_id"] for a in mine})
        assert category["frequency"] == ("r" if category["image_count"] <= 10 else "c")
    told = capsys.readouterr().out
    assert "train: 1 of 3 classes have no object and are left out" in told
    assert "by their images in train" in told
    assert len(LVIS("out/annotations/val.json").anns) == 3


def present_in(content):
    present = {image["id"]: set() for image in content["images"]}
    for a in content["annotations"]:
        present[a["image_id"]].add(a["category_id"])
    return present


def test_the_manifest_stands_for_the_images(folder, train, val):
    save(folder, train=train, val=val)
    prepare(val="val.json")
    found = read_manifest(Path("out/images.tsv"))
    assert {one.name for one in found} == {f"{i}.png" for i in [*range(1, 21), 50, 51, 52]}
    for one in found:
        state = os.stat(f"images/{one.name}")
        assert (one.bytes, one.mtime) == (state.st_size, state.st_mtime_ns)


def test_the_same_settings_give_the_same_bytes_and_another_seed_another_cut(folder, train):
    save(folder, train=train)
    found = []
    for seed in (0, 0, 1):
        prepare(seed=seed)
        found.append({p.name: p.read_bytes() for p in Path("out/annotations").iterdir()})
    assert found[0] == found[1] != found[2]
    parts = [json.loads(data) for name, data in found[0].items() if name.endswith(".json")]
    images = [image["id"] for part in parts for image in part["images"]]
    assert sorted(images) == list(range(1, 21))  # each once


def test_every_form_of_a_mask_is_taken_and_keeps_its_area(folder, train, val):
    square = np.zeros((24, 32), np.uint8, order="F")
    square[4:12, 4:12] = 1
    compressed = rle.encode(square)
    runs, last = [], 0
    for place in np.flatnonzero(np.diff(square.ravel(order="F"), prepend=0)):
        runs.append(int(place) - last)
        last = int(place)
    runs.append(square.size - last)
    forms = [{"size": [24, 32], "counts": compressed["counts"].decode()}, {"size": [24, 32], "counts": runs}]
    for one, form in zip(val["annotations"], forms, strict=False):
        one["segmentation"] = form
    for one in val["annotations"]:
        del one["area"]
    save(folder, train=train, val=val)
    content = prepare(val="val.json")["val"]
    assert [a["area"] for a in content["annotations"]] == [64, 64, 64]
    for one in LVIS("out/annotations/val.json").load_anns():
        assert np.array_equal(LVIS("out/annotations/val.json").ann_to_mask(one), square)


def test_a_crowd_is_neither_learnt_nor_missed_nor_false_to_find(folder, train, val, monkeypatch, capsys):
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 was written for NumPy 1
    crowd = {"size": [24, 32], "counts": [400, 200, 168]}
    val["annotations"].append(
        dict(id=1, image_id=50, category_id=7, bbox=[16, 0, 9, 24], area=200, iscrowd=1, segmentation=crowd)
    )
    val["annotations"].append(  # in an image that has no other cat
        dict(id=2, image_id=51, category_id=7, bbox=[16, 0, 9, 24], area=200, iscrowd=1, segmentation=crowd)
    )
    save(folder, train=train, val=val)
    content = prepare(val="val.json")["val"]
    assert (
        "val.json: 2 crowd regions left out; their class is not exhaustive in that image"
        in capsys.readouterr().out
    )
    assert objects(content) == {7: 1, 3: 2}
    images = {image["id"]: image for image in content["images"]}
    assert images[50]["not_exhaustive_category_ids"] == images[51]["not_exhaustive_category_ids"] == [7]
    assert images[51]["neg_category_ids"] == [3]
    truth = LVIS("out/annotations/val.json")
    keys = ("image_id", "category_id", "bbox", "segmentation")
    perfect = [{key: a[key] for key in keys} | {"score": 0.5} for a in content["annotations"]]
    of_crowd = [
        {"image_id": i, "category_id": 7, "bbox": [16.0, 0.0, 9.0, 24.0], "score": 0.9} for i in (50, 51)
    ]
    elsewhere = [of_crowd[0] | {"image_id": 52}]  # where every cat is annotated, it is false
    for detections, full in ((perfect + of_crowd, True), (perfect + elsewhere, False)):
        evaluation = LVISEval(truth, LVISResults(truth, detections), "bbox")
        evaluation.run()
        assert (evaluation.get_results()["AP"] == pytest.approx(1)) == full


def test_a_file_of_crowds_only_is_refused(folder, train):
    for one in train["annotations"]:
        one["iscrowd"] = 1  # as some tools mark every mask that was painted
    save(folder, train=train)
    with pytest.raises(
        UserError, match=r"train\.json: has no objects: 22 crowd regions left out; their class"
    ):
        prepare()


def test_boxes_alone(folder, train, val):
    for content in (train, val):
        for one in content["annotations"]:
            del one["segmentation"], one["area"]
    save(folder, train=train, val=val)
    content = prepare(val="val.json")["val"]
    assert source("out").iou_types == ["bbox"]
    assert all("segmentation" not in a and a["area"] == 64 for a in content["annotations"])


def test_masks_can_be_left_out_and_insisted_on(folder, train, val):
    del train["annotations"][5]["segmentation"]
    save(folder, train=train, val=val)
    with pytest.raises(UserError, match=r"train\.json: 1 of 22 objects have no mask; set masks: false"):
        prepare(val="val.json")
    prepare(val="val.json", masks=False)
    assert source("out").iou_types == ["bbox"]
    for one in train["annotations"]:
        one["segmentation"] = []
    save(folder, train=train)
    with pytest.raises(UserError, match=r"some files have masks and others none"):
        prepare(val="val.json")
    with pytest.raises(UserError, match=r"22 of 22 objects have no mask"):
        prepare(val="val.json", masks=True)


def test_what_lvis_says_is_kept(folder, train, val):
    for content in (train, val):
        for category, group in zip(content["categories"], "fcr", strict=True):
            category |= dict(frequency=group, synset=f"{group}.n.01", synonyms=[group], image_count=0)
            category["def"] = f"a {group}"
        for image in content["images"]:
            image |= dict(neg_category_ids=[20, 3], not_exhaustive_category_ids=[7])
            name = image.pop("file_name")
            image["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
            Image.new("RGB", (32, 24)).save(folder / "images" / name)
    save(folder, train=train, val=val)
    (folder / "val2017").symlink_to("images")
    parts = prepare(val="val.json", images=".")
    image = parts["val"]["images"][0]
    assert image["neg_category_ids"] == [3] and image["not_exhaustive_category_ids"] == [7]
    assert image["coco_url"] == "val2017/50.png"
    dog, cat = parts["val"]["categories"]
    assert (dog["frequency"], cat["frequency"], cat["synset"], cat["def"]) == ("c", "f", "f.n.01", "a f")
    assert cat["instance_count"] == objects(parts["train"])[7]


def test_any_name_that_a_file_can_have_is_taken(folder, train):
    for image, name in zip(
        train["images"], ("2024 at 1.00\u202fPM.png", "Grüße.png", "a\\b.png", "..a.png"), strict=False
    ):
        image["file_name"] = name
    save(folder, train=train)
    parts = prepare()
    assert {"2024 at 1.00\u202fPM.png", "Grüße.png"} <= {
        one.name for one in read_manifest(Path("out/images.tsv"))
    }
    assert sum(len(part["images"]) for part in parts.values()) == 20


def test_names_tell_classes_apart(folder, train):
    train["categories"][2]["name"] = "cat"  # has no objects: some tools list the group of the classes so
    save(folder, train=train)
    assert [c["name"] for c in prepare()["train"]["categories"]] == ["dog", "cat"]
    train["categories"][1]["name"] = "cat"
    save(folder, train=train)
    with pytest.raises(UserError, match=r"train: categories with objects\[1\]\.name: 'cat' is that of"):
        prepare()


def test_folders_of_parts_and_an_adapt_file(folder, train, val):
    adapt = coco([[3]], first=80)
    save(folder, train=train)
    for name, content in (("val", val), ("held", adapt)):
        (folder / name).mkdir()
        (folder / f"{name}.json").write_text(json.dumps(content))
        for image in content["images"]:
            Image.new("RGB", (32, 24)).save(folder / name / image["file_name"])
    folders = dict(train="images", val="val", adapt="held")
    parts = prepare(val="val.json", adapt="held.json", images=folders)
    assert source("out").images == str(folder)
    assert [part["images"][0]["coco_url"] for part in parts.values()] == [
        "images/1.png",
        "held/80.png",
        "val/50.png",
    ]
    assert len(parts["train"]["images"]) == 20  # nothing was cut


def test_an_adaptation_split_that_is_reported_on_is_leaky(folder, train, val, capsys):
    save(folder, train=train, val=val)
    prepare(val="val.json", adapt="val.json")
    assert source("out").leaky and "rows that adapt to it are leaky" in capsys.readouterr().out
    prepare(val="train.json")
    assert "val: 18 of 20 images are train's" in capsys.readouterr().out


def test_a_part_to_tune_on_is_there_where_it_is_asked_for(folder, train, val, capsys):
    save(folder, train=train, val=val)
    before = prepare()
    assert source("out").parts == ("train", "adapt", "val") and not Path("out/annotations/tune.json").exists()
    with pytest.raises(
        UserError, match=r"^out: has no part tune, only train, adapt, val; data\.tune makes one"
    ):
        annotations("out", "tune")
    after = prepare(tune=0.1)
    assert source("out").parts == ("train", "adapt", "val", "tune")
    for part in ("adapt", "val"):
        assert after[part]["annotations"] == before[part]["annotations"]
    tune = {image.id for image in read("out/annotations/tune.json").images}
    assert len(tune) == 2
    assert {i["id"] for i in before["train"]["images"]} == {i["id"] for i in after["train"]["images"]} | tune
    assert "tune: 2 of 20 images cut from train (2 asked)" in capsys.readouterr().out

    prepare(tune="val.json", val="val.json")
    assert "tune: has images of val, which is reported on" in capsys.readouterr().out
    assert not source("out").leaky


def test_oddities_are_said(folder, train, val, capsys):
    a = val["annotations"]
    a[0] |= dict(bbox=[-4, -4, 16, 16], area=0)
    a[1] |= dict(bbox=[4, 4, 8, 0], area=0, segmentation=[[4, 4, 12, 4, 12, 4]])
    a[2]["segmentation"].append([1, 2, 3, 4])  # pycocotools would take it for a box
    val["annotations"].append(a[2] | dict(id=9, segmentation=[[1, 1]]))
    save(folder, train=train, val=val)
    content = prepare(val="val.json")["val"]
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("val.json")] == [
        "val.json: 1 boxes cut at the edge of their image",
        "val.json: 1 areas derived",
        "val.json: 2 objects without area left out",
        "val.json: 2 masks lost polygons of fewer than 3 points",
    ]
    assert [a["bbox"] for a in content["annotations"]] == [[0, 0, 12, 12], [4, 4, 8, 8]]
    assert [a["area"] for a in content["annotations"]] == [64, 64]
    assert content["annotations"][1]["segmentation"] == SQUARE


def test_boxes_that_touch_the_edge_by_rounding_stay(folder, train, val):
    val["annotations"][0]["bbox"] = [0.5, -0.4, 32, 24.8]
    save(folder, train=train, val=val)
    assert prepare(val="val.json")["val"]["annotations"][0]["bbox"] == [0.5, -0.4, 32, 24.8]


def test_images_turned_by_exif_are_of_the_size_that_mmcv_loads(folder, train, val):
    save(folder, train=train, val=val)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (24, 32)).save("images/50.png", exif=turned)
    prepare(val="val.json")
    Image.new("RGB", (32, 24)).save("images/50.png", exif=turned)
    with pytest.raises(UserError, match=r"50\.png has 24 x 32 pixels, the annotations say 32 x 24"):
        prepare(val="val.json")


def slow_hold_out(classes, wanted, least, order):
    """Ask image after image, counting anew each time."""
    full = Counter(k for held in classes.values() for k in held)
    chosen = set()
    for image in order:
        after = chosen | {image}
        left = Counter(k for i, held in classes.items() if i not in after for k in held)
        if len(chosen) < wanted and all(left[k] >= max(least, full[k] / 2) for k in classes[image]):
            chosen = after
    return chosen


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 8), max_size=4), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_no_class_loses_more_than_half_or_its_last_images(images, wanted, least, random):
    part = importing.Part(
        images=[importing.Image(id=i, width=1, height=1) for i in range(len(images))],
        annotations=[
            importing.Annotation(id=j, image_id=i, category_id=k, bbox=(0, 0, 1, 1))
            for j, (i, k) in enumerate((i, k) for i, held in enumerate(images) for k in held)
        ],
        categories=[],
    )
    order = random.sample(range(len(images)), len(images))
    full = Counter(k for held in part.classes().values() for k in held)
    chosen = importing.hold_out(part, wanted, least, order, full)
    assert chosen == slow_hold_out({i: {*held} for i, held in enumerate(images)}, wanted, least, order)
    rest = part.only({*range(len(images))} - chosen)
    left = Counter(k for held in rest.classes().values() for k in held)
    assert all(left[k] == n if n <= least else left[k] >= max(least, n / 2) for k, n in full.items())
    assert len(chosen) <= wanted and rest.only(chosen).annotations == []


def test_an_image_is_named_by_its_place_in_the_file(folder, train):
    save(folder, train=train)
    (folder / "images/18.png").unlink()
    with pytest.raises(UserError, match=r"^train\.json: images\[17\]: \S+/images/18\.png is missing$"):
        prepare()


def test_every_class_is_in_train_after_the_cuts(folder):
    images = [[7, 3]] + [[7]] * 19
    save(folder, train=coco(images))
    parts = prepare()
    assert objects(parts["train"])[3] == 1 and instance_counts(parts["train"]).all()
    assert [len(part["images"]) for part in parts.values()] == [14, 2, 4]


def change(*where, value=None):
    """A change to one entry of train.json."""

    def apply(content):
        *above, last = where
        for key in above:
            content = content[key]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return apply


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (change("images", value=[]), r"annotations\[0\]\.image_id: 1 is not in images"),
        (change("categories"), r"missing required field `categories`"),
        (change("images", 2, value="3.png"), r"images\[2\]: Expected `object`, got `str`"),
        (change("images", 2, "id", value="3"), r"images\[2\]\.id: Expected `int`, got `str`"),
        (change("images", 2, "id", value=2), r"images\[2\]\.id: 2 is that of images\[1\] too"),
        (change("images", 2, "width"), r"images\[2\]: Object missing required field `width`"),
        (change("images", 2, "width", value=33), r"3\.png has 32 x 24 pixels, the annotations say 33 x 24"),
        (change("images", 2, "height", value=0), r"images\[2\]\.height: Expected `int` >= 1"),
        (change("images", 2, "file_name"), r"images\[2\]: names no file, neither in file_name nor"),
        (change("images", 2, "file_name", value=[1]), r"images\[2\]\.file_name: Expected `str`"),
        (change("images", 2, "file_name", value="none.png"), r"images\[2\]: \S+/images/none\.png is missing"),
        (change("images", 2, "file_name", value="2.png"), r"2\.png is that of images\[\d+\] too"),
        (
            change("images", 2, "file_name", value="../train.json"),
            r"'\.\./train\.json' does not name a file inside",
        ),
        (
            change("images", 2, "file_name", value="../../../etc/passwd"),
            r"does not name a file inside the folder",
        ),
        (change("images", 2, "file_name", value="/etc/passwd"), r"'/etc/passwd' does not name a file inside"),
        (change("images", 2, "file_name", value="pipe"), r"images/pipe is no regular file"),
        (change("images", 2, "file_name", value="sub"), r"images/sub is no regular file"),
        (change("images", 2, "file_name", value="text.png"), r"text\.png: is no image of BMP, JPEG"),
        (change("images", 2, "file_name", value="empty.png"), r"empty\.png: is no image of BMP, JPEG"),
        (change("images", 2, "file_name", value="x" * 300), r"is missing"),
        (
            change("images", 2, "neg_category_ids", value=[3]),
            r"images\[0\] lacks neg_category_ids, which others",
        ),
        (change("annotations", 4, value=5), r"annotations\[4\]: Expected `object`, got `int`"),
        (change("annotations", 4, "id"), r"annotations\[4\]: Object missing required field `id`"),
        (
            change("annotations", 4, "id", value=100),
            r"annotations\[4\]\.id: 100 is that of annotations\[0\] too",
        ),
        (change("annotations", 4, "image_id", value=99), r"annotations\[4\]\.image_id: 99 is not in images"),
        (
            change("annotations", 4, "category_id", value=8),
            r"annotations\[4\]\.category_id: 8 is not in categories",
        ),
        (change("annotations", 4, "bbox"), r"annotations\[4\]: Object missing required field `bbox`"),
        (change("annotations", 4, "bbox", value=[]), r"annotations\[4\]\.bbox: Expected `array` of length 4"),
        (
            change("annotations", 4, "bbox", value=[1, 1, -2, 2]),
            r"annotations\[4\]\.bbox\[2\]: Expected `float` >= 0",
        ),
        (
            change("annotations", 4, "bbox", value=[1, float("nan"), 2, 2]),
            r"annotations\[4\]\.bbox\[1\]: is nan",
        ),
        (
            change("annotations", 4, "bbox", value=[32, 1, 2, 2]),
            r"annotations\[4\]\.bbox: .* lies outside of its image",
        ),
        (change("annotations", 4, "area", value="big"), r"annotations\[4\]\.area: Expected `float \| null`"),
        (change("annotations", 4, "iscrowd", value=2), r"annotations\[4\]\.iscrowd: Invalid enum value 2"),
        (
            change("annotations", 4, "segmentation", value=[[1, 2, 3]]),
            r"annotations\[4\]\.segmentation: .*3 numbers",
        ),
        (
            change("annotations", 4, "segmentation", value=[[1, 1, 2, 2, 1e9, 3]]),
            r"annotations\[4\]\.segmentation: a polygon reaches from 1 to 1e\+09 in an image of 32",
        ),
        (
            change("annotations", 4, "segmentation", value={"size": [32, 24], "counts": [768]}),
            r"annotations\[4\]\.segmentation: its size is \[32, 24\], the image's \[24, 32\]",
        ),
        (
            change("annotations", 4, "segmentation", value={"size": [24, 32], "counts": "06"}),
            r"annotations\[4\]\.segmentation: its runs do not fill the image",
        ),
        (change("categories", 1, "id", value=7), r"categories\[1\]\.id: 7 is that of categories\[0\] too"),
        (
            change("categories", 1, "frequency", value="many"),
            r"categories\[1\]\.frequency: Invalid enum value 'many'",
        ),
        (change("categories", 0, "name", value="tiger"), r"val: category 7 is 'cat', in train 'tiger'"),
        (change("annotations", value=[]), r"train\.json: has no objects"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line_and_leaves_nothing(folder, train, val, wrong, message):
    os.mkfifo("images/pipe")
    (folder / "images/sub").mkdir()
    (folder / "images/text.png").write_text("a text")
    (folder / "images/empty.png").touch()
    save(folder, train=train, val=val)
    wrong(train)
    (folder / "train.json").write_text(json.dumps(train))
    before = {p.name for p in folder.iterdir()}
    with pytest.raises(UserError, match=message) as error:
        prepare(val="val.json")
    assert "\n" not in str(error.value)
    assert {p.name for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (dict(train="none.json"), r"none\.json: No such file or directory"),
        (dict(train="images"), r"images: is no regular file"),
        (dict(val="none.json"), r"none\.json: No such file or directory"),
        (dict(images="none"), r"none: is no folder; data\.images names where the images are"),
        (dict(images="train.json"), r"train\.json: is no folder"),
        (dict(images=dict(train="images")), r"mine\.data\.images: .*missing required field `val`"),
        (dict(images=None), r"mine\.data\.images: Expected `str \| object`, got `null`"),
        (dict(adapt=0), r"mine\.data\.adapt: Expected `float` > 0"),
        (dict(adapt=1.0), r"mine\.data\.adapt: Expected `float` < 1"),
        (dict(val=1), r"mine\.data\.val: Expected `float` < 1"),
        (dict(val=None), r"mine\.data\.val: Expected `float \| str`, got `null`"),
        (dict(seed=-1), r"mine\.data\.seed: Expected `int` >= 0"),
        (dict(masks="yes"), r"mine\.data\.masks: Expected `bool \| null`, got `str`"),
        (dict(keep=3), r"mine\.data: Object contains unknown field `keep`"),
        (dict(kind="voc"), r"mine\.data\.kind is 'voc'; known: glyphs, coco, lvis_v1"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(folder, train, section, message):
    save(folder, train=train)
    with pytest.raises(UserError, match=message) as error:
        prepare(**section)
    assert "\n" not in str(error.value)
    assert not Path("out").exists()


def test_too_few_images_to_cut(folder):
    save(folder, train=coco([[7], [3]]))
    with pytest.raises(
        UserError, match=r"adapt: no image can leave train, where every class keeps half of its images, and 2"
    ):
        prepare()


def test_what_lies_in_the_way_is_kept(folder, train, val, monkeypatch):
    save(folder, train=train, val=val)
    prepare(val="val.json")
    before = {p: p.read_bytes() for p in Path("out").rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_manifest", lambda *_: os.stat("no room"))
        with pytest.raises(UserError, match="no room: No such file"):
            prepare(val="val.json", seed=3)
    assert {p: p.read_bytes() for p in Path("out").rglob("*.*")} == before
    assert not Path(".out.partial").exists()
    os.rename("out", "elsewhere")
    Path("out").symlink_to("elsewhere")
    prepare(val="val.json")
    assert Path("out").is_symlink() and {p: p.read_bytes() for p in Path("out").rglob("*.*")} == before
    Path("out/thesis.tex").write_text("...")
    with pytest.raises(UserError, match=r"elsewhere: is not a folder of prepared data and would be lost"):
        prepare(val="val.json")
    assert Path("out/thesis.tex").exists()


def test_a_folder_of_originals_is_not_taken_for_prepared_data(folder, train, val):
    """Whose parts may have the very names of ours."""
    save(folder, train=train, val=val)
    for path in ("out/annotations/train.json", "out/train/1.jpg"):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    with pytest.raises(UserError, match=r"out: is not a folder of prepared data and would be lost"):
        prepare(val="val.json")
    assert Path("out/train/1.jpg").exists() and Path("out/annotations/train.json").exists()


@settings(deadline=None, max_examples=int(os.environ.get("FASA_FUZZ", 150)))
@given(text=damaged(coco([[7, 3]] * 3 + [[7], [3]] * 4)))
def test_a_damaged_file_is_prepared_or_refused_in_one_line(tmp_path_factory, text):
    root = tmp_path_factory.getbasetemp() / "damaged"
    (root / "images").mkdir(parents=True, exist_ok=True)
    save(root, train=coco([[7, 3]] * 3 + [[7], [3]] * 4))  # and its images
    (root / "train.json").write_bytes(text)
    section = dict(kind="coco", train=str(root / "train.json"), images=str(root / "images"))
    module, chosen = find(DETECTION, section, "data")
    try:
        module.prepare(chosen, root / "out")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        for part in ("train", "adapt", "val"):
            check_images(root / "images", read_annotations(root / f"out/annotations/{part}.json"))
