"""Masks as compressed run lengths, checked before pycocotools sees them: it trusts every byte.

N masks, C coordinates. A mask is the lengths of its runs down the columns of the image, background and object
in turn. Compressed ("counts" of pycocotools), they are numbers of 5 bits a byte, the lowest first, with a
sixth where the number goes on; each run from the fourth on is the difference to the last but one.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from fasa.errors import UserError
from fasa.evaluation import native

AT_ONCE = 500  # masks read at a time by NumPy: what that takes stays in the processor's cache
IN_A_PART = 50_000  # masks that a thread takes at a time
DRAWN_AT_ONCE = 2_000
LOWEST, DIGITS = 48, 64  # bytes stand for 0 to 63, from "0" on
LONGEST = 7  # bytes of a number: 35 bits
MOST_SIDE, MOST_PIXELS = 2**16 - 1, 2**31 - 1  # of an image: pycocotools counts in 32 bits
OUTSIDE = 4  # how many widths or heights a polygon may leave its image by
MOST_OUTLINE = 4_000_000  # pixels: drawing a polygon takes 100 bytes for each of its outline


class Masks:
    """N compressed masks as columns: ``masks[3]`` is the "counts" of one, ``masks[[3, 1]]`` are two of them.

    Attributes:
        data: bytes, uint8, of all masks and maybe more.
        start: (N,) int64, where in ``data`` each begins.
        length: (N,) int64, of how many bytes it is.
        area: (N,) float64 pixels, where `mask_areas` has looked; else None.
    """

    def __init__(
        self, data: np.ndarray, start: np.ndarray, length: np.ndarray, area: np.ndarray | None = None
    ):
        self.data, self.start, self.length, self.area = data, start, length, area

    @classmethod
    def of(cls, counts: Iterable[bytes]) -> "Masks":
        """Of the "counts" of each."""
        counts = list(counts)
        length = np.fromiter(map(len, counts), np.int64, len(counts))
        return cls(np.frombuffer(b"".join(counts), np.uint8), np.cumsum(length) - length, length)

    @classmethod
    def joined(cls, parts: Sequence["Masks"]) -> "Masks":
        """Of several, one after the other."""
        if not parts:
            return cls.of([])
        before = np.cumsum([0, *(len(part.data) for part in parts[:-1])])
        start = np.concatenate([part.start + shift for part, shift in zip(parts, before, strict=True)])
        return cls(
            np.concatenate([part.data for part in parts]),
            start,
            np.concatenate([part.length for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, which):
        start, length = self.start[which], self.length[which]
        area = None if self.area is None else self.area[which]
        return (
            Masks(self.data, start, length, area)
            if np.ndim(start)
            else self.data[start : start + length].tobytes()
        )

    def counts(self) -> list[bytes]:
        """The "counts" of each, as pycocotools takes them."""
        text = memoryview(self.data)
        bounds = zip(self.start.tolist(), (self.start + self.length).tolist(), strict=True)
        return [bytes(text[start:stop]) for start, stop in bounds]


class Sums(NamedTuple):
    """What `run_sums` returns."""

    total: np.ndarray  # (N,) pixels of all runs
    area: np.ndarray  # (N,) pixels of the object


def run_sums(masks: Masks) -> Sums:
    """How many pixels the runs of each mask cover, and those of its object.

    The first are those of its image, unless the mask was cut short or is none: -1 if a number is cut or
    too long, a byte no digit, or a run below 0.
    """
    total, area = np.zeros((2, len(masks)), dtype=np.int64)
    if native.core:

        def part(start: int) -> None:
            mine = slice(start, start + IN_A_PART)
            columns = (masks.start[mine], masks.length[mine])
            native.core("run_sums", masks.data, *columns, len(columns[0]), total[mine], area[mine])

        native.in_threads(part, range(0, len(masks), IN_A_PART))
    else:
        for i in range(0, len(masks), AT_ONCE):
            mine = slice(i, i + AT_ONCE)
            total[mine], area[mine] = _run_sums(masks[mine].counts())
    return Sums(total, area)


def _run_sums(counts: Sequence[bytes]) -> np.ndarray:
    byte = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(LOWEST)
    length = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
    filled = np.flatnonzero(length)
    sums = np.zeros((2, len(counts)), dtype=np.int64)
    if not len(filled):
        return sums
    final = np.cumsum(length)[filled] - 1
    last = (byte & 32) == 0  # of a number
    bad = ~last[final]
    last[final] = True
    ends = np.flatnonzero(last)
    number = (byte[ends] & 31 ^ 16).astype(np.int64) - 16  # 5 bits, the highest of which is the sign
    n_bytes = np.diff(ends, prepend=-1)
    longer, back = np.flatnonzero(n_bytes > 1), 1
    while len(longer) and back < LONGEST:  # from the highest digit down
        number[longer] = 32 * number[longer] + (byte[ends[longer] - back] & 31)
        back += 1
        longer = longer[n_bytes[longer] > back]

    stops = np.searchsorted(ends, final) + 1  # of the numbers of a mask
    starts = np.concatenate([[0], stops])[:-1]
    place = np.arange(len(number)) - np.repeat(starts, stops - starts)
    of_object = place % 2 == 1
    run = number * (place == 0)
    for chained in (of_object, (place > 0) & ~of_object):  # each builds on the last but one
        summed = np.cumsum(number * chained)
        before = np.concatenate([[0], summed])[starts]
        run += (summed - np.repeat(before, stops - starts)) * chained
    sums[:, filled] = [np.add.reduceat(part, starts) for part in (run, run * of_object)]
    bad |= np.minimum.reduceat(run, starts) < 0
    bad |= np.maximum.reduceat(n_bytes, starts) > LONGEST
    bad |= np.maximum.reduceat(byte, np.concatenate([[0], final[:-1] + 1])) >= DIGITS
    sums[0, filled[bad]] = -1
    return sums


def mask_areas(masks: Masks, sizes: np.ndarray, name: str, entries: Sequence[int]) -> np.ndarray:
    """Areas of compressed masks in pixels, (N,) float64, given the sizes of their images, (N, 2).

    Refuses masks that were cut short: pycocotools would never return from an IoU with one.

    Args:
        name, entries: what to call them in a message.
    """
    if masks.area is not None:
        return masks.area
    total, area = run_sums(masks)
    if len(wrong := np.flatnonzero(total != sizes.prod(axis=1))):
        where = f"{name}: entry {entries[wrong[0]]}"
        size = sizes[wrong[0]].tolist()
        raise UserError(f"{where}: its mask does not fill its size, {size}; was the RLE cut short?")
    masks.area = area.astype(np.float64)
    return masks.area


def compressed(size: Sequence[int], counts: str | list[int], image_size: list[int], where: str) -> bytes:
    """The "counts" of a run-length encoding of any kind as pycocotools takes them."""
    if list(size) != image_size:  # pycocotools would quietly call the IoU -1
        raise UserError(
            f"{where}: segmentation is of size {list(size)}, the image of {image_size} (height, width)"
        )
    if isinstance(counts, str):
        return counts.encode()
    if min(counts, default=0) < 0 or sum(counts) != image_size[0] * image_size[1]:
        raise UserError(f"{where}: the runs of segmentation do not fill an image of {image_size}")
    return mask_utils.frPyObjects({"size": image_size, "counts": counts}, *image_size)["counts"]


class Outlines(NamedTuple):
    """Polygons of N objects."""

    points: np.ndarray  # (C, 2) x, y of the corners of all outlines, in pixels
    length: np.ndarray  # (P,) numbers of each outline, twice its corners
    parts: np.ndarray  # (N,) outlines of each object

    @classmethod
    def of(cls, polygons: Sequence[list[list[float]]], name: str, entries: Sequence[int]) -> "Outlines":
        """Of a list of outlines for each object; refuses those that are no x, y in turn."""
        parts = np.fromiter(map(len, polygons), np.int64, len(polygons))
        length = np.fromiter(map(len, chain.from_iterable(polygons)), np.int64, parts.sum())
        _check_lengths(length, parts, name, entries)
        flat = chain.from_iterable(chain.from_iterable(polygons))
        return cls(np.fromiter(flat, np.float64, length.sum()).reshape(-1, 2), length, parts)

    def only(self, keep: np.ndarray) -> "Outlines":
        """Of some of the objects, (N,) bool."""
        parts = np.repeat(keep, self.parts)
        points = np.repeat(parts, self.length // 2)
        return Outlines(self.points[points], self.length[parts], self.parts[keep])

    def split(self, n: int) -> Iterable[tuple[int, "Outlines"]]:
        """So many objects at a time, and where each part begins."""
        part_of = np.concatenate([[0], np.cumsum(self.parts)])
        point_of = np.concatenate([[0], np.cumsum(self.length // 2)])
        for start in range(0, len(self.parts), n):
            parts = self.parts[start : start + n]
            first, last = part_of[start], part_of[start + len(parts)]
            points = self.points[point_of[first] : point_of[last]]
            yield start, Outlines(points, self.length[first:last], parts)


def drawn(outlines: Outlines, sizes: np.ndarray, name: str, entries: Sequence[int]) -> Masks:
    """Masks of polygons, of all outlines of an object together.

    Args:
        sizes: (N, 2) height and width of their images.
        name, entries: what to call them in a message.

    Raises:
        UserError: outlines that pycocotools would crash on, take for boxes, or fill the memory with.
    """

    def part(start_and_outlines) -> Masks:
        start, some = start_and_outlines
        mine = slice(start, start + len(some.parts))
        _check_outlines(some, sizes[mine], name, entries[mine])
        return _drawn(some, np.ascontiguousarray(sizes[mine]))

    return Masks.joined(native.in_threads(part, list(outlines.split(DRAWN_AT_ONCE))))


def _drawn(outlines: Outlines, sizes: np.ndarray) -> Masks:
    points, length, parts = outlines
    if native.core:
        capacity, written = 64 * len(parts) + len(points), -1
        while written < 0:
            capacity *= 4
            data, n_bytes = np.empty(capacity, np.uint8), np.empty(len(parts), np.int64)
            columns = parts, length, points, sizes
            written = native.core("draw", len(parts), *columns, capacity, data, n_bytes)
        return Masks(data[:written].copy(), np.cumsum(n_bytes) - n_bytes, n_bytes)
    stops = np.cumsum(length // 2)
    each = [points[stop - n // 2 : stop].ravel().tolist() for n, stop in zip(length, stops, strict=True)]
    bounds = np.cumsum(parts).tolist()
    counts = []
    for n, stop, size in zip(parts.tolist(), bounds, sizes.tolist(), strict=True):
        codes = mask_utils.frPyObjects(each[stop - n : stop], *size)
        counts.append((codes[0] if n == 1 else mask_utils.merge(codes))["counts"])
    return Masks.of(counts)


def _check_lengths(length: np.ndarray, parts: np.ndarray, name: str, entries: Sequence[int]) -> None:
    owner = np.repeat(np.arange(len(parts)), parts)
    _refuse(np.flatnonzero(parts == 0), "is empty; give the object's polygons or RLE", name, entries)
    wrong = owner[(length < 6) | (length % 2 == 1)]
    _refuse(wrong, "has a polygon that is not x, y of 3 points or more", name, entries)


def _refuse(wrong: np.ndarray, why: str, name: str, entries: Sequence[int]) -> None:
    if len(wrong):
        raise UserError(f"{name}: entry {entries[wrong[0]]}: segmentation {why}")


def _check_outlines(outlines: Outlines, sizes: np.ndarray, name: str, entries: Sequence[int]) -> None:
    points, length, parts = outlines
    _check_lengths(length, parts, name, entries)
    owner = np.repeat(np.arange(len(parts)), parts)
    of_point = np.repeat(owner, length // 2)
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        _refuse(of_point[~finite], "has a coordinate that is not finite", name, entries)
    limit = sizes[of_point, ::-1]
    outside = ((points < -OUTSIDE * limit) | (points > (OUTSIDE + 1) * limit)).any(axis=1)
    _refuse(of_point[outside], f"is more than {OUTSIDE} image sizes outside its image", name, entries)
    if len(length):
        first = np.cumsum(length // 2) - length // 2
        following = np.arange(1, len(points) + 1)
        following[np.append(first[1:], len(points)) - 1] = first
        step = np.abs(points[following] - points).max(axis=1)
        wrong = owner[np.add.reduceat(step, first) > MOST_OUTLINE]
        _refuse(wrong, f"is longer than {MOST_OUTLINE:,} pixels", name, entries)


def check_sizes(sizes: np.ndarray, where: str) -> None:
    """Refuse heights and widths, (I, 2), of which no mask can be."""
    wrong = ((sizes < 1) | (sizes > MOST_SIDE)).any(axis=1) | (sizes.prod(axis=1) > MOST_PIXELS)
    if len(wrong := np.flatnonzero(wrong)):
        raise UserError(
            f"{where}[{wrong[0]}]: height and width are {sizes[wrong[0]].tolist()}; they must be from 1 to "
            f"{MOST_SIDE:,}, with {MOST_PIXELS:,} pixels at most"
        )
