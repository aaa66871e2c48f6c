import hashlib
import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from lvis import LVIS, LVISEval, LVISResults
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from fasa.data import Source, alphabet, glyphs, source
from fasa.data.prepared import PARTS
from fasa.errors import UserError
from fasa.sections import read

SMALL = {
    "seed": 5,
    "classes": 12,
    "images": {"train": 130, "adapt": 3, "val": 6, "tune": 4},
    "objects": [2, 5],
    "ratio": 3000,
    "pairs": 2,
}


def render(root, settings):
    glyphs.prepare(read(glyphs.Settings, settings, "data"), root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "glyphs"
    render(root, SMALL)
    return root


@pytest.fixture(scope="module")
def parts(root):
    return {part: json.loads((root / "annotations" / f"{part}.json").read_text()) for part in PARTS}


def digests(root):
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.*")}


def test_same_settings_give_the_same_bytes_and_replace_the_old_set(root, tmp_path):
    small = SMALL | {"images": {"train": 10, "adapt": 1, "val": 1}}
    for folder, settings in (("a", small), ("b", small | {"seed": 6}), ("b", small)):
        render(tmp_path / folder, settings)
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert first == second and len(first) == 22
    render(tmp_path / "c", small | {"seed": 6})
    assert all(
        digests(tmp_path / "c")[name] != digest for name, digest in first.items() if name != "source.json"
    )
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "c"}


def test_files_are_as_annotated(root, parts):
    for part, content in parts.items():
        assert len(content["images"]) == SMALL["images"][part] == len(list((root / part).iterdir()))
        for image in content["images"]:
            assert image["coco_url"] == image["file_name"] == f"{part}/{image['id']:06d}.png"
            with Image.open(root / image["file_name"]) as picture:
                assert (picture.width, picture.height) == (image["width"], image["height"]) == (128, 128)
                assert picture.mode == "RGB"


def by_image(content):
    images = defaultdict(list)
    for annotation in content["annotations"]:
        images[annotation["image_id"]].append(annotation)
    return images


def test_the_source_says_where_the_images_are(root):
    assert source(root) == Source(
        kind="glyphs", images=str(root), iou_types=["segm", "bbox"], parts=("train", "adapt", "val", "tune")
    )


def test_a_part_to_tune_on_changes_no_other(root, tmp_path):
    render(tmp_path / "glyphs", SMALL | {"images": {"train": 130, "adapt": 3, "val": 6}})
    assert source(tmp_path / "glyphs").parts == ("train", "adapt", "val")
    without = digests(tmp_path / "glyphs")
    assert {name: digest for name, digest in digests(root).items() if "tune" not in name} | {
        "source.json": without["source.json"]
    } == without


def test_masks_areas_and_boxes_agree(parts):
    for content in parts.values():
        assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        for annotations in by_image(content).values():
            masks = [rle.decode(a["segmentation"]) for a in annotations]
            assert np.sum(masks, axis=0).max() == 1  # what one object shows, no other does
            for annotation, mask in zip(annotations, masks, strict=True):
                assert annotation["area"] == mask.sum() == rle.area(annotation["segmentation"]) > 0
                ys, xs = np.nonzero(mask)
                box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                assert annotation["bbox"] == box


def test_lvis_and_coco_load_it_with_equal_areas(root):
    path = str(root / "annotations" / "val.json")
    for content in (LVIS(path), COCO(path)):
        assert len(content.cats) == 12 and len(content.imgs) == 6
        for annotation in content.anns.values():
            mask = (
                content.ann_to_mask(annotation)
                if isinstance(content, LVIS)
                else content.annToMask(annotation)
            )
            assert mask.sum() == annotation["area"]


def test_lvis_gives_perfect_detections_full_marks_and_counts_false_ones(root, parts, monkeypatch):
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 was written for NumPy 1
    truth = LVIS(str(root / "annotations" / "val.json"))
    keys = ("image_id", "category_id", "bbox", "segmentation")
    perfect = [{key: a[key] for key in keys} | {"score": 0.9} for a in parts["val"]["annotations"]]
    wrong = [d | {"category_id": d["category_id"] % 12 + 1, "score": 1.0} for d in perfect]
    for detections, full in ((perfect, True), (perfect + wrong, False)):
        evaluation = LVISEval(truth, LVISResults(truth, detections), "segm")
        evaluation.run()
        assert (evaluation.get_results()["AP"] == pytest.approx(1)) == full


