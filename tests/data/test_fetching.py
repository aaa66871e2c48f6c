import gzip
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fasa.data.fetching import check_sum, fetch
from fasa.errors import UserError

CONTENT = np.random.default_rng(0).bytes(1_000_000)


def md5(data):
    return f"md5:{hashlib.md5(data).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`: in ranges if it may, cut off where told, and keeping a record."""

    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        body, size = server.content[start:], len(server.content)
        status = server.status or (416 if start and not body else 206 if start else 200)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for header in server.headers.items():
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        sent = body[: server.cut]
        server.requests.append((asked, status, len(sent)))  # before the client can know that all is there
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.ranges, server.status, server.cut = CONTENT, True, None, None
        server.headers, server.requests = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}/a.tar.gz"
        thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
    server.content = CONTENT[::-1]
    message = refused(server.url, path)
    assert message.startswith(f"{server.url}: what came is not the file expected ({md5(CONTENT)})")
    assert list(path.parent.iterdir()) == []
    server.content = CONTENT
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
    server.content = gzip.compress(b"0" * 1000)
    server.headers = {"Content-Encoding": "gzip"}  # as some servers call every .gz
    fetch(server.url, path, md5(server.content))
    assert path.read_bytes() == server.content


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
