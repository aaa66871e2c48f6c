"""Whether one row is better than another by more than the choice of evaluation images explains."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fasa.errors import UserError
from fasa.evaluation.ap import RECALLS, mean_of_measured
from fasa.evaluation.matches import ALL, BITS, IOU_THRESHOLDS, Matches

CHUNK = 128  # resamples at a time: their sums stay in the processor's cache


class Interval(NamedTuple):
    """A difference in percentage points and what resampling makes of it."""

    difference: float  # on the images as they are
    low: float  # 2.5th and
    high: float  # 97.5th percentile over the resamples
    share_not_better: float  # of the resamples: those with a difference <= 0


def paired_bootstrap(
    a: Sequence[Matches], b: Sequence[Matches], n_resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Bootstraps row b minus row a over images (Efron and Tibshirani, 1993), a row being its seeds' mean AP.

    A resample draws I of the I images with replacement, the same for both rows and all seeds. It asks what
    other images would have shown of these trained networks; it cannot say what other training seeds would do.

    An image drawn w times counts as w copies with ids of their own, next to each other in the order of
    images. (The one difference: among equal scores of one class in one image, a detection's copies stay
    together.) A class that loses all its objects in a resample is left out of that resample's means; a
    resample that leaves a mean without any class is left out of that mean's interval.

    Args:
        a: the matches of each seed of one row.
        b: those of the other; their number may differ.

    Returns:
        An interval for each of AP, AP50, AP75, APr, APc, APf.

    Raises:
        UserError: a row without runs, what is no `Matches`, runs that were not evaluated on the same
            annotations, or no resamples.
    """
    a, b = list(a), list(b)
    if not all(isinstance(run, Matches) for run in [*a, *b]):
        raise UserError("the bootstrap takes Matches, a list for each row")
    for name, value, least in (("n_resamples", n_resamples, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{name} is {value!r}; it must be a whole number from {least}")
    if not a or not b:
        raise UserError("the bootstrap needs at least one run of each row")
    for field in ("image_ids", "category_ids", "frequency", "object_image", "object_class", "object_counts"):
        if not all(np.array_equal(getattr(a[0], field), getattr(run, field)) for run in [*a, *b]):
            raise UserError(
                f"the runs were evaluated on different annotations ({field} differ); evaluate them again"
            )

    n_images = len(a[0].image_ids)
    draws = np.random.default_rng(seed).multinomial(
        n_images, np.full(n_images, 1 / n_images), size=n_resamples
    )
    actual = _difference(a, b, np.ones((1, n_images)))
    chunks = [_difference(a, b, draws[i : i + CHUNK]) for i in range(0, n_resamples, CHUNK)]
    return {
        name: _interval(actual[name][0], np.concatenate([chunk[name] for chunk in chunks])) for name in actual
    }


def _difference(a: Sequence[Matches], b: Sequence[Matches], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Row b minus row a under B weightings of the images: (B,) for each metric."""

    def mean_over_seeds(runs: Sequence[Matches]) -> dict[str, np.ndarray]:
        summaries = [summarize(weighted_precision(run, weights), run.frequency) for run in runs]
        return {name: np.mean([summary[name] for summary in summaries], axis=0) for name in summaries[0]}

    mean_a, mean_b = mean_over_seeds(a), mean_over_seeds(b)
    # rounded: equal means that were summed in another order are not a difference
    return {name: np.round(mean_b[name] - mean_a[name], 9) for name in mean_a}


def _interval(difference: float, resampled: np.ndarray) -> Interval:
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return Interval(float(difference), np.nan, np.nan, np.nan)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(difference), float(low), float(high), float(np.mean(resampled <= 0)))


def weighted_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AP where image i counts weights[b, i] times, with all its objects and detections.

    Args:
        matches: the detections of one run, within its protocol.
        weights: (B, I) whole numbers >= 0.

    Returns:
        (B, K, T) in [0, 1]; 0 for a class that has objects and no detections, NaN for one without objects.
    """
    n_weightings, n_classes = len(weights), len(matches.category_ids)
    weights = np.ascontiguousarray(weights.T, dtype=np.float64)  # (I, B); whole numbers stay exact
    ap = np.zeros((n_weightings, n_classes, len(IOU_THRESHOLDS)))
    counting = matches.object_counts[:, ALL]
    object_image, object_class = matches.object_image[counting], matches.object_class[counting]
    objects = np.searchsorted(object_class, np.arange(n_classes + 1))
    detections = np.searchsorted(matches.label, np.arange(n_classes + 1))
    matched, ignored = matches.matched[:, ALL], matches.ignored[:, ALL]
    for k in range(n_classes):
        n_objects = weights[object_image[objects[k] : objects[k + 1]]].sum(axis=0)  # (B,)
        mine = slice(detections[k], detections[k + 1])
        weight = weights[matches.image[mine]]  # (n, B)
        usual = (ignored[mine] == 0)[:, None]  # at every threshold: their sum serves all
        seen = np.cumsum(np.where(usual, weight, 0), axis=0)
        for t, bit in enumerate(BITS):
            hits = np.flatnonzero(matched[mine] & bit)
            at = np.flatnonzero(~usual[:, 0] & ((ignored[mine] & bit) == 0))  # seen at this threshold only
            more = np.concatenate([np.zeros((1, n_weightings)), np.cumsum(weight[at], axis=0)])
            tp = np.cumsum(weight[hits], axis=0)  # (hits, B)
            tp_and_fp = seen[hits] + more[np.searchsorted(at, hits, side="right")]
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
    return {name: 100 * np.apply_along_axis(mean_of_measured, -1, values) for name, values in columns.items()}