def test_counts_and_frequency_groups_are_those_of_train(parts):
    train = parts["train"]["annotations"]
    assert parts["train"]["categories"] == parts["adapt"]["categories"] == parts["val"]["categories"]
    groups = set()
    for category in parts["val"]["categories"]:
        mine = [a for a in train if a["category_id"] == category["id"]]
        images = len({a["image_id"] for a in mine})
        assert category["instance_count"] == len(mine) >= 1
        assert category["image_count"] == images
        assert category["frequency"] == ("r" if images <= 10 else "c" if images <= 100 else "f")
        groups.add(category["frequency"])
    assert groups == {"r", "c", "f"}
    assert [c["id"] for c in parts["val"]["categories"]] == list(range(1, 13))


def test_all_but_train_are_balanced(parts):
    for part in ("val", "adapt", "tune"):
        counts = Counter(a["category_id"] for a in parts[part]["annotations"])
        counts = [counts[k] for k in range(1, 13)]
        assert max(counts) - min(counts) <= 1


def recorded(monkeypatch, folder, **settings):
    """Of a small set, what each scene shows, what each pixel shows of it, and the annotations."""
    scenes = []

    def record(things, *args):
        picture, shown = paint(things, *args)
        scenes.append((things, shown))
        return picture, shown

    paint = glyphs.paint
    monkeypatch.setattr(glyphs, "paint", record)
    render(folder, SMALL | {"images": {"train": 30, "adapt": 1, "val": 1}} | settings)
    monkeypatch.undo()
    content = json.loads((folder / "annotations/train.json").read_text())
    present = by_image(content)
    return [(*scene, present[image["id"]]) for scene, image in zip(scenes, content["images"], strict=False)]


def test_scraps_are_of_other_characters_and_not_annotated(tmp_path, monkeypatch):
    scenes = recorded(monkeypatch, tmp_path / "glyphs", scraps=[1, 4])
    categories = json.loads((tmp_path / "glyphs/annotations/train.json").read_text())["categories"]
    classes = {category["id"]: category["synonyms"][0] for category in categories}
    numbers, kinds, first = Counter(), set(), Counter()
    for things, shown, annotations in scenes:
        whole = {i: thing.character for i, thing in enumerate(things) if not thing.torn}
        for a in annotations:
            (place,) = np.unique(shown[rle.decode(a["segmentation"]) > 0])
            assert whole.pop(place) == classes[a["category_id"]]
        assert not whole
        torn = {thing.character for thing in things if thing.torn}
        assert not torn & {*classes.values()}
        numbers[sum(thing.torn for thing in things)] += 1
        first[things[0].torn] += 1
        kinds |= torn
    assert len(scenes) == 30 and numbers.keys() == {1, 2, 3, 4}
    assert len(kinds) > 40 and first.keys() == {False, True}


def test_faint_ones_are_annotated(tmp_path, monkeypatch):
    scenes = recorded(monkeypatch, tmp_path / "glyphs", faint=0.4)
    assert all(sum(not thing.torn for thing in things) == len(found) for things, _, found in scenes)
    for torn in (False, True):
        faint = [thing.faint for things, _, _ in scenes for thing in things if thing.torn == torn]
        assert np.mean(faint) == pytest.approx(0.4, abs=0.2)


def test_nothing_confuses_if_nothing_shall(tmp_path, monkeypatch):
    scenes = recorded(monkeypatch, tmp_path / "glyphs", scraps=[0, 0], faint=0)
    assert not any(thing.torn or thing.faint for things, _, _ in scenes for thing in things)


def test_where_all_are_classes_there_are_no_scraps(tmp_path, monkeypatch):
    monkeypatch.setattr(alphabet, "pool", lambda: tuple("abcdefghijkl"))
    small = SMALL | {"images": {"train": 10, "adapt": 1, "val": 1}}
    with pytest.raises(UserError, match=r"^data\.scraps: every character is a class"):
        render(tmp_path / "glyphs", small)
    render(tmp_path / "glyphs", small | {"scraps": [0, 0]})


def test_every_absent_class_is_a_negative(parts):
    for content in parts.values():
        present = by_image(content)
        for image in content["images"]:
            shown = {a["category_id"] for a in present[image["id"]]}
            assert image["neg_category_ids"] == sorted({*range(1, 13)} - shown)
            assert image["not_exhaustive_category_ids"] == []


def test_categories_tell_name_look_alikes_and_company(parts):
    categories = {c["id"]: c for c in parts["train"]["categories"]}
    company = {k: c["cooccurs_with"] for k, c in categories.items() if c["cooccurs_with"]}
    assert len(company) == 4 and all(company[partner] == k != partner for k, partner in company.items())
    for category in categories.values():
        (character,) = category["synonyms"]
        assert category["synset"] == f"{category['name']}.u.{ord(character):04x}"
        assert category["name"] == alphabet.class_name(character)
        assert category["script"] == alphabet.script(character)
        assert category["base"] == alphabet.class_name(alphabet.base(character))
    shared = Counter()
    for annotations in by_image(parts["train"]).values():
        labels = {a["category_id"] for a in annotations}
        shared.update(k for k in labels if company.get(k) in labels)
    for k, partner in company.items():
        assert shared[k] >= int(0.6 * min(categories[j]["instance_count"] for j in (k, partner))) - 1


