import hashlib
import json
import os
import shutil
import zipfile
from collections import Counter

import pytest
from lvis_folder import GROUPS, categories, write_lvis

from fasa.data import Source, lvis_v1, source
from fasa.data.kinds import DETECTION, find
from fasa.data.lvis import check_images, read_annotations
from fasa.data.lvis_v1 import Archive
from fasa.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_lvis(tmp_path_factory.mktemp("lvis"))


@pytest.fixture
def folder(made, tmp_path):
    """A copy whose annotation files may be changed; images are shared."""
    shutil.copytree(made, tmp_path / "lvis", copy_function=os.link)
    for path in (tmp_path / "lvis").glob("*.json"):
        path.unlink()
        shutil.copy(made / path.name, path)
    return tmp_path / "lvis"


def prepare(folder, out, **section):
    module, settings = find(
        DETECTION, dict(kind="lvis_v1", path=str(folder), complete=False) | section, "lvis.data"
    )
    module.prepare(settings, out)
    return {part: read_annotations(out / f"annotations/{part}.json") for part in ("train", "adapt", "val")}


def images_of(content):
    held = {}
    for a in content["annotations"]:
        held.setdefault(a["category_id"], set()).add(a["image_id"])
    return Counter({k: len(images) for k, images in held.items()})


def test_a_folder_of_lvis(made, tmp_path, capsys):
    parts = prepare(made, tmp_path / "out")
    told = capsys.readouterr().out
    assert "a part of LVIS v1: 200 images of 100170, 2600 objects of 1270141" in told
    assert "classes: 1203, 337 r, 461 c, 405 f, as in the file" in told
    assert source(tmp_path / "out") == Source(kind="lvis_v1", images=str(made), iou_types=["segm", "bbox"])
    original = {part: json.loads((made / f"lvis_v1_{part}.json").read_text()) for part in ("train", "val")}
    ids = {part: {a["id"]: a for a in content["annotations"]} for part, content in parts.items()}
    assert ids["train"] | ids["adapt"] == {a["id"]: a for a in original["train"]["annotations"]}
    assert ids["val"] == {a["id"]: a for a in original["val"]["annotations"]}
    for part, content in parts.items():
        check_images(made, content)
        theirs = {image["id"]: image for image in original["val" if part == "val" else "train"]["images"]}
        for image in content["images"]:
            for key, value in image.items():
                if key not in ("file_name", "coco_url"):
                    assert value == theirs[image["id"]][key]
        assert [c["frequency"] for c in content["categories"]] == [c["frequency"] for c in categories()]
    assert {image["coco_url"].split("/")[0] for image in parts["val"]["images"]} == {"train2017", "val2017"}


def test_what_adapting_costs_a_rare_class(made, tmp_path):
    parts = prepare(made, tmp_path / "out", adapt=0.5)
    before = images_of(json.loads((made / "lvis_v1_train.json").read_text()))
    after = images_of(parts["train"])
    assert after.keys() == before.keys() and before.keys() == {*range(1, 1204)}
    assert all(after[k] == n if n <= 2 else after[k] >= max(2, n / 2) for k, n in before.items())
    assert images_of(parts["adapt"]) == before - after
    for category in parts["val"]["categories"]:
        assert category["image_count"] == after[category["id"]]


def test_the_papers_choice_is_leaky(made, tmp_path, capsys):
    parts = prepare(made, tmp_path / "out", adapt="val")
    assert source(tmp_path / "out").leaky and "leaky" in capsys.readouterr().out
    assert parts["adapt"] == parts["val"] and len(parts["train"]["images"]) == 200


def test_a_sample_has_what_was_cut_and_classes_first(made, tmp_path, capsys):
    whole, few = prepare(made, tmp_path / "whole"), prepare(made, tmp_path / "few", sample=9)
    assert "train: a sample of 9 of" in capsys.readouterr().out
    for part, content in few.items():
        ids = {image["id"] for image in content["images"]}
        assert ids < {image["id"] for image in whole[part]["images"]} or len(whole[part]["images"]) <= 9
        assert len(ids) == min(9, len(whole[part]["images"]))
    # Each of its images has a class that the others have not, and classes without an object are gone.
    held = {}
    for a in few["train"]["annotations"]:
        held.setdefault(a["category_id"], set()).add(a["image_id"])
    assert {next(iter(images)) for images in held.values() if len(images) == 1} == {
        image["id"] for image in few["train"]["images"]
    }
    assert {c["id"] for c in few["train"]["categories"]} == held.keys()


def test_a_part_to_tune_on_is_cut_from_train(made, tmp_path):
    before = prepare(made, tmp_path / "out", adapt="val")
    after = prepare(made, tmp_path / "out", adapt="val", tune=0.1)
    assert source(tmp_path / "out").parts == ("train", "adapt", "val", "tune")
    tune = read_annotations(tmp_path / "out/annotations/tune.json")["images"]
    assert tune and after["val"] == after["adapt"]
    ids = [image["id"] for image in [*after["train"]["images"], *tune]]
    assert sorted(ids) == [image["id"] for image in before["train"]["images"]]


