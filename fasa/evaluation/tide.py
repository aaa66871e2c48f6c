"""Which kinds of error cost how much AP50: TIDE (Bolya et al., ECCV 2020).

A false positive is of the first kind that fits, by its IoU with the objects of its image:

- Loc: the closest object of its class is at an IoU in [.1, .5];
- Cls: one of another class is at .5 or more;
- Dupe: one of its class is at .5 or more, but a better detection has found it;
- Bkg: none is at more than .1;
- Both: all else, wrong in class and place.

Miss is an object not found, which no Loc or Cls could find either. The cost of a kind, its dAP, is AP50 with
this kind alone cured, minus AP50, not below 0. To cure Loc or Cls, the best of the Loc and Cls of each object
not found finds it, if it is of that kind, and the others of that kind vanish; Both, Dupe and Bkg vanish; to
cure Miss, there are so many objects less. FalsePos is the gain without any false positive, FalseNeg that
without any object not found. Nothing makes these costs add up to 100 - AP50.

**Two readings**, since on LVIS not every class was looked for in every image. Compare numbers of one only.

*The default* is the above by the rules of LVIS. AP50 is that of lvis-api, and its false positives are the
errors: a detection counts where its class has an object in the image or is known to be absent; if it finds
none, only where that class is annotated exhaustively. What does not count is no error, and cures none.
Objects to ignore, as all above 1e10 pixels, are no Miss, and no error is judged by them. The mean is over
the classes with objects, the same before and after a cure; a class that the cure leaves without objects has
AP 100 if it has no false positives either, else 0. Errors may be of classes outside the mean: they are in
`count`, and cost nothing, except as Cls of an object whose class is in it.

*stock=True* is what tidecv 1.0.1 says of LVIS, for comparison with numbers made by it. There

1. the mean takes in every class with a detection that counts, with AP 0 if it has no objects. On a few
   hundred images that can be most classes, and all numbers shrink. A cure that removes the last detection of
   such a class takes it out of the mean, which passes for a gain;
2. detections that do not count are sorted into kinds too: they cost nothing, but are in `count`, and as Loc
   or Cls can find an object, which then is no Miss;
3. `ignore` is not read, areas of 0 and above 1e10 count, and of objects at equal IoU the first is closest,
   not the last;
4. after a cure, though not before, false positives come before true positives of equal score;
5. recall is read off at i / 100, not at linspace(0, 1, 101): ten of these floats differ;
6. FalsePos and FalseNeg may be below 0.

It equals tidecv where the file has its images in ascending order of id (or no scores tie) and no objects of
no area: `read_ground_truth` sorts the ones and drops the others.

I images, K classes, G objects; N detections that take part, by image, best first; P pairs of the two.
"""

import os
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fasa.errors import UserError
from fasa.evaluation.bootstrap import in_chunks, weighted_ap
from fasa.evaluation.cells import Cells
from fasa.evaluation.inputs import (
    Detections,
    GroundTruth,
    positions,
    read_detections,
    read_ground_truth,
)
from fasa.evaluation.masks import mask_areas
from fasa.evaluation.matches import AREAS, greedy
from fasa.evaluation.native import in_threads
from fasa.evaluation.overlap import lexsort, nearest, ordered, overlaps, places

FOREGROUND, BACKGROUND = 0.5, 0.1  # the paper's t_f and t_b
DETECTIONS_PER_IMAGE = 300
LARGEST = AREAS[""][1]
TRIED = 40  # errors whose cost is measured, for each that is shown
CHUNK = 100_000  # detections overlapped at a time
ERRORS = {  # in a sentence each
    "Cls": "right place, wrong class: IoU of .5 or more with another class",
    "Loc": "right class, wrong place: IoU of .1 to .5 with its class",
    "Both": "wrong in class and place, though at something: IoU over .1",
    "Dupe": "an object that a better detection had found already",
    "Bkg": "nothing there: IoU of at most .1 with every object",
    "Miss": "an object that nothing found, nor any Cls or Loc could",
    "FalsePos": "every detection that is wrong",
    "FalseNeg": "every object that was not found",
}
KINDS = tuple(ERRORS)[:6]
CLS, LOC, BOTH, DUPE, BKG, MISS = range(6)


class Tide(NamedTuple):
    """What `tide` returns; NaN where no class is left to take the mean of."""

    ap50: float  # in percent
    main: dict[str, float]  # dAP in points of Cls, Loc, Both, Dupe, Bkg, Miss
    special: dict[str, float]  # dAP in points of FalsePos, FalseNeg
    count: dict[str, int]  # how many there are of each kind


