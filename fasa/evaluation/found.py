"""How sure a detector is of each object that it should find (appendix H)."""

import numpy as np

from fasa.evaluation.inputs import positions, read_detections, read_ground_truth
from fasa.evaluation.matches import LEAST_IOU
from fasa.evaluation.overlap import contains, overlaps, ranges


def best_scores(gt, detections, iou_type: str = "segm") -> np.ndarray:
    """The best score among the detections of an object's class at an IoU of .5 or more with it.

    Unlike in AP, one detection may speak for two objects of a class, and every detection counts: the question
    is what a person sees at an object, not how well the scores rank.

    Arguments and errors are those of `match`.

    Returns:
        (G,) in the order of `read_ground_truth`'s objects; NaN where there is no such detection.
    """
    gt = read_ground_truth(gt, iou_type)
    dt = read_detections(detections, gt)
    image = positions(dt.image_id, gt.image_ids, "image", "detections")
    cell = image * len(gt.category_ids) + positions(dt.category_id, gt.category_ids, "category", "detections")
    by_cell = np.argsort(gt.cell, kind="stable")
    object_cell = gt.cell[by_cell]
    order = np.argsort(cell, kind="stable")
    order = order[contains(object_cell, cell[order])]
    first = np.searchsorted(object_cell, cell[order], side="left")
    found = np.searchsorted(object_cell, cell[order], side="right") - first
    iou = overlaps(first, found, by_cell, dt.shape[order], gt.shape, gt.sizes[image[order]])
    detection, place = ranges(first, found)
    near = iou >= LEAST_IOU[0]
    best = np.full(len(gt.image), np.nan)
    np.fmax.at(best, by_cell[place[near]], dt.score[order][detection[near]])
    return best
