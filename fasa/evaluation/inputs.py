"""LVIS annotations and results as arrays, checked.

I images, K classes, G objects, N detections. A *cell* is one class in one image, numbered image * K + class.
"""

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from fasa.errors import UserError
from fasa.evaluation.masks import check_polygons, check_sizes, compressed, drawn, mask_areas
from fasa.evaluation.reading import read

SHAPE_FIELD = {"segm": "segmentation", "bbox": "bbox"}
FREQUENCIES = "rcf"
RARE, COMMON = 10, 100  # LVIS: a class of at most so many training images is rare, or common
FARTHEST = 1e9  # pixels: no box reaches so far
AT_ONCE = 10_000  # polygons checked at a time


class GroundTruth(NamedTuple):
    """Annotations; images and classes ascend by id, objects by image, then as in the file."""

    name: str  # in messages
    iou_type: str  # "segm" or "bbox"
    image_ids: np.ndarray  # (I,)
    sizes: np.ndarray  # (I, 2) height, width in pixels
    category_ids: np.ndarray  # (K,)
    frequency: np.ndarray  # (K,) "r", "c" or "f"
    listed: np.ndarray  # (K,) category ids in the order of the file, which mmdet's labels count
    absent: np.ndarray  # sorted cells that are known to hold no object
    not_exhaustive: np.ndarray  # sorted cells that may hold more objects than annotated
    image: np.ndarray  # (G,) of each object
    label: np.ndarray  # (G,) its class
    area: np.ndarray  # (G,) in pixels, > 0
    ignore: (
        np.ndarray
    )  # (G,) whether finding it or not is neither right nor wrong; not `iscrowd`, as in lvis-api
    shape: np.ndarray | list  # (G, 4) boxes x, y, w, h; or G compressed RLEs as pycocotools takes them

    @property
    def cell(self) -> np.ndarray:
        """The cell of each object, (G,)."""
        return self.image * len(self.category_ids) + self.label


class Detections(NamedTuple):
    """Detections by the ids of the annotations, in any order; of equal scores the first counts as better."""

    image_id: np.ndarray  # (N,) int64
    category_id: np.ndarray  # (N,) int64
    score: np.ndarray  # (N,) float64, finite
    shape: np.ndarray | list  # (N, 4) float64 boxes x, y, w, h; or N compressed RLEs, the "counts" of each


Whole = int | float  # 12, or 12.0 as pandas writes it


class _Image(msgspec.Struct, gc=False):
    id: Whole
    height: Whole
    width: Whole
    neg_category_ids: list[Whole]
    not_exhaustive_category_ids: list[Whole]


class _Category(msgspec.Struct, gc=False):
    id: Whole
    frequency: str


class _Object(msgspec.Struct, gc=False):
    image_id: Whole
    category_id: Whole
    area: float
    ignore: int | bool = 0


class _BoxObject(_Object, gc=False, kw_only=True):
    bbox: tuple[float, float, float, float]


