"""How far a number, or the difference of two rows, would move with the choice of evaluation images."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fasa.errors import UserError
from fasa.evaluation import native
from fasa.evaluation.ap import RECALLS, mean_of_measured, pool
from fasa.evaluation.matches import ALL, BITS, IOU_THRESHOLDS, PER_DETECTION, Matches
from fasa.evaluation.protocols import OLD, Protocol

CHUNK = 128  # resamples at a time: their sums stay in the processor's cache
METRICS = ("AP", "AP50", "AP75", "APr", "APc", "APf")


class Interval(NamedTuple):
    """A difference in percentage points and what resampling makes of it."""

    difference: float  # on the images as they are
    low: float  # 2.5th and
    high: float  # 97.5th percentile over the resamples
    share_not_better: float  # of the resamples: those with a difference <= 0


class Spread(NamedTuple):
    """A number in percent and what resampling makes of it."""

    value: float  # on the images as they are
    low: float  # 2.5th and
    high: float  # 97.5th percentile over the resamples, moved so that their mean is the value


def bootstrap(
    matches: Matches, protocol: Protocol = OLD, n_resamples: int = 1000, seed: int = 0
) -> dict[str, Spread]:
    """Bootstraps a run over images: between which values each of its APs lies in 95 of 100 draws of them.

    Resamples, and what is left out of them, are those of `paired_bootstrap`. On LVIS they lie above the value
    itself: a class seen in few images drops out, or comes with copies that its detections find twice. So
    their spread is told, around the value. In a paired difference most of that cancels.

    Args:
        n_resamples: B, at least 1.
        seed: of the draws, from 0.

    Returns:
        For each of AP, AP50, AP75, APr, APc, APf.

    Raises:
        UserError: as `paired_bootstrap` does.
    """
    (runs,) = _checked([[matches]], n_resamples, seed)
    views = [_views(run, protocol) for run in runs]
    actual, resampled = _resample(lambda weights: _means(views, weights), matches, n_resamples, seed)
    spreads = {}
    for name in METRICS:
        value = float(actual[name][0])
        shift = value - mean_of_measured(resampled[name])
        low, high = _percentiles(resampled[name])
        spreads[name] = Spread(value, low + shift, high + shift)
    return spreads


def paired_bootstrap(
    a: Sequence[Matches],
    b: Sequence[Matches],
    n_resamples: int = 1000,
    seed: int = 0,
    protocol: Protocol = OLD,
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
        n_resamples: B, at least 1.
        seed: of the draws, from 0.
        protocol: by which they are judged, within which `Matches` may already be.

    Returns:
        An interval for each of AP, AP50, AP75, APr, APc, APf.

    Raises:
        UserError: a row without runs, what is no `Matches`, runs that were not evaluated on the same
            annotations, or no resamples.
    """
    a, b = _checked([a, b], n_resamples, seed)
    views = [[_views(run, protocol) for run in runs] for runs in (a, b)]

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        mean_a, mean_b = (_means(row, weights) for row in views)
        # rounded: equal means that were summed in another order are not a difference
        return {name: np.round(mean_b[name] - mean_a[name], 9) for name in METRICS}

    actual, resampled = _resample(difference, a[0], n_resamples, seed)
    return {name: interval(float(actual[name][0]), resampled[name]) for name in METRICS}


def interval(difference: float, resampled: np.ndarray) -> Interval:
    """What a difference comes to, and where it lies in 95 of 100 resamples.

    Args:
        difference: on the images as they are, in points.
        resampled: (B,) on each resample; NaN where it could not be measured, which is left out.
    """
    measured = resampled[~np.isnan(resampled)]
    share = float(np.mean(measured <= 0)) if len(measured) else np.nan
    return Interval(difference, *_percentiles(measured), share)


def draws(n_images: int, n_resamples: int, seed: int = 0) -> np.ndarray:
    """How often each of B resamples holds each image: (B, I) int64, the same for the same arguments."""
    if not n_images:
        return np.zeros((n_resamples, 0), np.int64)
    shares = np.full(n_images, 1 / n_images)
    return np.random.default_rng(seed).multinomial(n_images, shares, size=n_resamples)


