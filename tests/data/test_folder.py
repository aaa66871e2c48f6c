import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from sets import load

from fasa.data import folder
from fasa.data.images import exponential_counts
from fasa.errors import UserError


def write(root, train, test=2, size=(6, 8)):
    """Write random images, as many of each class in train as told; returns their pixels by part and class."""
    rng = np.random.default_rng(0)
    made = {}
    for part, sizes in (("train", train), ("test", dict.fromkeys(train, test))):
        for name, number in sizes.items():
            (root / part / name).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i:03d}.png")
                made.setdefault((part, name), []).append(pixels.tobytes())
    return made


def zipped(root):
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*"), reverse=True):  # in another order than on the disk
            archive.write(file, file.relative_to(root))
    return path


def section(path, **more):
    return dict(kind="folder", path=str(path)) | more


def by_class(data, split):
    found = {name: [] for name in data.names}
    for image, label in zip(*split, strict=True):
        found[data.names[label]].append(image.tobytes())
    return found


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


def test_an_exponential_tail_is_cut_in_the_order_of_the_names(root):
    made = write(root, dict(cow=10, ant=10, bee=12))
    data = load(section(root, ratio=5), 0)
    assert data.names == ["ant", "bee", "cow"] and data.flip
    assert data.counts.tolist() == exponential_counts(10, 3, 5).tolist() == [10, 4, 2]
    assert np.bincount(data.adapt.labels, minlength=3).tolist() == [0, 8, 8]
    train, adapt, test = (by_class(data, split) for split in data[:3])
    for name in data.names:  # each once, under its own label
        assert {*train[name]} | {*adapt[name]} <= {*made["train", name]}
        assert not {*train[name]} & {*adapt[name]}
        assert test[name] == made["test", name]


def test_the_tail_that_is_there_is_kept(root):
    write(root, dict(one=4, few=9, many=40, some=9, single=1))
    data = load(section(root, adapt=5), 0)
    assert data.names == ["many", "few", "some", "one", "single"]
    assert data.counts.tolist() == [35, 8, 8, 4, 1]
    assert np.bincount(data.adapt.labels, minlength=5).tolist() == [5, 1, 1, 0, 0]
    assert load(section(root, adapt=0), 0).counts.tolist() == [40, 9, 9, 4, 1]


