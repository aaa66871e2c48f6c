"""JSON files of any make, as bytes and as typed content; what is wrong with one is one line."""

import gzip
import io
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fasa.errors import UserError

GZIP, BOM, UTF_16 = b"\x1f\x8b", b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
MOST_EXPANSION, SMALL = 100, 1 << 26  # gzip shrinks results 3 to 10 times, a bomb 1,000 times


def read(source: Any, name: str, kind: type) -> tuple[str, Any]:
    """Content of a type that msgspec knows, given a path, or the content itself.

    A file may be compressed by gzip, begin with a byte order mark, and hold NaN and Infinity as Python's json
    writes them.

    Returns:
        What to call it in a message, the path or `name`; and the content.

    Raises:
        UserError: the file cannot be read, or the content is not of that type; names the place.
    """
    if isinstance(source, str | os.PathLike):
        name = called(source)
        text = read_bytes(source, name)
        try:
            return name, msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError as error:
            raise UserError(f"{name}: {told(error)}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: not text in UTF-8 ({error.reason}); write it again") from error
        except RecursionError as error:
            raise UserError(f"{name}: nested too deeply to be annotations or results") from error
        except msgspec.DecodeError as strict:
            if b"NaN" not in text and b"Infinity" not in text:
                raise UserError(f"{name}: not JSON, or cut short ({strict}); write it again") from strict
            try:  # Python also reads NaN and Infinity: then the checks on values can say where they stand
                source = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{name}: not JSON, or cut short ({error}); write it again") from strict
    try:
        return name, msgspec.convert(source, type=kind)
    except (msgspec.ValidationError, RecursionError):
        pass
    try:
        return name, msgspec.convert(plain(source), type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{name}: {told(error)}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply to be annotations or results") from error


def called(path: str | os.PathLike) -> str:
    """A path as it stands in a message: on one line."""
    name = os.fsdecode(path)
    return name if name.isprintable() and name else repr(name)


def read_bytes(path: str | os.PathLike, name: str) -> bytes:
    """A file's text, unpacked and without a byte order mark.

    Raises:
        UserError: it is not there, not a regular file, damaged, or not UTF-8.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{name}: is not a regular file; name a file")
        text = Path(os.fsdecode(path)).read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise UserError(f"{name}: {error}") from error
    if text.startswith(GZIP):
        text = unpacked(text, name)
    if text.startswith(UTF_16):
        raise UserError(f"{name}: is text in UTF-16; write it again in UTF-8")
    return text.removeprefix(BOM)


def unpacked(packed: bytes, name: str) -> bytes:
    """What gzip packed, up to a hundred times its size."""
    most = max(MOST_EXPANSION * len(packed), SMALL)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            text = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name}: is compressed by gzip and damaged ({error}); write it again") from error
    if len(text) > most:
        raise UserError(f"{name}: is compressed by gzip and unpacks to over {most:,} bytes; unpack it first")
    return text


def plain(content: Any) -> Any:
    """What models and pycocotools make holds bytes and NumPy's numbers: as JSON would have them."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, bytes):
        return content.decode("ascii", "replace")
    return content.tolist() if isinstance(content, np.ndarray | np.generic) else content


def told(error: msgspec.ValidationError) -> str:
    """msgspec's "Expected `int`, got `str` - at `$[3].image_id`", the place first as in other messages."""
    what, _, where = str(error).partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    return f"{where}: {what}" if where else what
