"""IoU of detections and objects, pair by pair: boxes by NumPy, masks by pycocotools.

And what that and matching take apart from it: sorting, places in groups.
"""

from itertools import pairwise

import numpy as np
from pycocotools import mask as mask_utils

from fasa.evaluation import native
from fasa.evaluation.masks import Masks

IN_A_PART = 20_000  # detections that a thread takes at a time


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


def ordered(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Places by group, in each best score first, of equals as they come: (N,)."""
    if _fits(group):
        order = np.empty(len(group), np.int64)
        _sort(group, score, order, None)
        return order
    return lexsort(-score, group)


def places(group: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """The place of each in its group, as `ordered`, without a score as they come: (N,) from 0."""
    place = np.empty(len(group), dtype=np.int32)
    if score is not None and _fits(group):
        _sort(group, score, None, place)
        return place
    order = lexsort(group) if score is None else ordered(group, score)
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    place[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return place


def _fits(group: np.ndarray) -> bool:
    """Whether the core can sort by these groups: whole numbers from 0, not many more than members."""
    return bool(native.core and len(group) and group.min() >= 0 and group.max() < 10 * len(group) + 10_000)


def _sort(group: np.ndarray, score: np.ndarray, order: np.ndarray | None, place: np.ndarray | None) -> None:
    group, score = np.ascontiguousarray(group, np.int32), np.ascontiguousarray(score, np.float64)
    bounds = [int(group.min()), int(group.max()) + 1]
    if len(group) > IN_A_PART:  # as many members to a thread
        shares = np.cumsum(np.bincount(group)) * native.THREADS // (len(group) + 1)
        bounds[1:1] = (np.flatnonzero(np.diff(shares)) + 1).tolist()

    def part(span: tuple[int, int]) -> None:
        native.core("order", len(group), *span, group, score, order, place)

    native.in_threads(part, list(pairwise(bounds)))


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


def overlaps(first: np.ndarray, found: np.ndarray, which: np.ndarray, mine, theirs, sizes) -> np.ndarray:
    """IoU of each detection with its candidates among the objects, one detection after the other, (P,).

    Args:
        first, found: (N,) the candidates of a detection are ``which[first : first + found]``; those of two
            detections are the same or apart, and the same stand together.
        which: objects.
        mine: boxes (N, 4) or masks of the detections.
        theirs: those of all objects.
        sizes: (N, 2) height and width of their images.
    """
    if native.core:
        first, found, which = map(np.ascontiguousarray, (first, found, which))
        ends = np.cumsum(found)
        iou = np.empty(ends[-1] if len(ends) else 0)

        def part(start: int) -> None:
            some = slice(start, start + IN_A_PART)
            out = iou[ends[start] - found[start] :]
            shapes, n = mine[some], len(first[some])
            if isinstance(mine, Masks):
                height = np.ascontiguousarray(sizes[some, 0])
                columns = height, shapes.data, shapes.start, shapes.length
                columns = *columns, theirs.data, theirs.start, theirs.length
                native.core("mask_overlaps", n, first[some], found[some], which, *columns, out)
            else:
                native.core("box_overlaps", n, first[some], found[some], which, shapes, theirs, out)

        native.in_threads(part, range(0, len(first), IN_A_PART))
        return iou
    if isinstance(mine, Masks):
        some = np.flatnonzero(found)
        starts = np.flatnonzero(np.diff(first[some], prepend=-1))
        ious = [np.zeros(0)]
        for these in np.split(some, starts[1:]) if len(some) else []:
            size = sizes[these[0]].tolist()
            objects = theirs[which[first[these[0]] : first[these[0]] + found[these[0]]]]
            both = mine[these].counts(), objects.counts()
            codes = [[dict(size=size, counts=one) for one in counts] for counts in both]
            ious.append(mask_utils.iou(*codes, [0] * len(objects)).ravel())
        return np.concatenate(ious)
    owner, candidate = ranges(first, found)
    return box_iou(mine[owner], theirs[which[candidate]])


def nearest(
    first: np.ndarray, found: np.ndarray, iou: np.ndarray, least: float, last_first: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those pairs whose IoU is not below `least`: (P,) detections, objects and IoU.

    In order of detections; of each the highest IoU first, of equals the last object, or the first.

    Args:
        first, found: (N,) the objects of a detection are first, first + 1, ...
        iou: of all pairs, as `overlaps` gives them.
    """
    near = iou >= least
    if native.core:
        det, obj = np.empty((2, np.count_nonzero(near)), np.int64)
        out = np.empty(len(det))
        pairs = det, obj, out
        native.core("nearest", len(first), first, found, iou, np.array([least]), int(last_first), *pairs)
        return pairs
    det, obj = (side[near] for side in ranges(first, found))
    order = lexsort(-obj if last_first else obj, -iou[near], det)
    return det[order], obj[order], iou[near][order]
