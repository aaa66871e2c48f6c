"""Fetching files and unpacking them: sums are checked, interrupted downloads go on, sizes are bounded."""

import fcntl
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from fasa.errors import UserError

CHUNK = 1 << 18  # bytes
PATIENCE = 30  # seconds without an answer


def fetch(url: str, path: str | Path, known_hash: str, size: int | None = None) -> Path:
    """Return `path`, fetched from `url` unless it is there already, its sum checked in either case.

    What an interrupted download has brought is kept in ``{path}.part``, and the next call goes on from there.

    Args:
        url: http or https.
        path: where the file belongs.
        known_hash: ``algorithm:digest``, such as ``md5:0cc175b9c0f1b6a831c399e269772661``.
        size: of the file in bytes: so much must be free on the disk, and no more is taken from a server.

    Raises:
        UserError: no connection, no room, a file without end; or a wrong sum: what was fetched is removed,
            and a file that was there is renamed to ``{path}.wrong``, so that the next call fetches it anew.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):  # of two processes that fetch the same, the second finds it there
            if path.is_file():
                return _keep(path, known_hash)
            part = path.with_name(f"{path.name}.part")
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=Resuming(part, size))
    except UserError:
        raise
    except (requests.RequestException, HTTPError) as error:
        reply = getattr(error, "response", None)
        reason = type(error).__name__ if reply is None else f"{reply.status_code} {reply.reason}"
        raise UserError(
            f"{url}: cannot be fetched ({reason}); run again with a network, it goes on where it stopped, "
            f"or put the file at {path} by hand"
        ) from None
    except ValueError:  # pooch's, when it has removed what has the wrong sum
        raise UserError(
            f"{url}: what came is not the file expected ({known_hash}) and was removed; run again to fetch "
            f"it anew, or put the file at {path} by hand"
        ) from None
    except OSError as error:  # a full disk, a folder that cannot be written
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which ends with the process at the latest."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _keep(path: Path, known_hash: str) -> Path:
    """Return a file that is there and has the right sum; rename one that has not."""
    try:
        return check_sum(path, known_hash)
    except WrongSum as error:
        wrong = path.with_name(f"{path.name}.wrong")
        path.replace(wrong)
        raise UserError(f"{error}; renamed to {wrong.name}: run again to fetch it anew") from None


class WrongSum(UserError):
    """A file is not the one expected."""


def check_sum(path: str | Path, known_hash: str) -> Path:
    """Return `path` if it has the right sum; nothing is fetched and nothing renamed.

    Raises:
        UserError: no such file, or another sum.
    """
    algorithm, _, known = known_hash.partition(":")
    try:
        found = pooch.file_hash(str(path), alg=algorithm)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if found != known:
        raise WrongSum(f"{path}: is cut off or another file ({algorithm} {found}, not {known})")
    return Path(path)


def refuse_full(folder: Path, size: int) -> None:
    """Refuse to write `size` bytes where there is no room for them.

    Raises:
        UserError: says how much is free.
    """
    if (free := shutil.disk_usage(folder).free) < size:
        raise UserError(f"{folder}: {size / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free; make room")


class Resuming:
    """A downloader for pooch that keeps what it has in `part` and asks the server for the rest only.

    pooch itself loads into a temporary file of a new name each time, which it removes on any interruption.
    """

    def __init__(self, part: Path, size: int | None = None):
        self.part, self.size = part, size

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Load what is missing, then move `part` to `output_file`, where pooch checks the sum.

        Raises:
            requests.RequestException, urllib3.exceptions.HTTPError: no connection, or one that broke.
        """
        have = self.part.stat().st_size if self.part.exists() else 0
        refuse_full(self.part.parent, (self.size or 0) - have)
        # No compression on the way: ranges and lengths are those of the file.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as reply:
            if reply.status_code != requests.codes.range_not_satisfiable:  # else nothing is left: see the sum
                reply.raise_for_status()
                self._save(reply, have if reply.status_code == requests.codes.partial else 0)
        self.part.replace(output_file)

    def _save(self, reply: requests.Response, have: int) -> None:
        """Write the body behind the first `have` bytes of `part`: none if the server sends the whole file."""
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else None
        most = self.size if total is None else total
        if self.size is not None and total not in (None, self.size):  # such as a page that asks to log in
            raise UserError(
                f"{reply.url}: offers {total} bytes, and the file has {self.size}; is it another one?"
            )
        name = self.part.stem
        with (
            self.part.open("ab" if have else "wb") as file,
            tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, mininterval=1) as bar,
        ):
            # The raw bytes: requests would unpack what a server calls its gzip encoding.
            for chunk in reply.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))
                if most is not None and file.tell() > most:
                    self.part.unlink()
                    raise UserError(f"{reply.url}: sends more than {most} bytes; is it another file?")
            if total is not None and file.tell() < total:  # urllib3 tells by itself only from version 2 on
                raise requests.ConnectionError(f"cut off after {file.tell()} of {total} bytes")


def unpack(archive: str | Path, name: str, folder: Path, most: int) -> Path:
    """Unpack one file, or one folder of files, of a zip file into `folder`, whole or not at all.

    Args:
        archive: the zip file.
        name: of the file or folder in it; nothing else is unpacked.
        folder: where it goes.
        most: bytes that it may have unpacked.

    Raises:
        UserError: no such zip file or member, one that leads elsewhere or is larger, no room.
    """
    target, scratch = folder / name, folder / f".{name}.partial"
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [
                one
                for one in packed.infolist()
                if not one.is_dir() and (one.filename == name or one.filename.startswith(f"{name}/"))
            ]
            if not members:
                raise UserError(f"{archive}: has no {name}")
            for one in members:
                if ".." in PurePosixPath(one.filename).parts or stat.S_ISLNK(one.external_attr >> 16):
                    raise UserError(f"{archive}: {one.filename!r} leads elsewhere, so nothing was unpacked")
            size = sum(one.file_size for one in members)
            if size > most:
                raise UserError(f"{archive}: {name} claims {size} bytes, more than the {most} it may have")
            refuse_full(folder, size)
            shutil.rmtree(scratch, ignore_errors=True)
            for one in tqdm(members, desc=f"{name} from {Path(archive).name}", unit="", mininterval=1):
                path = scratch / one.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(one) as source, path.open("wb") as file:
                    shutil.copyfileobj(source, file, CHUNK)  # no more than file_size, and its sum is checked
            os.replace(scratch / name, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); fetch it anew") from None
    except OSError as error:
        raise UserError(f"{error.filename or archive}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