def test_annotations_may_lie_in_their_own_folder(folder, tmp_path):
    (folder / "annotations").mkdir()
    for part in ("train", "val"):
        (folder / f"lvis_v1_{part}.json").rename(folder / f"annotations/lvis_v1_{part}.json")
    assert len(prepare(folder, tmp_path / "out")["val"]["images"]) == 20


def test_all_of_it_is_what_was_published(folder, tmp_path, monkeypatch):
    message = (
        r"lvis_v1_train\.json: has 200 images of 100170, 2600 objects of 1270141; set data\.complete: false"
    )
    with pytest.raises(UserError, match=message):
        prepare(folder, tmp_path / "out", complete=True)
    monkeypatch.setattr(lvis_v1, "IMAGES", dict(train=200, val=20))
    monkeypatch.setattr(lvis_v1, "OBJECTS", 2600)
    assert len(prepare(folder, tmp_path / "out", complete=True)["train"]["categories"]) == sum(
        GROUPS.values()
    )


def edit(folder, part, change):
    path = folder / f"lvis_v1_{part}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def with_classes(number):
    def change(content):
        content["categories"] += [
            dict(id=k, name=f"more_{k}", frequency="r", image_count=0, instance_count=0)
            for k in range(1204, number + 1)
        ]
        content["categories"] = content["categories"][:number]
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] <= number]
        for image in content["images"]:
            image["neg_category_ids"] = image["not_exhaustive_category_ids"] = []

    return change


def rename(content):
    content["categories"][5]["name"] = "another"


def regroup(content):
    content["categories"][5]["frequency"] = "few"


def without_masks(content):
    del content["annotations"][5]["segmentation"]


def beyond(content):
    content["annotations"][5]["bbox"] = [70, 3, 4, 4]


def traversal(content):
    content["images"][5]["coco_url"] = "http://images.cocodataset.org/../../etc/passwd"


def larger(content):
    content["images"][5]["width"] = 65


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train", with_classes(1230), r"train\.json: has 1230 classes, so it is LVIS v0\.5; v1 has 1203"),
        ("val", with_classes(1230), r"val\.json: has 1230 classes, so it is LVIS v0\.5"),
        ("train", with_classes(80), r"train\.json: has 80 classes, so it is another set; v1 has 1203"),
        ("val", rename, r"val: category 6 is 'another', in train 'alligator'"),
        ("train", regroup, r"categories\[5\]\.frequency: Invalid enum value 'few'"),
        ("train", without_masks, r"train\.json: 1 of 2600 objects have no mask"),
        ("val", beyond, r"annotations\[5\]\.bbox: .* lies outside of its image of 64 x 48 pixels"),
        ("train", traversal, r"images\[5\]: '\.\./\.\./etc/passwd' does not name a file inside"),
        ("val", larger, r"images\[5\]: .* has 64 x 48 pixels, the annotations say 65 x 48"),
    ],
)
def test_what_is_not_lvis_v1_is_refused(folder, tmp_path, part, change, message):
    edit(folder, part, change)
    with pytest.raises(UserError, match=message) as error:
        prepare(folder, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_missing_file_is_named(folder, tmp_path):
    (folder / "train2017/000000000007.jpg").unlink()
    with pytest.raises(UserError, match=r"images\[6\]: \S+/train2017/000000000007\.jpg is missing$"):
        prepare(folder, tmp_path / "out")
    (folder / "lvis_v1_val.json").unlink()
    with pytest.raises(
        UserError, match=r"lvis_v1_val\.json: is missing; data\.path names the folder of LVIS v1"
    ):
        prepare(folder, tmp_path / "out")


@pytest.fixture
def archives(made, tmp_path, server, monkeypatch):
    """The four zip files, served; their record of what is published."""
    listed = []
    for name in ("lvis_v1_train.json", "lvis_v1_val.json", "train2017", "val2017"):
        packed = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted((made / name).iterdir()) if (made / name).is_dir() else [made / name]:
                archive.write(path, path.relative_to(made))
        data = packed.read_bytes()
        server.files[f"/{packed.name}"] = data
        md5 = f"md5:{hashlib.md5(data).hexdigest()}"
        listed.append(Archive(f"{server.url}{packed.name}", md5, len(data), name, 10**7))
    monkeypatch.setattr(lvis_v1, "ARCHIVES", tuple(listed))
    return tmp_path / "fetched"


def test_what_is_missing_is_fetched_and_unpacked_once(archives, made, tmp_path, server):
    for _ in range(2):
        prepare(archives, tmp_path / "out", fetch=True)
    assert len(server.requests) == 4
    for path in made.rglob("*.*"):
        assert (archives / path.relative_to(made)).read_bytes() == path.read_bytes()
    assert not list(archives.glob(".*"))


def test_fetching_goes_on_where_it_stopped(archives, tmp_path, server):
    server.cut = 50_000
    with pytest.raises(UserError, match="goes on where it stopped"):
        prepare(archives, tmp_path / "out", fetch=True)
    server.cut = None
    prepare(archives, tmp_path / "out", fetch=True)
    assert server.requests[1][0] == "bytes=50000-"


def test_the_published_archives_fit_their_sizes():
    assert sum(one.size for one in lvis_v1.ARCHIVES) == 20_566_738_917
    assert all(one.unpacked > one.size and len(one.hash) == 36 for one in lvis_v1.ARCHIVES)
