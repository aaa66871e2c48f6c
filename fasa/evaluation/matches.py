"""Which detection found which object, by the federated rules of LVIS.

I images, K classes, G objects, N detections that count, T IoU thresholds.
IoU comes from pycocotools; the rest is here because AP and the bootstrap start from the same matches.
"""

import os
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_utils

from fasa.errors import UserError
from fasa.evaluation.inputs import (
    SHAPE_FIELD,
    Detections,
    GroundTruth,
    area,
    comparable,
    read_detections,
    read_ground_truth,
)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
DETECTIONS_PER_IMAGE = 300


@dataclass(frozen=True, eq=False)
class Matches:
    """The outcome of matching one set of detections: all that AP needs, and small enough to store.

    Classes and images are positions in ``category_ids`` and ``image_ids``, both ascending. Objects are sorted
    by class; detections by class, then score (descending), then image, then place in the results.

    Attributes:
        image_ids: (I,) ids of the annotation file.
        category_ids: (K,) ids of the annotation file.
        frequency: (K,) "r", "c" or "f".
        object_image: (G,) image of each object.
        object_class: (G,) class of each object.
        image: (N,) image of each detection.
        label: (N,) class of each detection.
        score: (N,) in float64.
        matched: (N, T) whether it found an object at that IoU threshold; a true positive.
        exhaustive: (N,) False where its image may hold more objects of its class than annotated:
            ignored if unmatched.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    frequency: np.ndarray
    object_image: np.ndarray
    object_class: np.ndarray
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    exhaustive: np.ndarray

    def save(self, path: str | os.PathLike) -> None:
        """Writes an ``.npz`` without pickles; equal matches give equal bytes."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez_compressed(file, **vars(self))
        part.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Matches":
        """Reads what ``save`` wrote; raises ``UserError`` where that is not what the file holds."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: cannot read matches ({error}); evaluate again") from error


def match(gt, detections, iou_type: str = "segm") -> Matches:
    """Matches detections to objects per image and class, greedily by score, as lvis-api does.

    - Of each image only the 300 best detections over all classes take part (the AP_Old of Dave et al., 2021).
    - A detection counts only where its class has an object or is listed as absent (``neg_category_ids``).
    - It takes the free object of highest IoU, if that reaches the threshold; of equals the last.
    - Objects and (after the cap) detections of no area are dropped. For "segm" the mask's area decides, also
      where the results carry a ``bbox``; lvis-api would take the box's then, and count empty masks as errors.

    Args:
        gt: LVIS v1 annotations, as a dict or a path.
        detections: results, as a list or a path: ``image_id``, ``category_id``, ``score``, and
            ``segmentation`` (RLE) for "segm" or ``bbox`` (x, y, w, h) for "bbox".
        iou_type: "segm" or "bbox".

    Raises:
        UserError: unreadable file, missing field, unknown id, score or box not finite, mask of another size.
    """
    if iou_type not in SHAPE_FIELD:
        raise UserError(f"iou_type {iou_type!r} is unknown; choose one of {', '.join(SHAPE_FIELD)}")
    gt = read_ground_truth(gt, iou_type)
    dt = read_detections(detections, gt, iou_type)

    def shape_of(source: GroundTruth | Detections, i: int):
        at = source.image[i]
        return comparable(source.shape[i], gt.sizes[at], iou_type, f"{source.name}: image {gt.image_ids[at]}")

    counts = _best_per_image(dt) & np.isin(dt.cell, np.concatenate([gt.cell, gt.absent]))
    shapes = {d: shape_of(dt, d) for d in np.flatnonzero(counts)}
    counts = np.array([d for d, shape in shapes.items() if area(shape) > 0], dtype=np.int64)
    order = counts[np.lexsort((dt.image[counts], -dt.score[counts], dt.label[counts]))]
    cell = dt.cell[order]

    matched = np.zeros((len(order), len(IOU_THRESHOLDS)), dtype=bool)
    objects_in, detections_in = _group(gt.cell), _group(cell)
    for shared in objects_in.keys() & detections_in.keys():
        ranks, objects = detections_in[shared], objects_in[shared]
        ious = mask_utils.iou(
            [shapes[d] for d in order[ranks]], [shape_of(gt, g) for g in objects], [0] * len(objects)
        )
        matched[ranks] = _greedy(ious)

    by_class = np.argsort(gt.label, kind="stable")
    return Matches(
        image_ids=np.array(gt.image_ids, dtype=np.int64),
        category_ids=np.array(gt.category_ids, dtype=np.int64),
        frequency=np.array(gt.frequency, dtype="U1"),
        object_image=gt.image[by_class].astype(np.int32),
        object_class=gt.label[by_class].astype(np.int32),
        image=dt.image[order].astype(np.int32),
        label=dt.label[order].astype(np.int32),
        score=dt.score[order],
        matched=matched,
        exhaustive=~np.isin(cell, gt.not_exhaustive),
    )


def _greedy(ious: np.ndarray) -> np.ndarray:
    """Gives each detection in turn, best first, the best free object: (D, G) -> (D, T) whether it got one."""
    n_detections, n_objects = ious.shape
    every = np.arange(len(IOU_THRESHOLDS))
    free = np.ones((len(every), n_objects), dtype=bool)
    matched = np.zeros((n_detections, len(every)), dtype=bool)
    for d in np.flatnonzero(ious.max(axis=1) >= IOU_THRESHOLDS[0]):
        fits = np.where(free & (ious[d] >= IOU_THRESHOLDS[:, None]), ious[d], 0)  # (T, G)
        best = n_objects - 1 - fits[:, ::-1].argmax(axis=1)
        matched[d] = hit = fits[every, best] > 0
        free[every[hit], best[hit]] = False
    return matched


def _best_per_image(dt: Detections) -> np.ndarray:
    """Marks the best detections of each image over all classes; of equal scores the first: (N,) bool."""
    order = np.lexsort((-dt.score, dt.image))
    _, first, n = np.unique(dt.image[order], return_index=True, return_counts=True)
    keep = np.zeros(len(order), dtype=bool)
    keep[order] = np.arange(len(order)) - np.repeat(first, n) < DETECTIONS_PER_IMAGE
    return keep


def _group(cells: np.ndarray) -> dict[int, list[int]]:
    groups = defaultdict(list)
    for position, cell in enumerate(cells.tolist()):
        groups[cell].append(position)
    return groups
