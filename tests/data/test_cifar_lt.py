import gzip
import hashlib
import os
import pickle
import tarfile

import numpy as np
import pytest
from cifar_archive import contents, python2, python3, write, write_archive

from fasa import sections
from fasa.data import cifar_lt
from fasa.data.cifar_lt import Settings, fetch, load, read
from fasa.errors import UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cifar.tar.gz"


@pytest.fixture
def archive(path, monkeypatch):
    """An archive of 4 classes with 10, 2 to test, whose sum passes for the original's."""
    write_archive(path)
    monkeypatch.setattr(cifar_lt, "HASH", f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")
    return str(path)


def refused(path):
    with pytest.raises(UserError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_the_pickles_are_those_of_python_2_and_3():
    old, new = python2(contents()["train"]), python3(contents()["train"])
    assert b"numpy.core.multiarray" in old and b"_codecs" not in old
    assert b"numpy._core.multiarray" in new and b"_codecs" in new


@pytest.mark.parametrize("dump", [python2, python3])
def test_an_archive_is_read_back(path, dump):
    made = contents()
    train, test, names = read(write_archive(path, dump))
    assert names == ["class_0", "class_1", "class_2", "class_3"]
    for split, content in ((train, made["train"]), (test, made["test"])):
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        assert split.labels.tolist() == content[b"fine_labels"]
        for image, row in zip(split.images, content[b"data"], strict=True):
            assert image.shape == (32, 32, 3)
            for channel in range(3):
                assert image[..., channel].tobytes() == row[1024 * channel :][:1024].tobytes()
    # NumPy's own unpickling as the oracle
    theirs = pickle.loads(dump(made["train"]), encoding="bytes")
    assert theirs[b"data"].reshape(-1, 3, 32, 32)[7, 2, 30, 5] == train.images[7, 30, 5, 2]


def test_train_keeps_the_tail_and_adapt_has_the_rest(archive):
    data = load(Settings(archive=archive, ratio=5), 0)
    full, test, _ = read(archive)
    assert data.counts.tolist() == [10, 5, 3, 2]
    assert np.bincount(data.adapt.labels, minlength=4).tolist() == [0, 5, 7, 8]
    assert data.flip and np.array_equal(data.test.images, test.images)
    rows = {image.tobytes(): label for image, label in zip(full.images, full.labels, strict=True)}
    found = [
        (image.tobytes(), label)
        for part in (data.train, data.adapt)
        for image, label in zip(part.images, part.labels, strict=True)
    ]
    assert len(found) == len(rows) == 40 and dict(found) == rows  # each once, under its own label


def test_adapt_can_be_smaller(archive):
    data, all_left = (load(Settings(archive=archive, ratio=5, adapt=n), 0) for n in (6, 500))
    assert np.bincount(data.adapt.labels, minlength=4).tolist() == [0, 5, 6, 6]
    assert np.array_equal(data.train.images, all_left.train.images)


def test_the_seed_chooses_what_is_kept(archive):
    one, same, other = (load(Settings(archive=archive, ratio=5), seed).train.images for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_the_default_archive_is_used_where_it_lies(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    os.rename(archive, cifar_lt.ARCHIVE)
    assert load(Settings(ratio=5), 0).counts.tolist() == [10, 5, 3, 2]
    assert fetch(Settings()) == cifar_lt.ARCHIVE


def test_loading_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"cifar-100-python\.tar\.gz: is not there yet; run: dvc repro images@cifar100$"
    ):
        load(Settings(), 0)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_given_by_hand_is_checked_and_left_alone(path):
    write_archive(path)
    with pytest.raises(UserError, match=r"is cut off or another file \(md5 \w+, not eb9058c3a382ffc7106e"):
        load(Settings(archive=str(path)), 0)
    assert path.exists()
    with pytest.raises(UserError, match=r"no\.tar\.gz: cannot be read \(No such file"):
        load(Settings(archive="no.tar.gz"), 0)


class Evil:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("part", ["train", "test", "meta"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(path, tmp_path, part):
    evil = contents()[part] | {b"extra": Evil(tmp_path / "ran")}
    message = refused(write_archive(path, python3, **{part: evil}))
    assert message.startswith(f"cifar-100-python/{part}: is not a pickle as in CIFAR-100 (it asks to run ")
    assert "mkdir, which was refused" in message
    assert not (tmp_path / "ran").exists()
    pickle.loads(python3(evil))
    assert (tmp_path / "ran").exists()  # it would have run


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"c_codecs\ndecode\n.",
        b"cnumpy\nndarray.tofile\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        b"\x80\x02cbuiltins\nobject\n)\x81.",
    ],
)
def test_no_name_is_known_but_those_of_arrays(path, code):
    members = {f"cifar-100-python/{part}": code for part in ("train", "test", "meta")}
    assert "which was refused" in refused(write(path, members))


@pytest.mark.parametrize(
    "code", [b"", b"\x80\x02}q\x01", b"not a pickle", b"\x80\x02c_codecs\nencode\n)R.", b"\x80\x02P1\n."]
)
def test_a_broken_pickle_is_refused(path, code):
    members = {f"cifar-100-python/{part}": code for part in ("train", "test", "meta")}
    assert "is not a pickle as in CIFAR-100" in refused(write(path, members))


def test_a_missing_file_is_refused(path):
    assert refused(path) == "is no archive that can be read (No such file or directory)"


@pytest.mark.parametrize("share", [0, 0.0001, 0.3, 0.9])
def test_a_truncated_archive_is_refused(path, share):
    data = write_archive(path).read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert refused(path).startswith("is no archive that can be read")


def test_a_damaged_archive_is_refused(path):
    data = bytearray(write_archive(path).read_bytes())
    data[1000:1100] = bytes(100)
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cifar-100-python/train", tarfile.REGTYPE),
        ("something/else", tarfile.REGTYPE),
        ("long", tarfile.GNUTYPE_LONGNAME),
        ("pax", tarfile.XHDTYPE),
    ],
)
def test_a_member_that_never_ends_is_refused(path, monkeypatch, name, kind):
    """It claims 2^40 bytes and has a thousand times of what is taken."""
    monkeypatch.setattr(cifar_lt, "MOST", 100_000)
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, 2**40
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(100):
            file.write(bytes(1_000_000))
    assert refused(path) == "is no archive that can be read (it unpacks to more than the original)"


