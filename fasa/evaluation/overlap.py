"""IoU of detections and objects, pair by pair: boxes by NumPy, masks by pycocotools.

And what that and matching take apart from it: sorting, places in groups.
"""

import numpy as np
from pycocotools import mask as mask_utils


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


def mask_iou(a: list[dict], b: list[dict]) -> np.ndarray:
    """IoU of every mask of `a` with every mask of `b`: (len(a), len(b))."""
    return mask_utils.iou(a, b, [0] * len(b)) if a and b else np.zeros((len(a), len(b)))
