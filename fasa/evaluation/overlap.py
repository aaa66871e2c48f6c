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


def mask_iou(a: list[dict], b: list[dict]) -> np.ndarray:
    """IoU of every mask of `a` with every mask of `b`: (len(a), len(b))."""
    return mask_utils.iou(a, b, [0] * len(b)) if a and b else np.zeros((len(a), len(b)))
