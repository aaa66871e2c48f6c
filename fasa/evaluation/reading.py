"""JSON files of any make, as bytes and as typed content; what is wrong with one is one line."""

import gzip
import io
import json
import os
import re
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fasa.errors import UserError
from fasa.evaluation import native
from fasa.evaluation.masks import Masks, Outlines

GZIP, BOM, UTF_16 = b"\x1f\x8b", b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
PART = 1 << 22  # bytes that a thread reads at a time
SHORTEST = 40  # bytes of a result: {"image_id":1,"category_id":1,"score":1,
BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")  # results; or in one of them, which the core notices
SPACE, NEAR = b" \t\r\n", 1 << 16  # bytes within which something is looked for
MISSING = "Object missing required field "
EVERYWHERE = "; was every image searched for every class, as in COCO? say so: --exhaustive (exhaustive=True)"
MENDS = {  # of what is most often wrong, by how msgspec begins; where it ends so, of the whole file
    f"{MISSING}`neg_category_ids`": EVERYWHERE,
    f"{MISSING}`not_exhaustive_category_ids`": EVERYWHERE,
    f"{MISSING}`segmentation`": '; are these boxes alone? ask for them: --iou bbox (iou_type="bbox")',
    f"{MISSING}`bbox`": '; are these masks alone? ask for them: --iou segm (iou_type="segm")',
    f"{MISSING}`frequency`": "; r is for classes in at most 10 training images, c at most 100, f more",
    "Expected `array`, got `object`\n": "; results are a list of detections",
    "Expected `object`, got `array`\n": "; annotations are an object with images, categories and annotations",
}
MOST_EXPANSION, SMALL = 100, 1 << 26  # gzip shrinks results 3 to 10 times, a bomb 1,000 times


