"""Average precision of LVIS by any of its protocols.

K classes, T IoU thresholds, R recall points, A area ranges.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fasa.errors import UserError
from fasa.evaluation import native
from fasa.evaluation.matches import ALL, AREAS, BITS, IOU_THRESHOLDS, PER_DETECTION, Matches, match
from fasa.evaluation.overlap import lexsort, ordered
from fasa.evaluation.protocols import OLD, Protocol, checked

RECALLS = np.linspace(0, 1, 101)


class Result(NamedTuple):
    """What `evaluate` returns; in percent, NaN where there is no object to measure it on."""

    summary: dict[str, float]  # AP, AP50, AP75, APs, APm, APl, APr, APc, APf, AR, ARs, ARm, ARl
    per_class: np.ndarray  # (K,) AP of each class by itself, in ascending order of category id
    precision: np.ndarray  # (T, R, K) in [0, 1], over all areas; what lvis-api calls so. Pooled: (T, R, 1)
    matches: Matches  # within the protocol


def evaluate(gt, detections, protocol: Protocol = OLD, iou_type: str = "segm") -> Result:
    """Judges detections: `OLD` as lvis-api does, `FIXED` and `POOL` as Dave et al. (2021) propose.

    The other arguments and the errors are those of `match`. Detections may be empty: AP is 0 then.
    AP_Fixed needs inference without a cap per image: of 300 an image it is a lower bound only.
    """
    (protocol,) = checked([protocol])
    return judge(match(gt, detections, iou_type, [protocol]), protocol)


def judge(matches: Matches, protocol: Protocol = OLD) -> Result:
    """Evaluates what was matched once, by one of the protocols.

    Raises:
        UserError: what is no `Matches`.
    """
    if not isinstance(matches, Matches):
        raise UserError(f"judge takes Matches, not {type(matches).__name__}; make them by `match`")
    matches = matches.within(protocol)
    frequency = matches.frequency
    everything = slice(None) if protocol.pooled else None
    by_class = matches
    if protocol.pooled:
        per_class, _ = curves(matches)
        matches = pool(matches)
    found = native.in_threads(lambda area: curves(matches, area, everything), range(len(AREAS)))
    precision, recalls = found[ALL][0], {f"AR{name}": found[a][1] for a, name in enumerate(AREAS)}
    summary = dict(AP=precision.mean(axis=1), AP50=precision[0].mean(axis=0), AP75=precision[5].mean(axis=0))
    summary |= {f"AP{name}": found[a][0].mean(axis=1) for a, name in enumerate(AREAS) if name}
    for group in "rcf":
        members = frequency == group
        part = curves(matches, pooled=members)[0] if protocol.pooled else precision[..., members]
        summary[f"AP{group}"] = part.mean(axis=1)
    return Result(
        {name: 100 * mean_of_measured(value) for name, value in (summary | recalls).items()},
        100 * (per_class if protocol.pooled else precision).mean(axis=(0, 1)),
        precision,
        by_class,
    )


def pool(matches: Matches) -> Matches:
    """Best score first; of equals the lower image, then the lower class: large-vocab-devil's order."""
    order = lexsort(matches.image)
    order = order[ordered(np.zeros(len(order), np.int32), matches.score[order])]
    return replace(matches, **{name: getattr(matches, name)[order] for name in PER_DETECTION})


def curves(matches: Matches, area: int = ALL, pooled=None) -> tuple[np.ndarray, np.ndarray]:
    """Precision at the recall points, and the highest recall.

    AP is the mean over 101 recalls r of the highest precision tp / (tp + fp) at any recall >= r. That is
    needed at the true positives only: between them recall stands still and precision falls.

    Args:
        matches: the detections of one run.
        area: of the ranges in `AREAS`.
        pooled: the classes that share one curve, an index into the K, of detections from best to worst;
            None: each class has its own.

    Returns:
        (T, R, K) and (T, K) in [0, 1]; for pooled classes K is 1. 0 for a class that has objects and no
        detections, NaN for one without objects.
    """
    label, object_class = matches.label, matches.object_class[matches.object_counts[:, area]]
    matched, ignored = matches.matched[:, area], matches.ignored[:, area]
    n_classes = len(matches.category_ids)
    if pooled is not None:
        member = np.zeros(n_classes, dtype=bool)
        member[pooled] = True
        keep = np.flatnonzero(member[label])
        matched, ignored, label = matched[keep], ignored[keep], np.zeros(len(keep), dtype=np.int64)
        object_class, n_classes = np.zeros(member[object_class].sum(), dtype=np.int64), 1
    n_objects = np.bincount(object_class, minlength=n_classes)
    shape = (len(IOU_THRESHOLDS), len(RECALLS), n_classes)
    precision, recall = np.zeros(shape), np.zeros((shape[0], n_classes))
    if native.core:
        bits = (np.ascontiguousarray(column) for column in (matched, ignored))
        bounds = np.searchsorted(label, np.arange(n_classes + 1))
        curve = n_objects, len(BITS), RECALLS, len(RECALLS), precision, recall
        native.core("trace", n_classes, bounds, *bits, *curve)
    else:
        _trace(matched, ignored, label, n_objects, precision, recall)
    precision[..., n_objects == 0] = np.nan
    recall[:, n_objects == 0] = np.nan
    return precision, recall


def _trace(matched, ignored, label, n_objects, precision, recall) -> None:
    """The curves of classes that ascend, into arrays of 0."""
    takes_part = np.flatnonzero(ignored != BITS.sum())  # at some threshold
    matched, ignored, label = matched[takes_part], ignored[takes_part], label[takes_part]
    first = np.searchsorted(label, np.arange(len(n_objects)))
    for t, bit in enumerate(BITS):
        hits = np.flatnonzero(matched & bit)
        if not len(hits):
            continue
        k = label[hits]
        seen = np.concatenate([[0], np.cumsum((ignored & bit) == 0)])  # true and false positives
        start = np.flatnonzero(np.diff(k, prepend=-1))
        tp = 1 + np.arange(len(hits)) - np.repeat(start, np.diff(start, append=len(hits)))
        at_hits = _highest_from_here_on(tp / (seen[hits + 1] - seen[first[k]] + np.spacing(1)), k)
        reached = np.searchsorted(RECALLS, tp / n_objects[k], side="right")  # recall points, per class
        new = np.diff(reached, prepend=0)
        new[start] = reached[start]
        owner = np.repeat(np.arange(len(hits)), new)
        point = np.arange(len(owner)) - np.repeat(np.cumsum(new) - reached, new)
        precision[t, point, k[owner]] = at_hits[owner]
        np.maximum.at(recall[t], k, tp / n_objects[k])


def _highest_from_here_on(precision: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The highest precision at or after each place within its class; classes ascend."""
    values, rank = np.unique(precision, return_inverse=True)
    rank += (k[-1] - k) * len(values) if len(k) else 0  # backwards, a later class always ranks higher
    highest = np.maximum.accumulate(rank[::-1])[::-1]
    return values[highest % len(values)]


def mean_of_measured(values: np.ndarray) -> float:
    """The mean of all that is not NaN; NaN if all is."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else np.nan