def test_as_many_classes_as_lvis(tmp_path):
    settings = dict(
        seed=0,
        classes=1203,
        image_size=192,
        images={"train": 61, "adapt": 1, "val": 1},
        objects=[20, 20],
        object_size=[12, 16],
    )
    render(tmp_path / "glyphs", settings)
    content = json.loads((tmp_path / "glyphs" / "annotations" / "train.json").read_text())
    assert len({a["category_id"] for a in content["annotations"]}) == len(content["categories"]) == 1203
    present = by_image(content)
    for image in content["images"]:
        negatives = set(image["neg_category_ids"])
        assert len(negatives) == 200 and not negatives & {a["category_id"] for a in present[image["id"]]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 5000}, r"data\.classes: is 5000; choose 1 to 1\d\d\d"),
        ({"images": {"train": 2, "adapt": 1, "val": 1}}, r"data\.images\.train: \d+ objects .* 12 classes"),
        ({"images": {"train": 5, "val": 1}}, r"data\.images: Object missing required field `adapt`"),
        ({"images": {"train": 5, "adapt": 0, "val": 1}}, r"data\.images\.adapt: Expected `int` >= 1"),
        ({"images": {"train": 5, "adapt": 1, "val": 1, "test": 1}}, r"data\.images: .*unknown field `test`"),
        ({"images": [5, 1, 1]}, r"data\.images: Expected `object`, got `array`"),
        ({"objects": [5, 3]}, r"data: objects must be \[fewest, most\]"),
        ({"objects": [0, 3]}, r"data\.objects\[0\]: Expected `int` >= 1"),
        ({"objects": [2, 3.5]}, r"data\.objects\[1\]: Expected `int`, got `float`"),
        ({"objects": [2]}, r"data\.objects: Expected `array` of length 2"),
        ({"objects": [60, 60]}, r"data\.objects: 6\d objects of 28 to 60 pixels do not fit an image of 128"),
        ({"object_size": [60, 28]}, r"data: object_size must be \[smallest, largest\]"),
        ({"object_size": [28, 500]}, r"data: object_size must be at most image_size, 128"),
        ({"object_size": [7, 28]}, r"data\.object_size\[0\]: Expected `int` >= 8"),
        ({"image_size": 10**9}, r"data\.image_size: Expected `int` <= 4096"),
        ({"ratio": 0.5}, r"data\.ratio: Expected `float` >= 1"),
        ({"scraps": [2, 1]}, r"data: scraps must be \[fewest, most\]"),
        ({"scraps": [-1, 1]}, r"data\.scraps\[0\]: Expected `int` >= 0"),
        ({"faint": 1.1}, r"data\.faint: Expected `float` <= 1"),
        ({"visible": 0}, r"data\.visible: Expected `float` >= 0\.1"),
        ({"classes": 10**9}, r"data\.classes: Expected `int` <= 1000000"),
        ({"objects": [3, 10**9]}, r"data\.objects\[1\]: Expected `int` <= 1000000"),
        (
            {"images": {"train": 10**9, "adapt": 1, "val": 1}},
            r"data\.images\.train: Expected `int` <= 1000000",
        ),
        ({"ratio": float("nan")}, r"data\.ratio is nan"),
        ({"pairs": 7}, r"data: pairs must be at most 6"),
        ({"pairs": -1}, r"data\.pairs: Expected `int` >= 0"),
        ({"together": 1.5}, r"data\.together: Expected `float` <= 1"),
        ({"seed": -1}, r"data\.seed: Expected `int` >= 0"),
        ({"seed": True}, r"data\.seed: Expected `int`, got `bool`"),
        ({"clases": 3}, r"data: Object contains unknown field `clases`"),
        ({"kind": "coco"}, r"data\.kind: Invalid value 'coco'"),
    ],
)
def test_settings_that_cannot_be_met_are_refused_and_leave_nothing(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        render(tmp_path / "glyphs", SMALL | wrong)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_render_leaves_the_earlier_set(tmp_path, monkeypatch):
    small = SMALL | {"images": {"train": 10, "adapt": 1, "val": 1}}
    render(tmp_path / "glyphs", small)
    before = digests(tmp_path)
    (tmp_path / ".glyphs.partial").mkdir()  # of a process that was killed

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(glyphs, "_categories", interrupt)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "glyphs", small | {"seed": 1})
    assert digests(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["glyphs"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="is not a folder of prepared data"):
        render(tmp_path, SMALL)
    assert (tmp_path / "thesis.tex").exists()
