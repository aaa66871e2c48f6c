"""IoU of detections and objects, pair by pair: boxes by NumPy, masks by pycocotools."""

import numpy as np
from pycocotools import mask as mask_utils


def ranges(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of many ranges, one after the other: (the range each belongs to, the numbers)."""
    owner = np.repeat(np.arange(len(length)), length)
    return owner, np.arange(len(owner)) + np.repeat(start - np.cumsum(length) + length, length)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes (P, 4) with boxes (P, 4), x, y, w, h in pixels: (P,), to the last bit pycocotools'."""
    side = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.where((side > 0).all(axis=1), side[:, 0] * side[:, 1], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # boxes of no area overlap nothing
        iou = shared / (a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared)
    return np.where(shared > 0, iou, 0.0)


def mask_areas(rles: list[dict]) -> np.ndarray:
    """Areas in pixels, (N,) float64."""
    # pycocotools 2.0.11 fails on more than 255 at once
    parts = [mask_utils.area(rles[i : i + 255]) for i in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0), *parts])


def run_totals(counts: list[bytes]) -> np.ndarray:
    """How many pixels the runs of each mask cover, (N,): those of its image, unless it was cut short.

    pycocotools never returns from an IoU with a mask that is cut short. Its bytes hold numbers of 5 bits a
    byte, the lowest first, and each run from the fourth on as the difference to the last but one.
    """
    totals = [np.zeros(0, dtype=np.int64)]
    for first in range(0, len(counts), 10_000):  # bounds the arrays below
        part = counts[first : first + 10_000]
        length = np.array([len(one) for one in part])
        byte = np.frombuffer(b"".join(part), dtype=np.uint8).astype(np.int64) - 48
        bounds = np.concatenate([[0], np.cumsum(length)])
        last = (byte & 32) == 0  # of a number
        last[bounds[1:][length > 0] - 1] = True
        ends = np.flatnonzero(last)
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        place = np.arange(ends[-1] + 1 if len(ends) else 0)
        place -= np.repeat(starts, ends - starts + 1)
        digit = (byte[: len(place)] & 31) << np.minimum(5 * place, 60)
        number = np.add.reduceat(digit, starts) if len(starts) else digit
        negative = (byte[ends] & 16) > 0
        number -= np.where(negative, 1 << np.minimum(5 * (ends - starts + 1), 60), 0)
        edges = np.searchsorted(ends, bounds)  # numbers before each mask
        n = np.diff(edges)
        owner, i = ranges(np.zeros(len(part), dtype=np.int64), n)
        weight = np.where(i == 0, 1, (n[owner] - 1 - i) // 2 + 1)  # runs that build on this one
        totals.append(np.bincount(owner, weight * number, minlength=len(part)).astype(np.int64))
    return np.concatenate(totals)


def mask_iou(a: list[dict], b: list[dict]) -> np.ndarray:
    """IoU of every mask of `a` with every mask of `b`: (len(a), len(b))."""
    return mask_utils.iou(a, b, [0] * len(b)) if a and b else np.zeros((len(a), len(b)))
