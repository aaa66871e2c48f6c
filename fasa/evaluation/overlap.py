"""IoU of detections and objects, pair by pair: boxes by NumPy, masks by pycocotools.

And what that and matching take apart from it: sums over masks' runs, sorting, places in groups.
"""

import numpy as np
from pycocotools import mask as mask_utils

MASKS = 500  # read at a time: what that takes stays in the processor's cache


def ranges(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of many ranges, one after the other: (the range each belongs to, the numbers)."""
    owner = np.repeat(np.arange(len(length)), length)
    return owner, np.arange(len(owner)) + np.repeat(start - np.cumsum(length) + length, length)


def lexsort(*keys: np.ndarray) -> np.ndarray:
    """As `np.lexsort`, the last key first, but several times faster where keys are small whole numbers."""
    order = None
    for key in keys:
        if key.dtype.kind == "i" and len(key) and key.min() >= 0 and key.max() < 2**16:
            key = key.astype(np.uint16)  # these NumPy sorts by counting
        order = (
            np.argsort(key, kind="stable") if order is None else order[np.argsort(key[order], kind="stable")]
        )
    return order


def places(group: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """The place of each in its group, ordered as by `lexsort(*keys)`, else as they come: (N,) from 0."""
    order = lexsort(*keys, group)
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return place


def contains(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each value is in `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes (P, 4) with boxes (P, 4), x, y, w, h in pixels: (P,), to the last bit pycocotools'."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.T, b.T
    width = np.minimum(ax + aw, bx + bw) - np.maximum(ax, bx)
    height = np.minimum(ay + ah, by + bh) - np.maximum(ay, by)
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # boxes of no area overlap nothing
        iou = shared / (aw * ah + bw * bh - shared)
    return np.where(shared > 0, iou, 0.0)


def run_sums(counts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """How many pixels the runs of each mask cover, (N,), and those of its object, (N,).

    The first are those of its image, unless it was cut short: -1 if in the middle of a number. Its bytes hold
    numbers of 5 bits a byte, the lowest first, with a sixth where the number goes on; and each run from the
    fourth on as the difference to the last but one.
    """
    parts = [_run_sums(counts[i : i + MASKS]) for i in range(0, len(counts), MASKS)]
    total, area = np.concatenate([np.zeros((2, 0), dtype=np.int64), *parts], axis=1)
    return total, area


def _run_sums(counts: list[bytes]) -> np.ndarray:
    byte = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(48)
    length = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
    filled = np.flatnonzero(length)
    final = np.cumsum(length)[filled] - 1
    last = (byte & 32) == 0  # of a number
    cut = ~last[final]
    last[final] = True
    ends = np.flatnonzero(last)
    number = (byte[ends] & 31 ^ 16).astype(np.int64) - 16  # 5 bits, the highest of which is the sign
    n_bytes = np.diff(ends, prepend=-1)
    longer, back = np.flatnonzero(n_bytes > 1), 1
    while len(longer):  # from the highest digit down
        number[longer] = 32 * number[longer] + (byte[ends[longer] - back] & 31)
        back += 1
        longer = longer[n_bytes[longer] > back]

    stops = np.searchsorted(ends, final) + 1  # of the numbers of a mask
    starts = np.concatenate([[0], stops])[:-1]
    start, stop = (np.repeat(bound, stops - starts) for bound in (starts, stops))
    place = np.arange(len(number))
    number *= np.where(place == start, 1, (stop - place + 1) >> 1)  # runs that build on it
    of_object = number * ((place - start) & 1)  # runs of background and object take turns
    sums = np.zeros((2, len(counts)), dtype=np.int64)
    if len(filled):
        sums[:, filled] = [np.add.reduceat(part, starts) for part in (number, of_object)]
        sums[0, filled[cut]] = -1
    return sums


def mask_iou(a: list[dict], b: list[dict]) -> np.ndarray:
    """IoU of every mask of `a` with every mask of `b`: (len(a), len(b))."""
    return mask_utils.iou(a, b, [0] * len(b)) if a and b else np.zeros((len(a), len(b)))