@pytest.mark.parametrize("adapt", [0, 1, 3, 100])
def test_no_tail_turns_round(root, adapt):
    write(root, {f"c{n:02d}": n for n in range(1, 32)}, test=1)
    assert load(section(root, adapt=adapt), 0).counts.tolist() == [
        n - min(adapt, n // 5) for n in range(31, 0, -1)
    ]


def test_a_zip_file_is_the_folder_in_it_and_is_not_unpacked(root, tmp_path):
    write(root, dict(ant=10, bee=12))
    archive = zipped(root)
    one, two = load(section(root, ratio=2), 3), load(section(archive, ratio=2), 3)
    assert one.names == two.names
    for a, b in zip(one[:3], two[:3], strict=True):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
    assert {path.name for path in tmp_path.iterdir()} == {"set", "set.zip"}


def test_links_are_followed_and_what_machines_leave_is_not(root, tmp_path):
    made = write(root, dict(a=3, b=3, c=3))
    for name in ("train/b/._000.png", "train/.ipynb_checkpoints/000.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"junk")
    archive = zipped(root)
    os.rename(root / "train" / "a", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", root / "train" / "a")
    for path in (root, archive):
        data = load(section(path), 0)
        assert data.names == ["a", "b", "c"]
        whole = [by_class(data, split) for split in (data.train, data.adapt)]
        for name in data.names:
            assert sorted(whole[0][name] + whole[1][name]) == sorted(made["train", name])


def test_deep_pictures_and_turned_photos_look_as_they_are_meant(root):
    write(root, dict(a=1, b=1), size=(8, 8))
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(ramp).save(root / "train" / "a" / "000.png")
    turned = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    turned.save(root / "train" / "b" / "000.png", exif=exif)
    data = load(section(root), 0)
    deep, photo = (data.train.images[data.train.labels == k][0] for k in range(2))
    assert np.array_equal(deep[..., 0], ramp >> 8)
    assert np.array_equal(photo[..., 0], np.rot90(np.arange(64).reshape(8, 8), -1))


def test_the_seed_decides(root):
    write(root, dict(ant=10, bee=10))
    one, same, other = (load(section(root, ratio=5), seed).train.images for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_grey_and_jpeg_images_are_taken_and_other_files_are_not(root):
    write(root, dict(ant=3, bee=3))
    Image.new("L", (8, 6), 77).save(root / "train/ant/grey.PNG")
    Image.new("RGB", (8, 6)).save(root / "train/bee/black.jpeg")
    (root / "train/ant/notes.txt").write_text("...")
    (root / "train/readme.png").touch()
    (root / "train/ant/sub").mkdir()
    (root / "train/ant/sub/other.png").touch()
    data = load(section(root), 0)
    assert data.counts.tolist() == [4, 4]
    assert bytes([77]) * 3 * 48 in by_class(data, data.train)["ant"]


def test_images_are_scaled_to_one_size(root):
    write(root, dict(ant=3, bee=3))
    Image.new("RGB", (20, 40), (1, 2, 3)).save(root / "train/ant/other.png")
    with pytest.raises(
        UserError, match=r"other\.png is of 20 x 40 pixels, .* of 8 x 6; set image_size to scale"
    ):
        load(section(root), 0)
    assert load(section(root, image_size=16), 0).train.images.shape == (7, 16, 16, 3)


def damaged(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def text(path):
    path.write_text("not an image")


def empty(path):
    path.write_bytes(b"")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def huge(path):
    path.write_bytes(path.read_bytes() + bytes(folder.LARGEST))


def wide(path):
    Image.new("1", (5000, 1)).save(path)


def gone(path):
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, r"train/bee/000\.png cannot be read as an image"),
        (text, r"train/bee/000\.png cannot be read as an image \(it is no PNG"),
        (empty, r"train/bee/000\.png cannot be read as an image"),
        (pipe, r"train/bee/000\.png: is no regular file of at most"),
        (huge, r"train/bee/000\.png: is no regular file of at most"),
        (wide, r"train/bee/000\.png cannot be read as an image \(it is 5000 x 1 pixels large\)"),
        (gone, r"train/bee/000\.png: No such file"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(root, spoil, message):
    write(root, dict(ant=3, bee=3))
    spoil(root / "train/bee/000.png")
    with pytest.raises(UserError, match=message) as error:
        load(section(root), 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("train", "remove", "more", "message"),
    [
        (dict(ant=3), None, {}, r"set: has no images train/CLASS/\*\.png of two classes or more$"),
        (dict(ant=3, bee=3), "test/ant", {}, r"set: has no images test/CLASS"),
        (
            dict(ant=3, bee=3, cow=3),
            "test/bee",
            {},
            r"set: test/bee has no images \(1 classes in one part only\)",
        ),
        (dict(ant=3, bee=3, cow=3), "train/bee", {}, r"set: train/bee has no images"),
        (dict(ant=3, bee=3), None, dict(ratio=4), r"set: ratio 4 leaves the rarest class without images"),
        (dict(ant=3, bee=3), None, dict(ratio=0.5), r"data\.ratio: Expected `float` >= 1"),
        (dict(ant=3, bee=3), None, dict(ratio="10"), r"data\.ratio: Expected `float \| null`, got `str`"),
        (dict(ant=3, bee=3), None, dict(adapt=-1), r"data\.adapt: Expected `int` >= 0"),
        (dict(ant=3, bee=3), None, dict(image_size=3), r"data\.image_size: Expected `int` >= 8"),
        (dict(ant=3, bee=3), None, dict(image_size=10**6), r"data\.image_size: Expected `int` <= 1024"),
        (dict(ant=3, bee=3), None, dict(path=None), r"data\.path: Expected `str`, got `null`"),
        (dict(ant=3, bee=3), None, dict(path="/none"), r"/none: No such file or directory"),
        (dict(ant=3, bee=3), None, dict(path="/dev/zero"), r"/dev/zero: is neither a folder nor a zip file"),
        (dict(ant=3, bee=3), None, dict(path=__file__), r"test_folder\.py: is no zip file that can be read"),
        (dict(ant=3, bee=3), None, dict(classes=3), r"data: Object contains unknown field `classes`"),
    ],
)
def test_what_is_no_such_set_is_refused(root, train, remove, more, message):
    write(root, train)
    if remove:
        for path in (root / remove).iterdir():
            path.unlink()
    with pytest.raises(UserError, match=message) as error:
        load(section(root) | more, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["claim", "bomb", "flip", "cut", "encrypted"])
def test_a_damaged_zip_file_is_refused(root, damage, monkeypatch):
    write(root, dict(ant=3, bee=3))
    archive = zipped(root)
    monkeypatch.setattr(folder, "LARGEST", 10_000)
    if damage == "bomb":
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr("train/bee/100.png", bytes(10_000_000))
    data = bytearray(archive.read_bytes())
    start = data.rindex(b"train/bee/000.png") - 46  # of its entry in the table of contents
    if damage == "claim":
        data[start + 24 : start + 28] = (2**32 - 2).to_bytes(4, "little")
    elif damage == "flip":
        place = data.index(b"train/bee/000.png") + 17
        data[place + 60 : place + 90] = bytes(30)
    elif damage == "cut":
        data = data[:-30]
    elif damage == "encrypted":
        data[start + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(UserError) as error:
        load(section(archive, adapt=0), 0)
    message = {
        "claim": r"train/bee/000.png claims 4294967294 bytes",
        "bomb": r"train/bee/100.png claims 10000000 bytes",
        "flip": r"train/bee/000.png cannot be",
        "cut": r"is no zip file that can be read",
        "encrypted": r"train/bee/000.png cannot be unpacked",
    }[damage]
    assert message in str(error.value) and "\n" not in str(error.value)


def test_names_that_lead_elsewhere_are_no_images_of_the_set(root, tmp_path):
    write(root, dict(ant=3, bee=3))
    archive = zipped(root)
    with zipfile.ZipFile(archive, "a") as file:
        for name in ("train/../etc.png", "/train/ant/x.png", "../train/ant/x.png", "train/ant/../../x.png"):
            file.writestr(name, b"...")
    assert load(section(archive, adapt=0), 0).names == ["ant", "bee"]
    assert {path.name for path in tmp_path.iterdir()} == {"set", "set.zip"}


def test_the_order_on_the_disk_does_not_count(root, monkeypatch):
    write(root, dict(ant=6, bee=6))
    first = load(section(root), 0)
    walk = os.walk

    def backwards(path):
        return reversed([(where, folders, files[::-1]) for where, folders, files in walk(path)])

    monkeypatch.setattr(os, "walk", backwards)
    assert np.array_equal(load(section(root), 0).train.images, first.train.images)


def test_an_image_of_another_format_is_not_left_out_in_silence(root):
    """A class would lose images, and the tail be another."""
    write(root, dict(ant=3, bee=5))
    (root / "train" / "bee" / "notes.txt").touch()  # no image
    (root / "train" / "bee" / "000.png").rename(root / "train" / "bee" / "000.webp")
    with pytest.raises(UserError, match=r"train/bee/000\.webp is no PNG or JPEG; convert it"):
        load(section(root), 0)


def test_as_many_as_nobody_has_may_be_asked_for(root):
    write(root, dict(ant=10, bee=10))
    assert load(section(root, adapt=10**30), 0).counts.tolist() == [8, 8]