def read(source: Any, name: str, kind: type) -> tuple[str, Any]:
    """Content of a type that msgspec knows, given a path, the text, or the content itself.

    A file may be compressed by gzip, begin with a byte order mark, and hold NaN and Infinity as Python's json
    writes them.

    Returns:
        What to call it in a message, the path or `name`; and the content.

    Raises:
        UserError: the file cannot be read, or the content is not of that type; names the place.
    """
    if isinstance(source, str | os.PathLike):
        name = called(source)
        source = Text(source, name)
    if isinstance(source, Text | bytes):
        text = source if isinstance(source, bytes) else source.whole()
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
    except (msgspec.ValidationError, RecursionError, UnicodeError):
        pass
    try:
        return name, msgspec.convert(plain(source), type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{name}: {told(error)}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply to be annotations or results") from error
    except UnicodeError as error:
        raise UserError(f"{name}: holds text that is not Unicode ({error.reason}); write it again") from error


def called(path: str | os.PathLike) -> str:
    """A path as it stands in a message: on one line."""
    name = os.fsdecode(path)
    return name if name.isprintable() and name else repr(name)


class Text:
    """A file's text, or one held in memory, of which parts can be read at a time, by several threads."""

    def __init__(self, path: str | os.PathLike, name: str):
        self.path, self.name, self.held = os.fsdecode(path), name, None
        with self._told():
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{name}: is not a regular file; name a file")
            self.size = status.st_size
        if self.read(0, len(GZIP)) == GZIP:
            self.held = unpacked(self.whole(), name)
            self.size = len(self.held)
        self.begin = len(BOM) if self.read(0, len(BOM)) == BOM else 0
        if self.read(0, 2) in UTF_16:
            raise UserError(f"{name}: is text in UTF-16; write it again in UTF-8")

    def read(self, start: int, stop: int) -> bytes:
        """Its bytes from `start` up to `stop`, fewer where it ends."""
        if self.held is not None:
            return self.held[max(start, 0) : stop]
        with self._told(), open(self.path, "rb") as file:
            file.seek(max(start, 0))
            return file.read(max(stop - max(start, 0), 0))

    def fill(self, room: np.ndarray, start: int) -> int:
        """Put its bytes from `start` on into an array of uint8; how many there were."""
        if self.held is not None:
            text = np.frombuffer(self.held, np.uint8)[start : start + len(room)]
            room[: len(text)] = text
            return len(text)
        with self._told(), open(self.path, "rb", buffering=0) as file:
            file.seek(start)
            return file.readinto(room)

    def whole(self) -> bytes:
        """All of it, without a byte order mark."""
        if self.held is not None:
            return self.held[self.begin :]
        with self._told():
            return Path(self.path).read_bytes().removeprefix(BOM)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{self.name}: {error.strerror}") from error
        except ValueError as error:  # a NUL in the path
            raise UserError(f"{self.name}: {error}") from error


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


def read_results(text: Text, with_masks: bool) -> tuple | None:
    """Columns of results that are plain JSON, read by the core; None for all others, which `read` judges.

    Returns:
        Image and category ids, scores, boxes or masks, and the masks' sizes (N, 2).
    """
    blob = np.empty(text.size if with_masks else 0, np.uint8)

    def columns(most: int, _) -> list[tuple]:
        masks = most if with_masks else 0
        ids = [(most, "q"), (most, "q")]
        return [*ids, (most, "d"), ((most - masks, 4), "d"), ((masks, 2), "q"), (masks, "q"), (masks, "q")]

    head, tail = text.read(text.begin, text.begin + NEAR), text.read(text.size - NEAR, text.size)
    begin, end = len(head) - len(head.lstrip(SPACE)), len(tail.rstrip(SPACE)) - 1
    if head[begin : begin + 1] != b"[" or tail[end : end + 1] != b"]":
        return None
    bounds = text.begin + begin + 1, max(text.size - NEAR, 0) + end
    found = _in_parts("results", text, *bounds, with_masks, columns, blob)
    if not found:
        return None
    image, category, score, box, sizes, start, length = found
    return image, category, score, Masks(blob, start, length) if with_masks else box, sizes


def read_objects(file: Text, with_masks: bool) -> tuple | None:
    """Columns of the annotations of a file that are plain JSON, read by the core; None for all others.

    Returns:
        The text without them; image and category ids, areas, whether to ignore, and boxes or `Outlines`.
    """
    text = file.whole()
    span, data = np.zeros(2, np.int64), np.frombuffer(text, np.uint8)
    if not native.core("member", data, len(text), b"annotations", span):
        return None
    begin, end = span.tolist()
    if text[begin : begin + 1] != b"[":
        return None

    def columns(most: int, n_bytes: int) -> list[tuple]:
        masks, points = (most, n_bytes // 2 + 1) if with_masks else (0, 0)
        ids = [(most, "q"), (most, "q")]
        shapes = ((most - masks, 4), "d"), (masks, "q"), (points, "q"), (points, "d")
        return [*ids, (most, "d"), (most, "B"), *shapes]

    found = _in_parts("objects", file, file.begin + begin + 1, file.begin + end - 1, with_masks, columns)
    if not found:
        return None
    image, category, area, ignore, box, parts, length, points = found
    if (length % 2).any():
        return None
    shape = Outlines(points.reshape(-1, 2), length, parts) if with_masks else box
    return text[:begin] + b"[]" + text[end:], image, category, area, ignore != 0, shape


def _in_parts(
    name: str, text: Text, begin: int, end: int, with_masks: bool, columns, blob=None
) -> list | None:
    """Columns of the entries of a list, which its brackets enclose, read by several threads.

    `columns` gives their shapes and types for so many entries and bytes at the most.
    The parts begin where an entry seems to. Each is read up to the very byte where the next begins, so if one
    did not begin an entry, reading fails.
    """
    starts = [begin]
    while (nominal := starts[-1] + PART) < end:
        found = BETWEEN.search(text.read(nominal, min(nominal + NEAR, end)))
        if not found:
            return None
        starts.append(nominal + found.end())

    room = threading.local()  # what a thread reads into, used again: new memory costs as much as reading

    def part(bounds: tuple[int, int]) -> list[np.ndarray] | None:
        start, stop = bounds
        if len(getattr(room, "text", "")) <= stop - start:
            room.text = np.empty(stop - start + NEAR, np.uint8)
            room.columns = [np.empty(*one) for one in columns(len(room.text) // SHORTEST + 1, len(room.text))]
        data, mine, totals = room.text[: stop - start], room.columns, np.zeros(2, np.int64)
        if text.fill(data, start) < len(data):
            return None
        where = totals if blob is None else blob[start:]
        most = len(data) // SHORTEST + 1
        n = native.core(name, data, len(data), int(stop == end), most, int(with_masks), *mine, where)
        if n < 0:
            return None
        lengths = [n] * len(mine)
        if blob is None:
            lengths[-2:] = totals[::-1].tolist()
        else:
            mine[-2][:n] += start
        return [column[:m].copy() for column, m in zip(mine, lengths, strict=True)]

    parts = native.in_threads(part, list(zip(starts, [*starts[1:], end], strict=True)))
    if any(part is None for part in parts):
        return None
    return native.in_threads(np.concatenate, list(zip(*parts, strict=True)))


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
    mend = next((mend for start, mend in MENDS.items() if f"{error}\n".startswith(start)), "")
    return (f"{where}: {what}" if where else what) + mend
