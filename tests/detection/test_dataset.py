"""Prepared data from their compact form: what mmdet makes of the annotation file itself, image by image."""

import json

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from fasa.data import compact
from fasa.detection.dataset import PreparedDataset
from fasa.errors import UserError

ODD = [  # boxes of an image of 40 x 30 pixels, and areas
    ([1, 2, 10, 12], 50),
    ([0.1, 0.2, 10.7, 12.3], 50.5),
    ([-5, -5, 10, 10], 9),  # in part outside
    ([50, 2, 10, 12], 50),  # all of it
    ([1, 2, 0.5, 12], 6),
    ([1, 2, 10, 12], 0),
]
MASKS = [[[1, 2, 11, 2, 11, 14.5]], dict(size=[30, 40], counts="PoS1"), [], None]


@pytest.fixture
def odd(tmp_path):
    """A folder with an annotation file of all that mmdet takes and leaves, written compactly too."""
    images, annotations = [], []
    for number in range(
        4
    ):  # the last has no objects; the second only such as do not count; the third is small
        size = dict(width=20, height=10) if number == 2 else dict(width=40, height=30)
        lists = dict(neg_category_ids=[], not_exhaustive_category_ids=[])
        url = "http://images.cocodataset.org/val2017/3.jpg" if number == 3 else f"train/{number}.jpg"
        images.append(dict(id=7 - number, file_name="", coco_url=url) | size | lists)
        for box, area in () if number == 3 else ODD[3:] if number == 1 else ODD:
            one = dict(id=len(annotations) + 1, image_id=7 - number, category_id=5 - len(annotations) % 2)
            mask = MASKS[len(annotations) % 4]
            annotations.append(one | dict(bbox=box, area=area) | (dict(segmentation=mask) if mask else {}))
    counts = dict(frequency="r", image_count=1, instance_count=1)
    categories = [dict(id=number, name=f"class {number}") | counts for number in (5, 4)]
    annotations = annotations[::-1]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    compact.write(path)
    return tmp_path


@pytest.mark.parametrize("rules", [None, dict(filter_empty_gt=True, min_size=15)])
@pytest.mark.parametrize("test_mode", [False, True])
def test_equals_what_mmdet_makes_of_the_file(odd, rules, test_mode):
    init_default_scope("mmdet")
    place = dict(data_root=str(odd), ann_file="train.json", data_prefix=dict(img="images"))
    place |= dict(metainfo=dict(classes=["class 5", "class 4"]), filter_cfg=rules, test_mode=test_mode)
    mine, theirs = (DATASETS.build(dict(type=name) | place) for name in (PreparedDataset, "LVISV1Dataset"))
    assert len(mine) == len(theirs) == (2 if rules and not test_mode else 4)
    assert (mine.cat_ids, mine.cat2label) == (theirs.cat_ids, theirs.cat2label)
    assert mine.metainfo == theirs.metainfo
    for i in range(-1, len(mine)):
        assert mine.get_data_info(i) == theirs.get_data_info(i)
        assert mine.get_cat_ids(i) == theirs.get_cat_ids(i)
    assert sum(len(mine.get_data_info(i)["instances"]) for i in range(len(mine))) > 2


def test_equals_what_mmdet_makes_of_the_tiny_set(tiny_glyphs, config):
    init_default_scope("mmdet")
    cfg = config().train_dataloader.dataset
    assert cfg.type == "PreparedDataset"
    mine, theirs = DATASETS.build(cfg), DATASETS.build(cfg | dict(type="LVISV1Dataset"))
    assert len(mine) == len(theirs) == 12
    for i in range(12):
        one, other = mine[i]["data_samples"].gt_instances, theirs[i]["data_samples"].gt_instances
        assert torch.equal(one.bboxes.tensor, other.bboxes.tensor) and torch.equal(one.labels, other.labels)
        assert (one.masks.masks == other.masks.masks).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text(path.read_text() + " "), "train.json: was edited or cut off since"),
        (
            lambda path: path.write_text(path.read_text().replace("class 4", "class 3")),
            "was edited since it was",
        ),
        (lambda path: path.unlink(), "train.json: no such file; run: dvc repro -fs data@NAME"),
        (lambda path: path.with_suffix(".npz").unlink(), "train.npz: No such file or directory"),
        (lambda path: path.with_suffix(".npz").write_bytes(b"PK"), "its compact form cannot be read"),
        (lambda path: path.with_suffix(".lines").write_bytes(b""), "its compact form cannot be read"),
        (
            lambda path: path.with_suffix(".lines").write_bytes(b"{}"),
            "train.json: was edited or cut off since",
        ),
    ],
)
def test_what_does_not_belong_to_the_file_is_refused(odd, damage, message):
    compact.open_compact(odd / "train.json")
    damage(odd / "train.json")
    with pytest.raises(UserError, match=message):
        compact.open_compact(odd / "train.json")


@pytest.mark.parametrize("indices", [2, -2, [2, 0]])
def test_some_images_alone_are_those_of_mmdet(odd, indices):
    init_default_scope("mmdet")
    place = dict(data_root=str(odd), ann_file="train.json", data_prefix=dict(img="images"), indices=indices)
    mine, theirs = (DATASETS.build(dict(type=name) | place) for name in (PreparedDataset, "LVISV1Dataset"))
    assert len(mine) == len(theirs)
    assert [mine.get_data_info(i) for i in range(len(mine))] == [
        theirs.get_data_info(i) for i in range(len(theirs))
    ]
