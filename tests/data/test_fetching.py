import gzip
import hashlib
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fasa.data import fetching
from fasa.data.fetching import check_sum, fetch, unpack
from fasa.errors import UserError

CONTENT = np.random.default_rng(0).bytes(1_000_000)


def md5(data):
    return f"md5:{hashlib.md5(data).hexdigest()}"


@pytest.fixture
def server(server):
    server.files["/a.tar.gz"] = CONTENT
    server.url += "a.tar.gz"
    return server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "a.tar.gz"


def part(path):
    return path.with_name("a.tar.gz.part")


def refused(url, path):
    with pytest.raises(UserError) as error:
        fetch(url, path, md5(CONTENT))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_fetched_once(server, path):
    for _ in range(2):
        assert fetch(server.url, path, md5(CONTENT)) == path
        assert path.read_bytes() == CONTENT
    assert server.requests == [(None, 200, 1_000_000)]
    assert list(path.parent.iterdir()) == [path]


def test_progress_is_shown(server, path, capsys):
    fetch(server.url, path, md5(CONTENT))
    assert "a.tar.gz: 100%" in capsys.readouterr().err


def test_an_interrupted_download_goes_on_where_it_stopped(server, path):
    server.cut = 600_000
    message = refused(server.url, path)
    assert message.startswith(f"{server.url}: cannot be fetched (") and "goes on where it stopped" in message
    assert part(path).read_bytes() == CONTENT[:600_000] and not path.exists()
    server.cut = 300_000
    refused(server.url, path)
    assert part(path).read_bytes() == CONTENT[:900_000]
    server.cut = None
    fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.requests == [
        (None, 200, 600_000),
        ("bytes=600000-", 206, 300_000),
        ("bytes=900000-", 206, 100_000),
    ]
    assert list(path.parent.iterdir()) == [path]


def test_of_two_at_once_one_fetches_and_the_other_waits(server, path):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch(server.url, path, md5(CONTENT)), range(2)))
    assert found == [path, path] and path.read_bytes() == CONTENT and len(server.requests) == 1


def test_a_file_that_cannot_be_read_stays_where_it_is(server, path, monkeypatch):
    path.parent.mkdir()
    path.write_bytes(CONTENT)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pooch.file_hash", refuse)  # chmod does not keep root out
    with pytest.raises(UserError, match="cannot be read"):
        fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT and not server.requests


def test_a_server_that_ignores_ranges_sends_it_anew(server, path):
    server.cut = 600_000
    refused(server.url, path)
    server.cut, server.ranges = None, False
    fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.requests[1] == ("bytes=600000-", 200, 1_000_000)


def test_a_complete_part_needs_nothing_more(server, path):
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT and not part(path).exists()
    assert server.requests == [("bytes=1000000-", 416, 0)]


@pytest.mark.parametrize("start", [b"another file", CONTENT + b"and more"])
def test_a_part_of_another_file_is_removed(server, path, start):
    path.parent.mkdir()
    part(path).write_bytes(start)
    assert "what came is not the file expected" in refused(server.url, path)
    assert list(path.parent.iterdir()) == []
    fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_download_with_another_sum_is_removed_and_fetched_anew(server, path):
    server.files["/a.tar.gz"] = CONTENT[::-1]
    message = refused(server.url, path)
    assert message.startswith(f"{server.url}: what came is not the file expected ({md5(CONTENT)})")
    assert list(path.parent.iterdir()) == []
    server.files["/a.tar.gz"] = CONTENT
    fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_file_with_another_sum_is_renamed_and_fetched_anew(server, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT[:5])
    message = refused(server.url, path)
    assert message.startswith(f"{path}: is cut off or another file (md5 ")
    assert message.endswith("; renamed to a.tar.gz.wrong: run again to fetch it anew")
    assert path.with_name("a.tar.gz.wrong").read_bytes() == CONTENT[:5] and server.requests == []
    fetch(server.url, path, md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_bytes_are_not_unpacked_on_the_way(server, path):
    server.files["/a.tar.gz"] = gzip.compress(b"0" * 1000)
    server.headers = {"Content-Encoding": "gzip"}  # as some servers call every .gz
    fetch(server.url, path, md5(server.files["/a.tar.gz"]))
    assert path.read_bytes() == server.files["/a.tar.gz"]


def test_without_a_network_it_says_where_to_put_the_file(server, path):
    server.cut = 600_000
    refused(server.url, path)
    closed = "http://127.0.0.1:1/a.tar.gz"
    assert refused(closed, path) == (
        f"{closed}: cannot be fetched (ConnectionError); run again with a network, it goes on where it "
        f"stopped, or put the file at {path} by hand"
    )
    assert part(path).stat().st_size == 600_000  # kept for the next time


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_a_server_that_refuses(server, path, status, reason):
    server.status = status
    assert f"cannot be fetched ({reason})" in refused(server.url, path)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "data").write_text("a file")
    path = tmp_path / "data" / "a.tar.gz"
    assert refused(server.url, path).startswith(f"{path}: cannot be written (")


