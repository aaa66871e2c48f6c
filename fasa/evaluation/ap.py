"""Average precision of LVIS, over all images or under any weighting of them.

B weightings of the I images, K classes, T IoU thresholds.
"""

from typing import NamedTuple

import numpy as np

from fasa.evaluation.matches import IOU_THRESHOLDS, Matches, match

RECALLS = np.linspace(0, 1, 101)


class Result(NamedTuple):
    """What ``evaluate`` returns; every AP in percent, NaN where there is no ground truth to measure it on."""

    summary: dict[str, float]  # AP, AP50, AP75, APr, APc, APf
    per_class: np.ndarray  # (K,) AP, in ascending order of category id
    matches: Matches


def evaluate(gt, detections, iou_type: str = "segm") -> Result:
    """Evaluates detections as lvis-api does, with the best 300 of each image over all classes (AP_Old).

    Arguments and errors are those of ``match``. Detections may be empty: AP is 0 then.
    """
    matches = match(gt, detections, iou_type)
    ap = average_precision(matches, np.ones((1, len(matches.image_ids))))[0]  # (K, T)
    summary = {name: float(value) for name, value in summarize(ap, matches.frequency).items()}
    return Result(summary, 100 * ap.mean(axis=-1), matches)


def average_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """Computes AP where image i counts weights[b, i] times, with all its objects and detections.

    AP = mean over 101 recalls r of the highest precision tp / (tp + fp) at any recall >= r. The curve is
    needed at the true positives only: between them recall stands still and precision falls.

    Args:
        matches: the detections of one run.
        weights: (B, I) whole numbers >= 0.

    Returns:
        (B, K, T) in [0, 1]; 0 for a class that has objects and no detections, NaN for one without objects.
    """
    n_weightings, n_classes = len(weights), len(matches.category_ids)
    weights = np.ascontiguousarray(weights.T, dtype=np.float64)  # (I, B); whole numbers stay exact
    ap = np.zeros((n_weightings, n_classes, len(IOU_THRESHOLDS)))
    objects = np.searchsorted(matches.object_class, np.arange(n_classes + 1))
    detections = np.searchsorted(matches.label, np.arange(n_classes + 1))
    for k in range(n_classes):
        n_objects = weights[matches.object_image[objects[k] : objects[k + 1]]].sum(axis=0)  # (B,)
        mine = slice(detections[k], detections[k + 1])
        weight = weights[matches.image[mine]]  # (n, B)
        partial = ~matches.exhaustive[mine, None]
        seen = np.cumsum(np.where(partial, 0, weight), axis=0)
        for t in range(len(IOU_THRESHOLDS)):
            hits = np.flatnonzero(matches.matched[mine, t])
            tp = np.cumsum(weight[hits], axis=0)  # (hits, B)
            # where a class is not exhaustively annotated, only its true positives are seen
            tp_and_fp = seen[hits] + np.cumsum(np.where(partial[hits], weight[hits], 0), axis=0)
            precision = tp / (tp_and_fp + np.spacing(1))
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            with np.errstate(invalid="ignore"):  # 0 / 0 in a weighting that left out all objects
                reached = np.searchsorted(RECALLS, tp / n_objects, side="right")
            ap[:, k, t] = (precision * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(RECALLS)
        ap[n_objects == 0, k] = np.nan
    return ap


def summarize(ap: np.ndarray, frequency: np.ndarray) -> dict[str, np.ndarray]:
    """Averages AP over the classes with objects, all and by frequency: (..., K, T) -> (...) in percent."""
    mean = ap.mean(axis=-1)
    columns = {
        "AP": mean,
        "AP50": ap[..., 0],
        "AP75": ap[..., 5],
        **{f"AP{group}": mean[..., frequency == group] for group in "rcf"},
    }
    return {name: 100 * _mean_of_measured(values) for name, values in columns.items()}


def _mean_of_measured(values: np.ndarray) -> np.ndarray:
    measured = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # none measured: 0 / 0 = NaN is the answer
        return np.sum(values, axis=-1, where=measured) / measured.sum(axis=-1)