def replicates(
    matches: Matches, protocol: Protocol = OLD, n_resamples: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Each AP of a run on each resample: (B,) in percent, NaN where it could not be measured.

    To be kept: of two runs on the same images, the difference of what this gives is what `paired_bootstrap`
    resamples. Metrics, B resamples from a seed, and errors are those of `paired_bootstrap`.
    """
    (runs,) = _checked([[matches]], n_resamples, seed)
    views = [_views(run, protocol) for run in runs]
    return _resample(lambda weights: _means(views, weights), matches, n_resamples, seed)[1]


def fingerprint(matches: Matches, n_resamples: int, seed: int = 0) -> int:
    """32 bits that runs share whose replicates belong together: same images and objects, same draws."""
    columns = (matches.image_ids, matches.category_ids, matches.object_image, matches.object_class)
    number = zlib.crc32(repr((n_resamples, seed)).encode())
    for column in columns:
        number = zlib.crc32(np.ascontiguousarray(column, np.int64), number)
    return number


def _checked(rows: list[Sequence[Matches]], n_resamples: int, seed: int) -> list[list[Matches]]:
    rows = [list(row) for row in rows]
    runs = [run for row in rows for run in row]
    if not all(rows):
        raise UserError("the bootstrap needs at least one run of each row")
    if not all(isinstance(run, Matches) for run in runs):
        raise UserError("the bootstrap takes Matches, a list for each row")
    for name, value, least in (("n_resamples", n_resamples, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{name} is {value!r}; it must be a whole number from {least}")
    for field in ("image_ids", "category_ids", "frequency", "object_image", "object_class", "object_counts"):
        if not all(np.array_equal(getattr(runs[0], field), getattr(run, field)) for run in runs):
            raise UserError(
                f"the runs were evaluated on different annotations ({field} differ); evaluate them again"
            )
    return rows


def _resample(measure: Callable, run: Matches, n_resamples: int, seed: int) -> tuple[dict, dict]:
    """What `measure` makes of the images as they are, and of each resample: (1,) and (B,) for each metric."""
    n_images = len(run.image_ids)
    return measure(np.ones((1, n_images))), in_chunks(measure, draws(n_images, n_resamples, seed))


def in_chunks(measure: Callable, weights: np.ndarray) -> dict[str, np.ndarray]:
    """What `measure` makes of weightings, (B, I), a few at a time: (B,) for each of its metrics."""
    chunks = native.in_threads(measure, [weights[i : i + CHUNK] for i in range(0, len(weights), CHUNK)])
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _percentiles(resampled: np.ndarray) -> tuple[float, float]:
    measured = resampled[~np.isnan(resampled)]
    low, high = np.percentile(measured, [2.5, 97.5]) if len(measured) else (np.nan, np.nan)
    return float(low), float(high)


def _views(matches: Matches, protocol: Protocol) -> dict[str, Matches]:
    """What the metrics are averages of: all classes; in a pool those that share a curve, as if one class."""
    matches = matches.within(protocol)
    if not protocol.pooled:
        return {"": matches}
    everyone = np.ones(len(matches.category_ids), dtype=bool)
    groups = {"": everyone} | {group: matches.frequency == group for group in "rcf"}
    matches = pool(matches)
    return {group: _as_one_class(matches, members) for group, members in groups.items()}


def _means(runs: Sequence[dict[str, Matches]], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The mean over runs of each metric, (B,), under B weightings of the images."""
    summaries = [_summary(views, weights) for views in runs]
    return {name: np.mean([summary[name] for summary in summaries], axis=0) for name in METRICS}


def _summary(views: dict[str, Matches], weights: np.ndarray) -> dict[str, np.ndarray]:
    parts = {
        group: summarize(weighted_precision(matches, weights), matches.frequency)
        for group, matches in views.items()
    }
    return parts[""] | {f"AP{group}": part["AP"] for group, part in parts.items() if group}


def _as_one_class(matches: Matches, members: np.ndarray) -> Matches:
    """Those of some classes, (K,), as if they were one."""
    keep, objects = members[matches.label], members[matches.object_class]
    columns = {name: getattr(matches, name)[keep] for name in PER_DETECTION}
    columns |= {
        name: getattr(matches, name)[objects] for name in ("object_image", "object_class", "object_counts")
    }
    columns |= {name: np.zeros_like(columns[name]) for name in ("label", "object_class")}
    return replace(matches, category_ids=np.zeros(1, np.int64), frequency=np.array(["f"]), **columns)


def weighted_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """AP where image i counts weights[b, i] times, with all its objects and detections.

    Args:
        matches: the detections of one run, within its protocol.
        weights: (B, I) whole numbers >= 0.

    Returns:
        (B, K, T) in [0, 1]; 0 for a class that has objects and no detections, NaN for one without objects.
    """
    counting = matches.object_counts[:, ALL]
    return weighted_ap(
        weights,
        len(matches.category_ids),
        matches.label,
        matches.image,
        matches.matched[:, ALL],
        matches.ignored[:, ALL],
        matches.object_class[counting],
        matches.object_image[counting],
    )


def weighted_ap(
    weights: np.ndarray,
    n_classes: int,
    label: np.ndarray,
    image: np.ndarray,
    matched: np.ndarray,
    ignored: np.ndarray,
    object_class: np.ndarray,
    object_image: np.ndarray,
) -> np.ndarray:
    """`weighted_precision` of columns: (B, K, T).

    Args:
        weights: as its.
        n_classes: K.
        label, image: (N,) of detections, by class, the best first.
        matched, ignored: (N,) uint16 bits of them, see `Matches`.
        object_class, object_image: (G,) of the objects to be found, by class.
    """
    n_weightings = len(weights)
    ap = np.zeros((n_weightings, n_classes, len(IOU_THRESHOLDS)))
    objects = np.searchsorted(object_class, np.arange(n_classes + 1))
    detections = np.searchsorted(label, np.arange(n_classes + 1))
    matched, ignored = map(np.ascontiguousarray, (matched, ignored))
    if native.core:
        weights = np.ascontiguousarray(weights, dtype=np.float64)
        mine = detections, _int32(image), matched, ignored, objects, _int32(object_image)
        curves = ap.shape[-1], RECALLS, len(RECALLS), ap
        native.core("weighted", *weights.shape, weights, n_classes, *mine, *curves)
        return ap
    weights = np.ascontiguousarray(weights.T, dtype=np.float64)  # (I, B); whole numbers stay exact
    for k in range(n_classes):
        n_objects = weights[object_image[objects[k] : objects[k + 1]]].sum(axis=0)  # (B,)
        mine = slice(detections[k], detections[k + 1])
        weight = weights[image[mine]]  # (n, B)
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


def _int32(column: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(column, dtype=np.int32)


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