class _Curve(NamedTuple):
    """What AP50 is made of."""

    order: np.ndarray  # (N,) best first
    counts: np.ndarray  # (N,) whether it is a true or false positive
    hit: np.ndarray  # (N,) which of the two
    label: np.ndarray  # (N,)
    objects: np.ndarray  # (K,) how many there are to be found


def tide(
    gt: dict | str | os.PathLike | GroundTruth,
    detections: list | str | os.PathLike | Detections,
    iou_type: str = "segm",
    stock: bool = False,
) -> Tide:
    """Finds what each kind of error costs, among the best 300 detections of each image over all classes.

    Without any detections AP50 is 0 and Miss costs 100 (in stock NaN, where tidecv divides by 0).

    Args:
        gt: annotations as `read_ground_truth` takes them.
        detections: results as `read_detections` takes them.
        iou_type: "segm" or "bbox".
        stock: whether to do as tidecv 1.0.1 does; this file begins with the difference.

    Raises:
        UserError: as those two.
    """
    gt, dt = _read(gt, detections, iou_type, stock)
    found = _sorted(gt, dt, stock)
    curve, measured = found.curve, found.curve.objects > 0
    ap50 = _ap50(curve, stock, measured)
    if stock:
        curve = curve._replace(order=lexsort(curve.hit, -found.score))
    cured = _cured(gt, found, curve)
    gain = {name: float(_ap50(after, stock, measured) - ap50) for name, (after, _) in cured.items()}
    count = [*np.bincount(found.kind[found.kind >= 0], minlength=MISS), found.missed.sum()]
    return Tide(
        ap50=float(ap50),
        main={name: max(gain[name], 0.0) for name in KINDS},
        special={name: gain[name] for name in ("FalsePos", "FalseNeg")},
        count={name: int(n) for name, n in zip(KINDS, count, strict=True)},
    )


def replicates(gt, detections, weights: np.ndarray, iou_type: str = "segm") -> dict[str, np.ndarray]:
    """What each kind costs where image i counts weights[b, i] times: (B,) points for each of `KINDS`.

    By the default reading. The mean is over the classes with objects in images that count.
    Arguments and errors but for the weights, (B, I) whole numbers >= 0, are those of `tide`.
    """
    gt, dt = _read(gt, detections, iou_type)
    found = _sorted(gt, dt, stock=False)
    cured = _cured(gt, found, found.curve)

    def costs(weights: np.ndarray) -> dict[str, np.ndarray]:
        before = _weighted_ap50(gt, found, found.curve, ~gt.ignore, weights)
        measured = ~np.isnan(before)
        n = measured.sum(axis=1)

        def cost(name: str) -> np.ndarray:
            after = _weighted_ap50(gt, found, *cured[name], weights)
            gained = np.where(measured, after - before, 0).sum(axis=1)
            return np.maximum(np.divide(100 * gained, n, out=np.full(len(n), np.nan), where=n > 0), 0)

        return {name: cost(name) for name in KINDS}

    return in_chunks(costs, weights)


def _cured(gt: GroundTruth, found: "_Sorted", curve: _Curve) -> dict[str, tuple[_Curve, np.ndarray]]:
    """For each kind the curve without its errors, and which objects are then to be found, (G,)."""
    asked = ~gt.ignore

    def without(objects: np.ndarray) -> tuple[_Curve, np.ndarray]:
        left = asked & ~objects
        return curve._replace(objects=np.bincount(gt.label[left], minlength=len(gt.category_ids))), left

    cured = {"Miss": without(found.missed)}
    for this, name in enumerate(KINDS[:MISS]):
        mine, new = found.kind == this, found.finds & (found.kind == this)
        relabelled = curve.label.copy()
        relabelled[new] = gt.label[found.target[new]]
        counts, hit = curve.counts & ~mine | new, curve.hit | new
        cured[name] = curve._replace(counts=counts, hit=hit, label=relabelled), asked
    cured["FalsePos"] = curve._replace(order=np.argsort(~curve.hit, kind="stable")), asked
    cured["FalseNeg"] = without(found.unseen)
    return cured