def test_members_are_taken_by_their_exact_names(path, tmp_path):
    made = {part: python2(content) for part, content in contents().items()}
    write(path, {f"../cifar-100-python/{part}": data for part, data in made.items()})
    assert refused(path).startswith(
        "has no cifar-100-python/train, cifar-100-python/test, cifar-100-python/meta"
    )
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-100-python/train")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert refused(path).startswith("has no cifar-100-python/train")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def changed(key, value):
    return contents()["train"] | {key: value}


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ([1, 2], "content is not that of CIFAR-100"),
        ({b"data": contents()["train"][b"data"]}, "fine_labels"),
        (changed(b"data", b"pixels"), "content is not that of CIFAR-100"),
        (changed(b"data", np.zeros((40, 3071), np.uint8)), "content is not that of CIFAR-100"),
        (changed(b"data", np.zeros((40, 3072))), "an array of"),
        (changed(b"data", np.zeros((40, 3072), np.uint8, order="F")), "an array of"),
        (changed(b"fine_labels", [0] * 39), "labels are not one of 4 classes for each of 40 images"),
        (changed(b"fine_labels", [4] * 40), "labels are not one of 4 classes for each of 40 images"),
        (changed(b"fine_labels", ["cat"] * 40), "content is not that of CIFAR-100"),
    ],
)
def test_other_content_is_refused(path, train, reason):
    assert reason in refused(write_archive(path, python2, train=train))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"adapt": 0}, r"data\.adapt: Expected `int` >= 1"),
        ({"ratio": 0}, r"data\.ratio: Expected `float` >= 1"),
        ({"ratio": 501}, r"data: ratio 501 leaves"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        sections.read(Settings, wrong, "data")
