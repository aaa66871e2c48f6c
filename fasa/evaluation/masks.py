"""Masks as compressed run lengths, checked before pycocotools sees them: it trusts every byte.

N masks, C coordinates. A mask is the lengths of its runs down the columns of the image, background and object
in turn. Compressed ("counts" of pycocotools), they are numbers of 5 bits a byte, the lowest first, with a
sixth where the number goes on; each run from the fourth on is the difference to the last but one.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from pycocotools import mask as mask_utils

from fasa.errors import UserError

AT_ONCE = 500  # masks read at a time: what that takes stays in the processor's cache
LOWEST, DIGITS = 48, 64  # bytes stand for 0 to 63, from "0" on
LONGEST = 7  # bytes of a number: 35 bits
MOST_SIDE, MOST_PIXELS = 2**16 - 1, 2**31 - 1  # of an image: pycocotools counts in 32 bits
OUTSIDE = 4  # how many widths or heights a polygon may leave its image by
MOST_OUTLINE = 4_000_000  # pixels: drawing a polygon takes 100 bytes for each of its outline


def run_sums(counts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """How many pixels the runs of each mask cover, (N,), and those of its object, (N,).

    The first are those of its image, unless the mask was cut short or is none: -1 if a number is cut or
    too long, a byte no digit, or a run below 0.
    """
    parts = [_run_sums(counts[i : i + AT_ONCE]) for i in range(0, len(counts), AT_ONCE)]
    total, area = np.concatenate([np.zeros((2, 0), dtype=np.int64), *parts], axis=1)
    return total, area


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


def mask_areas(counts: Sequence[bytes], sizes: np.ndarray, name: str, entries: Sequence[int]) -> np.ndarray:
    """Areas of compressed masks in pixels, (N,) float64, given the sizes of their images, (N, 2).

    Refuses masks that were cut short: pycocotools would never return from an IoU with one.

    Args:
        name, entries: what to call them in a message.
    """
    total, area = run_sums(counts)
    if len(wrong := np.flatnonzero(total != sizes.prod(axis=1))):
        where = f"{name}: entry {entries[wrong[0]]}"
        size = sizes[wrong[0]].tolist()
        raise UserError(f"{where}: its mask does not fill its size, {size}; was the RLE cut short?")
    return area.astype(np.float64)


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


def check_polygons(polygons: Sequence[list[list[float]]], sizes: np.ndarray, name: str, entries) -> None:
    """Refuse outlines that pycocotools would crash on, take for boxes, or fill the memory with.

    Args:
        polygons: N objects, a list of outlines each, x and y in turn in pixels.
        sizes: (N, 2) height and width of their images.
        name, entries: what to call them in a message.
    """
    parts = np.fromiter(map(len, polygons), np.int64, len(polygons))
    owner = np.repeat(np.arange(len(polygons)), parts)
    length = np.fromiter(map(len, chain.from_iterable(polygons)), np.int64, len(owner))

    def refuse(wrong: np.ndarray, why: str) -> None:
        if len(wrong):
            raise UserError(f"{name}: entry {entries[wrong[0]]}: segmentation {why}")

    refuse(np.flatnonzero(parts == 0), "is empty; give the object's polygons or RLE")
    refuse(owner[(length < 6) | (length % 2 == 1)], "has a polygon that is not x, y of 3 points or more")
    point_part = np.repeat(np.arange(len(length)), length // 2)
    flat = chain.from_iterable(chain.from_iterable(polygons))
    points = np.fromiter(flat, np.float64, length.sum()).reshape(-1, 2)
    of_point = owner[point_part]
    refuse(of_point[~np.isfinite(points).all(axis=1)], "has a coordinate that is not finite")
    limit = sizes[of_point, ::-1]
    outside = (points < -OUTSIDE * limit) | (points > (OUTSIDE + 1) * limit)
    refuse(of_point[outside.any(axis=1)], f"is more than {OUTSIDE} image sizes outside its image")
    if len(length):
        first = np.cumsum(length // 2) - length // 2
        following = np.arange(1, len(points) + 1)
        following[np.append(first[1:], len(points)) - 1] = first
        step = np.abs(points[following] - points).max(axis=1)
        refuse(owner[np.add.reduceat(step, first) > MOST_OUTLINE], f"is longer than {MOST_OUTLINE:,} pixels")


def drawn(polygons: list[list[float]], size: list[int]) -> bytes:
    """The compressed mask of an object that `check_polygons` let pass, of all its outlines together."""
    parts = mask_utils.frPyObjects(polygons, *size)
    return (parts[0] if len(parts) == 1 else mask_utils.merge(parts))["counts"]


def check_sizes(sizes: np.ndarray, where: str) -> None:
    """Refuse heights and widths, (I, 2), of which no mask can be."""
    wrong = ((sizes < 1) | (sizes > MOST_SIDE)).any(axis=1) | (sizes.prod(axis=1) > MOST_PIXELS)
    if len(wrong := np.flatnonzero(wrong)):
        raise UserError(
            f"{where}[{wrong[0]}]: height and width are {sizes[wrong[0]].tolist()}; they must be from 1 to "
            f"{MOST_SIDE:,}, with {MOST_PIXELS:,} pixels at most"
        )