def _weighted_ap50(
    gt: GroundTruth, found: "_Sorted", curve: _Curve, asked: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """AP50 of each class in [0, 1] by the default reading, (B, K); NaN where none of its objects counts.

    A class whose objects a cure took away, all of them, has 1 without a false positive, else 0.
    """
    n_classes = len(gt.category_ids)
    order = curve.order[curve.counts[curve.order]]
    order = order[lexsort(curve.label[order])]
    label, image, hit = curve.label[order], found.image[order], curve.hit[order].astype(np.uint16)
    objects = np.flatnonzero(asked)
    objects = objects[lexsort(gt.label[objects])]
    there = gt.label[objects], gt.image[objects]
    ap = weighted_ap(weights, n_classes, label, image, hit, np.zeros_like(hit), *there)[..., 0]
    for k in np.flatnonzero(np.isnan(ap).any(axis=0)):
        held = weights[:, gt.image[(gt.label == k) & ~gt.ignore]].any(axis=1)
        detected = weights[:, image[label == k]].any(axis=1)
        ap[:, k] = np.where(np.isnan(ap[:, k]) & held, ~detected, ap[:, k])
    return ap


def by_class(gt, detections, iou_type: str = "segm") -> dict[str, np.ndarray]:
    """How many errors of each kind each class has, by the default reading: (K,) for each of `KINDS`.

    An error counts for the class that was detected, a Miss for the object's. Arguments and errors are those
    of `tide`.
    """
    gt, dt = _read(gt, detections, iou_type)
    found = _sorted(gt, dt, stock=False)
    label, n_classes = found.curve.label, len(gt.category_ids)
    counts = {
        name: np.bincount(label[found.kind == kind], minlength=n_classes)
        for kind, name in enumerate(KINDS[:MISS])
    }
    return counts | {"Miss": np.bincount(gt.label[found.missed], minlength=n_classes)}


class Example(NamedTuple):
    """One error, and what it costs alone."""

    kind: str  # of `KINDS`
    cost: float  # points of AP50 that curing this one would bring
    image_id: int
    category_id: int  # of the detection; of the object for a Miss
    category: str  # its name, "" where the file has none
    score: float | None  # None for a Miss
    iou: float  # with the object that it is about; of Miss the highest of any detection, 0 below .1
    object_category_id: int | None  # of that object; None for a Bkg far from everything
    entry: int | None  # of the results; None for a Miss


def examples(
    gt, detections, n: int = 5, iou_type: str = "segm", category_id: int | None = None
) -> list[Example]:
    """The costliest errors of each kind, by the default reading: up to `n` of a kind, the worst first.

    Looked for among those of the best scores, and the objects missed of the classes with the fewest.
    The other arguments and the errors are those of `tide`.

    Args:
        category_id: of the one class whose detections and objects are looked at; None: all.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UserError(f"the number of examples is {n!r}; it must be a whole number from 1")
    gt, dt = _read(gt, detections, iou_type)
    found = _sorted(gt, dt, stock=False)
    curve, measured = found.curve, found.curve.objects > 0
    by_class = lexsort(curve.label[curve.order])  # places in the order, best first in each class
    bounds = np.searchsorted(curve.label[curve.order[by_class]], np.arange(len(measured) + 1))

    def gain(classes: set[int], **change) -> float:
        """What a change to some classes brings."""
        mine = np.isin(np.arange(len(measured)), list(classes)) & measured
        if not mine.any():
            return 0.0
        ranks = np.concatenate([by_class[bounds[k] : bounds[k + 1]] for k in classes])
        before = curve._replace(order=curve.order[np.sort(ranks)])
        after = _ap50(before._replace(**change), False, mine) - _ap50(before, False, mine)
        return float(after * mine.sum() / measured.sum())

    def cure(d: int) -> float:
        counts, hit, label = curve.counts.copy(), curve.hit.copy(), curve.label.copy()
        counts[d] = hit[d] = found.finds[d]
        if found.finds[d]:
            label[d] = gt.label[found.target[d]]
        return gain({int(curve.label[d]), int(label[d])}, counts=counts, hit=hit, label=label)

    det, obj, iou = found.pairs
    of_class = (category_id is None) | (gt.category_ids == category_id)
    chosen = []
    for kind, name in enumerate(KINDS[:MISS]):
        mine = ((found.kind == kind) & of_class[curve.label])[curve.order]
        mine = curve.order[mine][: TRIED * n]
        costs = sorted(((cure(d), -i, d) for i, d in enumerate(mine.tolist())), reverse=True)[:n]
        for cost, _, d in costs:
            near = slice(*np.searchsorted(det, [d, d + 1]))
            near = np.arange(near.start, near.stop)[~gt.ignore[obj[near]]]
            if found.target[d] >= 0:
                near = near[obj[near] == found.target[d]]
            elif kind == DUPE:
                near = near[gt.label[obj[near]] == curve.label[d]]
            near = near[np.argsort(-iou[near], kind="stable")[:1]]
            about = gt.category_ids[gt.label[obj[near]]].tolist()
            k = curve.label[d]
            ids = int(gt.image_ids[found.image[d]]), int(gt.category_ids[k])
            shown = float(found.score[d]), float(iou[near].sum()), about[0] if about else None
            chosen.append(Example(name, cost, *ids, gt.names[k], *shown, int(found.entry[d])))
    missed = np.flatnonzero(found.missed & of_class[gt.label])
    fewest = missed[np.argsort(curve.objects[gt.label[missed]], kind="stable")]
    costs = {}
    for k in dict.fromkeys(gt.label[fewest].tolist()[: TRIED * n]):
        costs[k] = gain({k}, objects=curve.objects - (np.arange(len(measured)) == k))
    worst = sorted((g for g in fewest.tolist() if gt.label[g] in costs), key=lambda g: -costs[gt.label[g]])[
        :n
    ]
    for g in worst:
        k = gt.label[g]
        closest = float(iou[obj == g].max(initial=0))
        ids = int(gt.image_ids[gt.image[g]]), int(gt.category_ids[k])
        chosen.append(Example("Miss", costs[k], *ids, gt.names[k], None, closest, ids[1], None))
    return chosen


class _Sorted(NamedTuple):
    """Detections that take part, sorted into hits and errors."""

    entry: np.ndarray  # (N,) of the results
    image: np.ndarray  # (N,)
    score: np.ndarray  # (N,)
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]  # det, obj, iou: by detection, the closest object first
    kind: np.ndarray  # (N,) of the error, -1 for none
    target: np.ndarray  # (N,) the object that a Loc or Cls is about, else -1
    finds: np.ndarray  # (N,) whether curing it finds that object
    unseen: np.ndarray  # (G,) not found
    missed: np.ndarray  # (G,) nor would it be
    curve: _Curve


def _read(gt, detections, iou_type: str, stock: bool = False) -> tuple[GroundTruth, Detections]:
    """Both, checked; objects out of the range of areas that AP50 is of are to be ignored, in stock none."""
    gt = read_ground_truth(gt, iou_type)
    ignore = np.zeros_like(gt.ignore) if stock else gt.ignore | (gt.area > LARGEST)
    return gt._replace(ignore=ignore), read_detections(detections, gt)


def _sorted(gt: GroundTruth, dt: Detections, stock: bool) -> _Sorted:
    """Which detection is right, and of what kind the others are."""
    entry, image, label, cell, score, shape, blamed = _best(gt, dt, stock)
    pairs = _overlaps(gt, image, shape, stock)
    found = _found(gt, label, cell, *pairs)
    hit = (found >= 0) & ~np.append(gt.ignore, False)[found]
    counts = hit | (found < 0) & blamed
    taken = np.zeros(len(gt.image), dtype=bool)
    taken[found[hit]] = True

    kind, target = _kinds(gt, label, (found < 0) & (counts | stock), *pairs)
    finds = (target >= 0) & ~np.append(taken, True)[target]
    unseen = ~gt.ignore & ~taken
    missed = unseen & ~np.isin(np.arange(len(unseen)), target[finds])
    finds[finds] = places(target[finds]) == 0  # the best of them
    objects = np.bincount(gt.label[~gt.ignore], minlength=len(gt.category_ids))
    curve = _Curve(np.argsort(-score, kind="stable"), counts, hit, label, objects)
    return _Sorted(entry, image, score, pairs, kind, target, finds, unseen, missed, curve)


def _best(gt: GroundTruth, dt: Detections, stock: bool) -> tuple:
    """Columns of detections that take part, the last of them whether to find no object is wrong."""
    image = positions(dt.image_id, gt.image_ids, "image", "detections")
    label = positions(dt.category_id, gt.category_ids, "category", "detections")
    cells = Cells(gt)
    cell = cells.find(image, label)
    best = np.flatnonzero((places(image, dt.score) < DETECTIONS_PER_IMAGE) & (stock | (cell >= 0)))
    best = best[ordered(image[best], dt.score[best])]
    image, label, cell = (column[best] for column in (image, label, cell))
    blamed = (cell >= 0) & ~np.append(cells.partial, False)[cell]
    shape = dt.shape[best]
    if gt.iou_type == "bbox":
        area = shape[:, 2] * shape[:, 3]
    else:
        area = mask_areas(shape, gt.sizes[image], "detections", best)
    blamed &= stock | (area > 0) & (area <= LARGEST)
    return best, image, label, cell, dt.score[best], shape, blamed


def _overlaps(gt: GroundTruth, image: np.ndarray, shape, stock: bool) -> tuple[np.ndarray, ...]:
    """Pairs in an image that are not background to each other: (P,) detections, objects and their IoU."""
    first = np.searchsorted(gt.image, image, side="left")
    found = np.searchsorted(gt.image, image, side="right") - first
    everyone = np.arange(len(gt.image))
    edges = np.flatnonzero(np.diff(image, prepend=-1))  # all pairs of LVIS at once would fill gigabytes
    edges = [*edges[np.flatnonzero(np.diff(edges // CHUNK, prepend=-1))].tolist(), len(image)]

    def part(bounds: tuple[int, int]) -> tuple[np.ndarray, ...]:
        mine = slice(*bounds)
        iou = overlaps(first[mine], found[mine], everyone, shape[mine], gt.shape, gt.sizes[image[mine]])
        det, obj, iou = nearest(first[mine], found[mine], iou, BACKGROUND, last_first=not stock)
        return det + bounds[0], obj, iou

    parts = in_threads(part, list(pairwise(edges)))
    parts.append((np.zeros(0, int), np.zeros(0, int), np.zeros(0)))
    det, obj, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return det, obj, iou


def _found(gt: GroundTruth, label, cell, det, obj, iou) -> np.ndarray:
    """Gives each detection in turn its closest free object, (N,) or -1; one to ignore if no other will do."""
    fits = (iou >= FOREGROUND) & (label[det] == gt.label[obj])
    candidates, took = greedy(det[fits], obj[fits], iou[fits], gt.ignore, cell, least=np.array([FOREGROUND]))
    found = np.full(len(label), -1)
    found[candidates] = took[:, 0]
    return found


def _kinds(gt: GroundTruth, label, wrong, det, obj, iou) -> tuple[np.ndarray, np.ndarray]:
    """Sorts errors: (N,) their kind, -1 for no error; (N,) the object that a Loc or Cls is about, else -1."""
    of_error = wrong[det] & ~gt.ignore[obj]
    det, obj, iou = det[of_error], obj[of_error], iou[of_error]

    def closest(fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d, first = np.unique(det[fits], return_index=True)
        at, value = np.full(len(label), -1), np.zeros(len(label))
        at[d], value[d] = obj[fits][first], iou[fits][first]
        return at, value

    same = label[det] == gt.label[obj]
    (own, own_iou), (other, other_iou) = closest(same), closest(~same)
    is_kind = {
        -1: ~wrong,
        LOC: (own_iou >= BACKGROUND) & (own_iou <= FOREGROUND),
        CLS: other_iou >= FOREGROUND,
        DUPE: own_iou > FOREGROUND,  # another found that object, or this would have
        BKG: np.maximum(own_iou, other_iou) <= BACKGROUND,
    }
    kind = np.select(list(is_kind.values()), list(is_kind), BOTH)
    return kind, np.select([kind == LOC, kind == CLS], [own, other], -1)


def _ap50(curve: _Curve, stock: bool, measured: np.ndarray) -> float:
    """The mean over classes, in percent; the default reading's are the `measured` ones, (K,)."""
    recalls, eps = (np.arange(101) / 100, 0) if stock else (np.linspace(0, 1, 101), np.spacing(1))
    order = curve.order[curve.counts[curve.order]]
    order = order[lexsort(curve.label[order])]
    start = np.searchsorted(curve.label[order], np.arange(len(curve.objects) + 1))
    hit = np.flatnonzero(curve.hit[order])
    k = curve.label[order[hit]]
    tp = places(k) + 1
    reached = np.searchsorted(recalls, tp / curve.objects[k], side="right") - 1
    precision = np.zeros((len(curve.objects), len(recalls)))
    np.maximum.at(precision, (k, reached), tp / (hit - start[k] + 1 + eps))
    ap = np.maximum.accumulate(precision[:, ::-1], axis=1).mean(axis=1)

    detected = np.diff(start) > 0
    if stock:
        measured = detected | (curve.objects > 0)
    else:
        ap = np.where(curve.objects > 0, ap, ~detected)
    return 100 * ap[measured].mean() if measured.any() else np.nan
