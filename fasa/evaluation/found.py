"""How sure a detector is of each object that it should find (appendix H)."""

from typing import NamedTuple

import numpy as np

from fasa.evaluation.cells import Cells
from fasa.evaluation.inputs import positions, read_detections, read_ground_truth
from fasa.evaluation.matches import LEAST_IOU
from fasa.evaluation.overlap import overlaps, ranges


class Found(NamedTuple):
    """The best detection of each of G objects, in the order of `read_ground_truth`'s."""

    which: np.ndarray  # (G,) int64, its place among the detections; -1 where there is none
    score: np.ndarray  # (G,) in [0, 1]; NaN where there is none
    iou: np.ndarray  # (G,) with the object, from .5 on; NaN where there is none


def best_detections(gt, detections, iou_type: str = "segm") -> Found:
    """Of the detections of an object's class at an IoU of .5 or more with it, that with the best score.

    Of equal scores that which fits best. Unlike in AP, one detection may speak for two objects of a class,
    and every detection counts: the question is what a person sees at an object, not how well the scores rank.

    Arguments and errors are those of `match`.
    """
    gt = read_ground_truth(gt, iou_type)
    dt = read_detections(detections, gt)
    image = positions(dt.image_id, gt.image_ids, "image", "detections")
    label = positions(dt.category_id, gt.category_ids, "category", "detections")
    cells = Cells(gt)
    cell = cells.find(image, label)
    order = np.argsort(cell, kind="stable")
    order = order[cell[order] >= 0]
    first, found = cells.first[cell[order]], cells.found[cell[order]]
    iou = overlaps(first, found, cells.objects, dt.shape[order], gt.shape, gt.sizes[image[order]])
    detection, place = ranges(first, found)
    near = np.flatnonzero(iou >= LEAST_IOU[0])
    thing, dets, iou = cells.objects[place[near]], order[detection[near]], iou[near]
    best_first = np.lexsort((dets, -iou, -dt.score[dets], thing))
    things, first = np.unique(thing[best_first], return_index=True)
    best = best_first[first]
    n = len(gt.image)
    result = Found(np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan))
    for column, values in zip(result, (dets, dt.score[dets], iou), strict=True):
        column[things] = values[best]
    return result
