"""Which detection found which object, by the federated rules of LVIS.

I images, K classes, G objects, N detections, T IoU thresholds, A area ranges, P pairs of a detection and an
object of its class in its image. A detection never depends on those of lower score, so one matching of all
serves every protocol: each then takes the detections within its caps.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from fasa.errors import UserError
from fasa.evaluation import native
from fasa.evaluation.cells import Cells
from fasa.evaluation.inputs import (
    Detections,
    GroundTruth,
    checked,
    positions,
    read_detections,
    read_ground_truth,
)
from fasa.evaluation.masks import Masks, mask_areas
from fasa.evaluation.overlap import lexsort, ordered, overlaps, places, ranges
from fasa.evaluation.protocols import PROTOCOLS, Protocol
from fasa.evaluation.protocols import checked as checked_protocols
from fasa.files import UNREADABLE, replacing

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}  # pixels, ends included
ALL = 0  # the first of them
LEAST_IOU = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)  # as lvis-api: an IoU of 1 passes any threshold
BITS = (1 << np.arange(len(IOU_THRESHOLDS))).astype(np.uint16)
CHUNK = 200_000  # detections matched at a time
ALL_OF_THEM = np.iinfo(np.int64).max  # for no cap


@dataclass(frozen=True, eq=False)
class Matches:
    """The outcome of matching: all that AP needs, and small enough to store.

    Classes and images are positions in ``category_ids`` and ``image_ids``, both ascending. Objects are sorted
    by class; detections by class, then score (descending), then image, then place in the results.
    A bit t of ``matched`` and ``ignored`` is the answer at IoU threshold t.

    Attributes:
        image_ids: (I,) ids of the annotation file.
        category_ids: (K,) ids of the annotation file.
        frequency: (K,) "r", "c" or "f".
        object_image: (G,) image of each object.
        object_class: (G,) class of each object.
        object_counts: (G, A) whether it is to be found, in each area range.
        caps: (2,) how many of an image's, and of a class's best detections were kept at the least.
        image: (N,) image of each detection.
        label: (N,) class of each detection.
        score: (N,) in float64.
        image_rank: (N,) its place among all detections of its image, best first, from 0; at most the cap.
        class_rank: (N,) its place among all detections of its class; at most the cap.
        matched: (N, A) uint16, whether it found an object that counts; a true positive.
        ignored: (N, A) uint16, whether it is neither a true nor a false positive: unmatched where its
            image may hold more objects of its class than annotated, or of an area outside the range,
            or matched to an object that does not count.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    frequency: np.ndarray
    object_image: np.ndarray
    object_class: np.ndarray
    object_counts: np.ndarray
    caps: np.ndarray
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    image_rank: np.ndarray
    class_rank: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray

    def within(self, protocol: Protocol) -> "Matches":
        """Those of the detections that take part in a protocol.

        Raises:
            UserError: detections that it takes were left out when these matches were made.
        """
        (protocol,) = checked_protocols([protocol])
        per_image, per_class = self.caps
        old, fixed = protocol.per_image is not None, protocol.per_class is not None
        if not (
            old
            and protocol.per_image <= per_image
            or (protocol.per_class if fixed else ALL_OF_THEM) <= per_class
        ):
            raise UserError(
                f"matched for the best {per_image} an image and {per_class} a class, not for {protocol}"
            )
        keep = protocol.takes(self.image_rank, self.class_rank)
        return (
            self
            if keep.all()
            else replace(self, **{name: getattr(self, name)[keep] for name in PER_DETECTION})
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes an ``.npz`` without pickles; equal matches give equal bytes."""
        with replacing(path) as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Matches":
        """Reads what ``save`` wrote; raises ``UserError`` where that is not what the file holds."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                matches = cls(**arrays)
            matches._check()
            return matches
        except UNREADABLE as error:
            raise UserError(f"{path}: cannot read matches ({error}); evaluate again") from error

    def _check(self) -> None:
        """Refuse arrays that do not belong together."""
        n, g = len(self.score), len(self.object_image)
        shapes = dict(
            frequency=self.category_ids.shape,
            **dict.fromkeys(("object_image", "object_class"), (g,)),
            object_counts=(g, len(AREAS)),
            caps=(2,),
            **dict.fromkeys(("image", "label", "score", "image_rank", "class_rank"), (n,)),
            **{name: (n, len(AREAS)) for name in ("matched", "ignored")},
        )
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is of shape {getattr(self, name).shape}, not {shape}")
        for name, kinds in KINDS.items():
            if getattr(self, name).dtype.kind not in kinds:
                raise ValueError(f"{name} is of {getattr(self, name).dtype}")
        for name, most in (
            ("image", self.image_ids),
            ("label", self.category_ids),
            ("object_image", self.image_ids),
            ("object_class", self.category_ids),
        ):
            column = getattr(self, name)
            if len(column) and not 0 <= column.min() <= column.max() < len(most):
                raise ValueError(f"{name} is beyond those there are")
        for name in ("label", "object_class"):
            if (np.diff(getattr(self, name)) < 0).any():
                raise ValueError(f"{name} is out of order")


KINDS = dict(  # of the arrays' types, in NumPy's letters
    image_ids="i",
    category_ids="i",
    frequency="U",
    object_image="i",
    object_class="i",
    object_counts="b",
    caps="i",
    image="i",
    label="i",
    score="f",
    image_rank="i",
    class_rank="i",
    matched="u",
    ignored="u",
)
COUNTED = ("image", "matched", "ignored")  # what is kept only of detections that count
PER_DETECTION = ("image", "label", "score", "image_rank", "class_rank", "matched", "ignored")


def match(
    gt,
    detections,
    iou_type: str = "segm",
    protocols: Iterable[Protocol] = tuple(PROTOCOLS.values()),
    progress: bool = False,
) -> Matches:
    """Matches detections to objects per image and class, greedily by score, as lvis-api does.

    - A detection counts only where its class has an object or is listed as absent (``neg_category_ids``).
    - It takes the free object of highest IoU, if that reaches the threshold; of equals the last; one that is
      marked `ignore`, or of an area outside the range, only if no other will do.
    - Objects of no area are dropped, and detections of no area once they were counted against the caps.

    Differs from lvis-api 0.5.3 where that has a defect: an object of id 0 can be found; for "segm" the
    mask's area decides also where the results carry a ``bbox``; no detections at all give AP 0.

    Args:
        gt: LVIS v1 annotations: a dict, a path, or what `read_ground_truth` made of them.
        detections: results: a list, a path, or `Detections`. Each has ``image_id``, ``category_id``,
            ``score``, and ``segmentation`` (RLE) for "segm" or ``bbox`` (x, y, w, h in pixels) for "bbox".
        iou_type: "segm" or "bbox".
        protocols: that the matches are for; detections that none of them takes are left out.
        progress: whether to show a bar, if standard error is a terminal.

    Raises:
        UserError: unreadable file, missing field, unknown id, score or box not finite, mask of another size.
    """
    protocols = checked_protocols(protocols)
    gt = read_ground_truth(gt, iou_type)
    dt = read_detections(detections, gt)
    matcher = Matcher(gt, protocols)
    matcher._room = len(dt.score)  # all are in memory anyway
    image, label = matcher._positions(dt)
    place = np.arange(len(image))
    with tqdm(
        total=len(dt.score),
        desc="match",
        unit=" detections",
        unit_scale=True,
        disable=None if progress else True,
    ) as bar:

        def work(part) -> dict[str, np.ndarray]:
            columns = image, label, dt.score, dt.shape, place
            matched = matcher._matched(*(column[part] for column in columns))
            bar.update(len(matched["score"]))
            return matched

        for matched in native.in_threads(work, list(_by_image(image))):
            matcher._keep(matched)
    return matcher.matches()


def _by_image(image: np.ndarray) -> Iterator[slice | np.ndarray]:
    """Parts of about `CHUNK` detections, those of an image together."""
    ends = np.append(np.flatnonzero(np.diff(image)) + 1, len(image))
    order = None
    if len(image) and len(np.unique(image[ends - 1])) < len(ends):  # some image's lie apart
        order = np.argsort(image, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(image[order])) + 1, len(image))
    start = 0
    while start < len(image):
        stop = int(ends[np.searchsorted(ends, min(start + CHUNK, len(image)))])
        yield slice(start, stop) if order is None else order[start:stop]
        start = stop


