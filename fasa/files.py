"""Files that are written whole or not at all."""

import errno
import glob
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fasa.errors import UserError

# What reading a damaged archive, or arrays from one, may raise.
UNREADABLE = (
    *(OSError, ValueError, EOFError, TypeError, KeyError, AttributeError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@contextmanager
def replacing(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open a file beside `path` that takes its place when the block ends, and is gone when the block fails.

    Folders above it are made. The bytes are on the disk before the name is: after a crash `path` is the old
    file or the new one, and what lies beside it is gone when the same file is written next.

    Args:
        path: where to write; what is there must be a regular file, or a link to one, which stays a link.
        mode: "wb", or "w" for text in UTF-8.

    Raises:
        UserError: `path` is a folder or a device, or cannot be written: no room, no permission.

    Example:
        >>> with replacing("metrics.json", "w") as file:
        ...     _ = file.write("{}")
    """
    path, target = Path(path), check_replaceable(path)
    with readable_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = beside(target)
        for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
            if not _lives(left.suffixes[-2].removeprefix(".")):
                left.unlink(missing_ok=True)
        try:
            with open(part, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def check_replaceable(path: str | Path) -> Path:
    """Where `replacing` would write to, links followed; for long work to ask before it begins.

    Raises:
        UserError: a folder or a device is there, or the folder above may not be written to.
    """
    with readable_errors(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise UserError(f"{path}: is not a regular file and would be replaced; choose another name")
        above = next(folder for folder in target.parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(above))
        if not os.access(above, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    return target


def beside(path: Path) -> Path:
    """Where `replacing` writes to before what it writes takes its place."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # of another user
        pass
    return True


MENDS = {
    errno.ENOSPC: "free some space and run this again",
    errno.EDQUOT: "free some of your quota and run this again",
    errno.EACCES: "allow it, or choose another place",
    errno.EPERM: "allow it, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOTDIR: "a file lies where a folder should be: move it away",
    errno.EEXIST: "a file lies where a folder should be: move it away",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "it is a folder; name a file",
}


@contextmanager
def readable_errors(path: str | Path) -> Iterator[None]:
    """Turn what the operating system says of a file into one line that names it, and how to mend it.

    Args:
        path: named where the error itself names no file.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        mend = MENDS.get(error.errno)
        reason = f"{error.filename or path}: {error.strerror or error}"
        raise UserError(f"{reason}; {mend}" if mend else reason) from error