class _Rle(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


class _MaskObject(_Object, gc=False, kw_only=True):
    segmentation: _Rle | list[list[float]]


class _Detection(msgspec.Struct, gc=False):
    image_id: Whole
    category_id: Whole
    score: float


class _Box(_Detection, gc=False, kw_only=True):
    bbox: tuple[float, float, float, float]


class _Mask(_Detection, gc=False, kw_only=True):
    segmentation: _Rle


class _BoxFile(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_BoxObject]


class _MaskFile(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_MaskObject]


ANNOTATIONS = {"bbox": _BoxFile, "segm": _MaskFile}
RESULTS = {"bbox": list[_Box], "segm": list[_Mask]}


def check_kind(iou_type: Any) -> None:
    """Refuse what is neither "segm" nor "bbox"."""
    if not isinstance(iou_type, str) or iou_type not in SHAPE_FIELD:
        raise UserError(f"iou_type {iou_type!r} is unknown; choose one of {', '.join(SHAPE_FIELD)}")


def read_ground_truth(source: dict | str | os.PathLike | GroundTruth, iou_type: str) -> GroundTruth:
    """Reads LVIS v1 annotations, a dict or a path, without their objects of no area.

    Raises:
        UserError: an unreadable file, a missing or wrong field, an unknown id; names the entry.
    """
    check_kind(iou_type)
    if isinstance(source, GroundTruth):
        if source.iou_type != iou_type:
            raise UserError(f"{source.name} was read for {source.iou_type!r}; read it for {iou_type!r}")
        return source
    name, gt = read(source, "ground truth", ANNOTATIONS[iou_type])

    listed = _column(gt.categories, "id", f"{name}: categories")
    image_ids = _column(gt.images, "id", f"{name}: images")
    where = f"{name}: images"
    sizes = np.stack([_column(gt.images, field, where) for field in ("height", "width")], axis=1)
    check_sizes(sizes, where)
    frequency = [category.frequency for category in gt.categories]
    for k, group in enumerate(frequency):
        if group not in tuple(FREQUENCIES):
            raise UserError(
                f"{name}: categories[{k}].frequency is {group!r}; it must be r, c or f"
                " (rare, common, frequent)"
            )
    images, categories = np.argsort(image_ids, kind="stable"), np.argsort(listed, kind="stable")
    image_ids, category_ids, sizes = image_ids[images], listed[categories], sizes[images]
    for what, ids in (("image", image_ids), ("category", category_ids)):
        if len(twice := ids[1:][ids[1:] == ids[:-1]]):
            raise UserError(f"{name}: {what} id {twice[0]} is there twice")

    def cells(field: str) -> np.ndarray:
        """The cells that a list of each image names."""
        lists = [getattr(gt.images[i], field) for i in images.tolist()]
        where = f"{name}: {field}"
        label = positions(_whole(list(chain(*lists)), where), category_ids, "category", where)
        return np.unique(
            np.repeat(np.arange(len(images)), [len(one) for one in lists]) * len(categories) + label
        )

    objects, where = gt.annotations, f"{name}: annotations"
    area = np.fromiter(map(attrgetter("area"), objects), np.float64, len(objects))
    if not np.isfinite(area).all():
        raise UserError(f"{where}[{np.flatnonzero(~np.isfinite(area))[0]}] has no finite area")
    image = positions(_column(objects, "image_id", where), image_ids, "image", where)
    label = positions(_column(objects, "category_id", where), category_ids, "category", where)
    order = np.argsort(image, kind="stable")
    order = order[area[order] > 0]
    if iou_type == "bbox":
        shape = np.array([objects[g].bbox for g in order.tolist()], dtype=np.float64).reshape(-1, 4)
        _check_boxes(shape, where, order)
    else:
        shape = _object_rles(
            [objects[g].segmentation for g in order.tolist()], sizes[image[order]], where, order
        )
    return GroundTruth(
        name=name,
        iou_type=iou_type,
        image_ids=image_ids,
        sizes=sizes,
        category_ids=category_ids,
        frequency=np.array([frequency[k] for k in categories.tolist()], dtype="U1"),
        listed=listed,
        absent=cells("neg_category_ids"),
        not_exhaustive=cells("not_exhaustive_category_ids"),
        image=image[order],
        label=label[order],
        area=area[order],
        ignore=np.array([bool(objects[g].ignore) for g in order.tolist()], dtype=bool),
        shape=shape,
    )


def _object_rles(shapes: list, sizes: np.ndarray, where: str, entries: np.ndarray) -> list[dict]:
    """Compresses the polygons and RLEs of objects, given the sizes of their images (G, 2)."""
    coded = np.fromiter((isinstance(shape, _Rle) for shape in shapes), bool, len(shapes))
    outlined = np.flatnonzero(~coded)
    for start in range(0, len(outlined), AT_ONCE):
        part = outlined[start : start + AT_ONCE]
        check_polygons([shapes[g] for g in part.tolist()], sizes[part], where, entries[part])
    counts = [
        _counts(shape, size, f"{where}: entry {g}") if isinstance(shape, _Rle) else drawn(shape, size)
        for shape, size, g in zip(shapes, sizes.tolist(), entries.tolist(), strict=True)
    ]
    coded = np.flatnonzero(coded)
    mask_areas([counts[g] for g in coded.tolist()], sizes[coded], where, entries[coded])
    return [dict(size=size, counts=one) for size, one in zip(sizes.tolist(), counts, strict=True)]


def _counts(rle: _Rle, size: list[int], where: str) -> bytes:
    return compressed(rle.size, rle.counts, size, where)


def read_detections(source: list | str | os.PathLike | Detections, gt: GroundTruth) -> Detections:
    """Reads LVIS results, a list or a path.

    Raises:
        UserError: an unreadable file, or a missing or wrong field, an id that `gt` does not know, a score
            or box that is not finite, a mask of another size than its image, or cut short; names the entry.
    """
    if isinstance(source, Detections):
        return checked(source, gt)
    name, rows = read(source, "detections", RESULTS[gt.iou_type])
    score = np.fromiter(map(attrgetter("score"), rows), np.float64, len(rows))
    shape = map(attrgetter(SHAPE_FIELD[gt.iou_type]), rows)
    if gt.iou_type == "bbox":
        shape = np.fromiter(chain.from_iterable(shape), np.float64, 4 * len(rows)).reshape(-1, 4)
    dt = Detections(_column(rows, "image_id", name), _column(rows, "category_id", name), score, shape)
    if gt.iou_type == "bbox":
        return checked(dt, gt, name)
    image = positions(dt.image_id, gt.image_ids, "image", name)
    sizes = [tuple(size) for size in gt.sizes.tolist()]
    counts = [
        rle.counts.encode("utf-8", "surrogatepass")
        if rle.size == sizes[i] and isinstance(rle.counts, str)  # as nearly all are
        else _counts(rle, list(sizes[i]), f"{name}: entry {n}")
        for n, (rle, i) in enumerate(zip(dt.shape, image.tolist(), strict=True))
    ]
    mask_areas(counts, gt.sizes[image], name, range(len(counts)))
    return checked(dt._replace(shape=counts), gt, name)


def checked(dt: Detections, gt: GroundTruth, name: str = "detections") -> Detections:
    """Detections with columns of the types and lengths that `Detections` names.

    Masks are not looked into here: of those that do not count a model may leave out all but an empty one.

    Raises:
        UserError: a column of another type or length, or values as `read_detections` refuses them.
    """
    ids = []
    for what in ("image", "category"):
        column = _array(getattr(dt, f"{what}_id"), f"{name}: {what}_id")
        if column.dtype.kind not in "iu" and len(column):
            raise UserError(f"{name}: {what}_id is an array of {column.dtype}, not of whole numbers")
        ids.append(column.astype(np.int64, copy=False))
    score = _array(dt.score, f"{name}: score")
    if score.dtype.kind not in "fiu":
        raise UserError(f"{name}: score is an array of {score.dtype}, not of numbers")
    score = score.astype(np.float64, copy=False)
    if len(wrong := np.flatnonzero(~np.isfinite(score))):
        raise UserError(f"{name}: entry {wrong[0]} has score {score[wrong[0]]}; did the training diverge?")
    if gt.iou_type == "bbox":
        shape = _boxes(dt.shape, name)
        _check_boxes(shape, name, range(len(shape)))
    else:
        shape = dt.shape
        if not isinstance(shape, list | np.ndarray) or set(map(type, shape)) - {bytes}:
            raise UserError(f"{name}: shape must be the compressed RLEs of the masks, a list of bytes")
    if len({len(column) for column in (*ids, score, shape)}) > 1:
        raise UserError(f"{name}: image_id, category_id, score and shape differ in length")
    positions(ids[0], gt.image_ids, "image", name)
    positions(ids[1], gt.category_ids, "category", name)
    return Detections(*ids, score, shape)


def _array(values: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # of whatever kind the value's own conversion raises
        raise UserError(f"{where} is no array ({error})") from error
    if array.ndim != 1:
        raise UserError(f"{where} is of shape {array.shape}, not (N,)")
    return array


def _boxes(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64).reshape(-1, 4)
    except Exception as error:  # as above
        raise UserError(f"{name}: shape must be boxes, an array (N, 4) of x, y, w, h") from error


def positions(ids: np.ndarray, known: np.ndarray, what: str, where: str) -> np.ndarray:
    """Where each of `ids` stands in `known`, which is sorted."""
    if not len(known):
        place, wrong = np.zeros(0, dtype=np.int64), np.arange(len(ids))
    else:
        low, high = int(known[0]), int(known[-1])
        if high - low < 2 * len(ids):  # a table of all numbers between is faster than a search
            table = np.zeros(high - low + 1, dtype=np.int64)
            table[known - low] = np.arange(len(known))
            place = table[np.clip(ids, low, high) - low]
        else:
            place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        wrong = np.flatnonzero(known[place] != ids)
    if len(wrong):
        raise UserError(
            f"{where}: entry {wrong[0]} has {what} id {ids[wrong[0]]}, which is not among the annotations' "
            f"{what} ids; is it another split?"
        )
    return place


def _column(rows: list, field: str, where: str) -> np.ndarray:
    return _whole(list(map(attrgetter(field), rows)), where, field)


def _whole(values: Sequence[int | float], where: str, field: str = "id") -> np.ndarray:
    """Whole numbers as int64, also those written with a decimal point."""
    try:
        if set(map(type, values)) <= {int}:
            return np.array(values, dtype=np.int64)
        numbers = np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise UserError(f"{where}: an id does not fit into 64 bits") from error
    if len(wrong := np.flatnonzero((numbers != np.rint(numbers)) | (np.abs(numbers) >= 2**53))):
        raise UserError(f"{where}: entry {wrong[0]} has {field} {values[wrong[0]]!r}, not a whole number")
    return numbers.astype(np.int64)


def _check_boxes(boxes: np.ndarray, name: str, entries: Iterable[int]) -> None:
    if len(wrong := np.flatnonzero(~(np.abs(boxes) <= FARTHEST))):
        at = wrong[0] // 4
        raise UserError(
            f"{name}: entry {entries[at]} has bbox {boxes[at].tolist()}: x, y, w, h must be finite "
            f"and within {FARTHEST:.0e} pixels"
        )