def test_check_sum_only_looks(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    assert check_sum(str(path), "md5:0cc175b9c0f1b6a831c399e269772661") == path
    with pytest.raises(UserError, match=r"a: is cut off or another file \(sha256 ca978112\w+, not 00\)$"):
        check_sum(path, "sha256:00")
    assert path.read_bytes() == b"a"
    with pytest.raises(UserError, match=r"b: cannot be read \(No such file or directory\)$"):
        check_sum(tmp_path / "b", "md5:00")


def test_no_more_is_taken_than_the_file_has(server, path):
    server.endless = True
    with pytest.raises(UserError, match=r"a\.tar\.gz: sends more than 1000000 bytes; is it another file\?$"):
        fetch(server.url, path, md5(CONTENT), len(CONTENT))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("size", [10, 999_999, 1_000_001])
def test_a_file_of_another_size_is_not_begun(server, path, size):
    with pytest.raises(
        UserError, match=rf"offers 1000000 bytes, and the file has {size}; is it another one\?$"
    ):
        fetch(server.url, path, md5(CONTENT), size)
    assert list(path.parent.iterdir()) == []


def test_no_download_begins_without_room_for_it(server, path):
    with pytest.raises(UserError, match=r"data: 1000000\.0 GB are to come, \d+\.\d GB are free; make room$"):
        fetch(server.url, path, md5(CONTENT), 10**15)
    assert server.requests == []


@pytest.fixture
def pack(tmp_path):
    """Write a zip file of names and contents; a name may be a ZipInfo."""

    def write(members):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return tmp_path / "a.zip"

    return write


def test_a_folder_and_a_file_are_unpacked(pack, tmp_path):
    archive = pack(
        {"images/": b"", "images/1.jpg": b"one", "images/sub/2.jpg": b"two", "a.json": b"{}", "b": b"b"}
    )
    assert unpack(archive, "images", tmp_path, 100) == tmp_path / "images"
    assert unpack(archive, "a.json", tmp_path, 100) == tmp_path / "a.json"
    found = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    del found["a.zip"]
    assert found == {"images/1.jpg": b"one", "images/sub/2.jpg": b"two", "a.json": b"{}"}


def link():
    info = zipfile.ZipInfo("images/1.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "has no images$"),
        ({"image/1.jpg": b"1"}, "has no images$"),
        ({"images/": b""}, "has no images$"),
        ({"/images/1.jpg": b"1"}, "has no images$"),
        ({"images/../../1.jpg": b"1"}, r"'images/\.\./\.\./1\.jpg' leads elsewhere"),
        ({"images/1.jpg": b"1", "images/..": b"1"}, "leads elsewhere"),
        ({link(): b"/etc/passwd"}, "leads elsewhere"),
        ({"images/1.jpg": bytes(2000)}, "images claims 2000 bytes, more than the 1000 it may have$"),
        ({f"images/{i}.jpg": bytes(2) for i in range(501)}, "images claims 1002 bytes"),
    ],
)
def test_what_must_not_be_unpacked_is_not(pack, tmp_path, members, message):
    archive = pack(members)
    with pytest.raises(UserError, match=message) as error:
        unpack(archive, "images", tmp_path, 1000)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("damage", ["cut", "claim", "flip", "text", "size"])
def test_a_damaged_archive_leaves_nothing(pack, tmp_path, damage):
    archive = pack({"images/1.jpg": np.random.default_rng(0).bytes(900)})
    data = bytearray(archive.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    if damage == "cut":
        data = data[:500]
    elif damage == "text":
        data = bytearray(b"not a zip file")
    elif damage == "flip":
        data[300] ^= 255
    elif damage == "claim":  # a terabyte, in a file of 900 bytes
        data[central + 24 : central + 28] = (2**32 - 2).to_bytes(4, "little")
    else:  # fewer bytes than there are
        data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip: (cannot be unpacked|images claims)") as error:
        unpack(archive, "images", tmp_path, 1000)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [archive]


def test_no_unpacking_begins_without_room_for_it(pack, tmp_path, monkeypatch):
    archive = pack({"images/1.jpg": bytes(900)})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: fetching.shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(UserError, match=r"0\.0 GB are to come, 0\.0 GB are free; make room$"):
        unpack(archive, "images", tmp_path, 1000)
    assert list(tmp_path.iterdir()) == [archive]


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(UserError, match=r"b\.zip: No such file or directory$"):
        unpack(tmp_path / "b.zip", "images", tmp_path, 1000)