class Matcher:
    """Matches detections as they come, some images at a time, and holds no box or mask of those that were.

    For results that are too many to hold: AP_Fixed takes 10,000 detections a class. A detector may leave out
    what falls below `threshold`, since it would be dropped.

    Args:
        gt: the annotations.
        protocols: that the matches are for.
    """

    def __init__(self, gt: GroundTruth, protocols: Iterable[Protocol] = tuple(PROTOCOLS.values())):
        self.gt, protocols = gt, checked_protocols(protocols)
        self.per_image = max([p.per_image for p in protocols if p.per_image is not None], default=0)
        uncapped = [p.per_class for p in protocols if p.per_image is None]
        self.per_class = ALL_OF_THEM if None in uncapped else max(uncapped, default=0)
        self.cells = Cells(gt)
        objects = self.cells.objects
        outside = ~_within_areas(gt.area[objects])
        self.object_ignored = gt.ignore[objects, None] | outside  # (G, A)
        self.threshold = np.full(len(gt.category_ids), -np.inf)  # (K,) scores below it no longer matter
        self._seen = np.zeros(len(gt.image_ids), dtype=bool)  # images that were added
        self._parts: list[dict[str, np.ndarray]] = []
        self._room = min(self.per_class, CHUNK)  # detections that may come before it prunes
        self._added = self._held = self._kept = 0  # detections in all, now, and after the last pruning

    def add(self, dt: Detections, place: np.ndarray | None = None) -> None:
        """Matches all detections of some images, none of which was added before.

        Args:
            dt: the detections.
            place: (N,) integers, of each in the order that decides between equal scores; None: as they come.

        Raises:
            UserError: an image that was added before, columns that do not fit each other or the annotations,
                a mask cut short.
        """
        dt = checked(dt, self.gt)
        if place is not None and (place.shape != dt.score.shape or place.dtype.kind not in "iu"):
            told = f"{place.shape} {place.dtype}"
            raise UserError(f"detections: place is {told}, not a whole number for each of {len(dt.score)}")
        images = np.unique(positions(dt.image_id, self.gt.image_ids, "image", "detections"))
        if self._seen[images].any():
            twice = self.gt.image_ids[images[self._seen[images]][0]]
            raise UserError(f"detections: image {twice} was added before; add all of an image at once")
        self._add(dt, place)
        self._seen[images] = True

    def _add(self, dt: Detections, place: np.ndarray | None) -> None:
        if place is None:
            place = np.arange(self._added, self._added + len(dt.score))
        self._keep(self._matched(*self._positions(dt), dt.score, dt.shape, place))

    def _positions(self, dt: Detections) -> tuple[np.ndarray, np.ndarray]:
        """Image and class of each detection, (N,) int32."""
        image = positions(dt.image_id, self.gt.image_ids, "image", "detections")
        label = positions(dt.category_id, self.gt.category_ids, "category", "detections")
        return image.astype(np.int32), label.astype(np.int32)

    def _matched(self, image, label, score, shape, place) -> dict[str, np.ndarray]:
        """What is kept of detections; changes nothing, so several threads may ask."""
        cell = self.cells.find(image, label)
        part = dict(label=label, score=score, place=place, counts=cell >= 0)
        # Beyond a cap a place would tell what had been left out before.
        part["image_rank"] = np.minimum(places(image, score), self.per_image, dtype=np.int32)
        which = np.flatnonzero(part["counts"])
        which = which[ordered(cell[which], score[which])]
        cell, image = cell[which], image[which]
        shape = shape[which]
        if self.gt.iou_type == "bbox":
            area = shape[:, 2] * shape[:, 3]
        else:
            area = mask_areas(shape, self.gt.sizes[image], "detections", place[which])
        if not (area > 0).all():
            some = np.flatnonzero(area > 0)
            which, cell, image, area, shape = (column[some] for column in (which, cell, image, area, shape))
            part["counts"] = np.zeros(len(score), dtype=bool)
            part["counts"][which] = True

        first, found = self.cells.first[cell], self.cells.found[cell]
        iou = overlaps(first, found, self.cells.objects, shape, self.gt.shape, self.gt.sizes[image])
        hit, vain = self._outcomes(first, found, iou, cell)
        outside = ~_within_areas(area) | self.cells.partial[cell, None]  # ignored if unmatched
        vain |= np.where(outside, BITS.sum(dtype=np.uint16) & ~(hit | vain), 0).astype(np.uint16)
        as_they_came = np.argsort(which)
        counted = image, hit, vain
        return part | {name: column[as_they_came] for name, column in zip(COUNTED, counted, strict=True)}

    def _keep(self, part: dict[str, np.ndarray]) -> None:
        n = len(part["score"])
        self._added += n
        self._held += n
        self._parts.append(part)
        if self._held > 2 * self._kept + self._room:
            self._prune()

    def share(self) -> dict[str, np.ndarray]:
        """What was matched so far, for the `merge` of another process."""
        self._prune()
        return self._parts[0]

    def merge(self, share: dict[str, np.ndarray]) -> None:
        """Takes in the `share` of a matcher of the same annotations and protocols, which had other images.

        Both must have been told each detection's place among those of all: see `add`. The outcome is then
        that of one matcher, to the byte.
        """
        self._keep(share)

    def wanted(self, category_id: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Which of an image's detections some protocol may take, (N,); the others need not be added."""
        label = positions(category_id, self.gt.category_ids, "category", "detections")
        return self.is_best(score) | (score >= self.threshold[label])

    def is_best(self, score: np.ndarray) -> np.ndarray:
        """Which of an image's detections are within its cap, (N,)."""
        return places(np.zeros(len(score), dtype=np.int64), score) < self.per_image

    def needs_shape(self, image_id: int, category_id: np.ndarray) -> np.ndarray:
        """Which detections of an image count there, (N,); of the others box or mask are not looked at."""
        image = positions(np.array([image_id]), self.gt.image_ids, "image", "detections")
        label = positions(category_id, self.gt.category_ids, "category", "detections")
        return self.cells.find(np.repeat(image, len(label)), label) >= 0

    def matches(self) -> Matches:
        """All that was added, of which a detection beyond every cap is left out."""
        part = self._prune()
        counts = part["counts"]
        part = {name: column if name in COUNTED else column[counts] for name, column in part.items()}
        order = lexsort(part["image"])  # of equal scores the lower image, then the earlier place
        order = order[ordered(part["label"][order], part["score"][order])]
        by_class = np.argsort(self.gt.label[self.cells.objects], kind="stable")
        objects = self.cells.objects[by_class]
        return Matches(
            image_ids=self.gt.image_ids,
            category_ids=self.gt.category_ids,
            frequency=self.gt.frequency,
            object_image=self.gt.image[objects].astype(np.int32),
            object_class=self.gt.label[objects].astype(np.int32),
            object_counts=~self.object_ignored[by_class],
            caps=np.array([self.per_image, self.per_class], dtype=np.int64),
            **{name: part[name][order] for name in PER_DETECTION},
        )

    def _prune(self) -> dict[str, np.ndarray]:
        """Joins the parts, and drops what no protocol would take."""
        if not self._parts:
            shape = Masks.of([]) if self.gt.iou_type == "segm" else np.zeros((0, 4))
            self._add(Detections(np.zeros(0, int), np.zeros(0, int), np.zeros(0), shape), None)
        names = list(self._parts[0])
        columns = native.in_threads(lambda name: np.concatenate([part[name] for part in self._parts]), names)
        part = _in_order(dict(zip(names, columns, strict=True)))
        rank = places(part["label"], part["score"])
        part["class_rank"] = np.minimum(rank, min(self.per_class, len(rank)), dtype=np.int32)
        if self.per_class == 0:
            self.threshold[:] = np.inf
        last = rank == self.per_class - 1
        self.threshold[part["label"][last]] = part["score"][last]
        part = _only((part["image_rank"] < self.per_image) | (rank < self.per_class), part)
        self._parts = [{name: part[name] for name in names}]
        self._held = self._kept = len(part["score"])
        return part

    def _outcomes(self, first, found, iou, cell) -> tuple[np.ndarray, np.ndarray]:
        """Bits of the thresholds at which each finds an object that counts, and one that does not, (N, A)."""
        hit, void = (np.zeros((len(cell), len(AREAS)), dtype=np.uint16) for _ in range(2))
        if native.core:
            ignored = np.ascontiguousarray(self.object_ignored).view(np.uint8)
            shape = len(AREAS), len(LEAST_IOU)
            native.core("match", len(cell), first, found, iou, ignored, *shape, LEAST_IOU, hit, void)
            return hit, void
        pair_det, pair_object = ranges(first, found)
        near = np.flatnonzero(iou >= LEAST_IOU[0])[::-1]  # of equals the last object comes first
        pairs = pair_det[near], pair_object[near], iou[near]
        for a in range(len(AREAS)):
            ignored = self.object_ignored[:, a]
            d, took = greedy(*pairs, ignored, cell)
            hit[d, a] = ((took >= 0) & ~ignored[took]) @ BITS
            void[d, a] = ((took >= 0) & ignored[took]) @ BITS
        return hit, void


def _in_order(part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By the place that decides between equal scores."""
    if (part["place"][1:] > part["place"][:-1]).all():
        return part
    order, counted = (
        np.argsort(places, kind="stable") for places in (part["place"], part["place"][part["counts"]])
    )
    return {name: column[counted if name in COUNTED else order] for name, column in part.items()}


def _only(keep: np.ndarray, part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Some of the detections, (N,) bool."""
    if keep.all():
        return part
    counted = keep[part["counts"]]
    return {name: column[counted if name in COUNTED else keep] for name, column in part.items()}


def greedy(
    det: np.ndarray,
    obj: np.ndarray,
    iou: np.ndarray,
    ignored: np.ndarray,
    cell: np.ndarray,
    least: np.ndarray = LEAST_IOU,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives each detection in turn, best first, the best free object of its cell.

    All cells at once: the best detection of each, then the second best of each, and so on.

    Args:
        det, obj, iou: (P,) pairs with an IoU that reaches the lowest threshold; of equals the first is best.
        ignored: (G,) whether an object does not count; it is taken only if no other will do.
        cell: (N,) of the detections; in each, they are sorted from best to worst.
        least: (T,) IoU thresholds.

    Returns:
        The detections in any pair, (C,), and which object each took at each threshold, (C, T), -1 for none.
    """
    candidates, det = np.unique(det, return_inverse=True)
    took = np.full((len(candidates), len(least)), -1)
    turn = places(cell[candidates])
    order = lexsort(-iou, ignored[obj], det, turn[det])
    det, obj, fits = det[order], obj[order], iou[order, None] >= least
    free = np.ones((len(ignored), len(least)), dtype=bool)
    bounds = np.searchsorted(turn[det], np.arange(turn.max(initial=-1) + 2))
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        mine, objects = det[start:stop], obj[start:stop]
        n = stop - start
        usable = np.where(fits[start:stop] & free[objects], np.arange(n)[:, None], n)
        firsts = np.flatnonzero(np.diff(mine, prepend=-1))
        best = np.minimum.reduceat(usable, firsts, axis=0)  # of each detection, at each threshold
        which, t = np.nonzero(best < n)
        best = best[which, t]
        free[objects[best], t] = False
        took[mine[best], t] = objects[best]
    return candidates, took


def _within_areas(area: np.ndarray) -> np.ndarray:
    least, most = np.array(list(AREAS.values())).T
    return (area[:, None] >= least) & (area[:, None] <= most)
