"""LVIS annotations and results as arrays, checked.

I images, K classes, G objects, N detections. A *cell* is one class in one image, numbered image * K + class.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from fasa.errors import UserError
from fasa.evaluation import native
from fasa.evaluation.masks import Masks, Outlines, check_sizes, compressed, drawn, mask_areas
from fasa.evaluation.reading import Text, called, read, read_objects, read_results
from fasa.files import UNREADABLE, replacing

SHAPE_FIELD = {"segm": "segmentation", "bbox": "bbox"}
FREQUENCIES = "rcf"
RARE, COMMON = 10, 100  # LVIS: a class of at most so many training images is rare, or common
COLUMNS = ("image_id", "category_id", "score")
ZIP = b"PK"
FARTHEST = 1e9  # pixels: no box reaches so far


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
    shape: np.ndarray | Masks  # (G, 4) boxes x, y, w, h; or G masks
    names: list[str]  # K names of the classes; "" where the file has none

    @property
    def cell(self) -> np.ndarray:
        """The cell of each object, (G,)."""
        return self.image * len(self.category_ids) + self.label


class Detections(NamedTuple):
    """Detections by the ids of the annotations, in any order; of equal scores the first counts as better."""

    image_id: np.ndarray  # (N,) int64
    category_id: np.ndarray  # (N,) int64
    score: np.ndarray  # (N,) float64, finite
    shape: np.ndarray | Masks | list  # (N, 4) float64 boxes x, y, w, h; or N masks, or the "counts" of each


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
    name: str = ""


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


class _CocoBoxObject(_BoxObject, gc=False, kw_only=True):
    iscrowd: int | float | bool | None = 0


class _CocoMaskObject(_MaskObject, gc=False, kw_only=True):
    iscrowd: int | float | bool | None = 0


class _Detection(msgspec.Struct, gc=False):
    image_id: Whole
    category_id: Whole
    score: float


class _Box(_Detection, gc=False, kw_only=True):
    bbox: tuple[float, float, float, float]


class _Mask(_Detection, gc=False, kw_only=True):
    segmentation: _Rle | list  # which has its own line


class _ExhaustiveImage(msgspec.Struct, gc=False):
    id: Whole
    height: Whole
    width: Whole


class _ExhaustiveCategory(msgspec.Struct, gc=False):
    id: Whole
    name: str = ""
    frequency: str | None = None
    image_count: Whole | None = None


class _BoxFile(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_BoxObject]


class _MaskFile(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_MaskObject]


class _CocoBoxFile(msgspec.Struct, gc=False):
    images: list[_ExhaustiveImage]
    categories: list[_ExhaustiveCategory]
    annotations: list[_CocoBoxObject]


class _CocoMaskFile(msgspec.Struct, gc=False):
    images: list[_ExhaustiveImage]
    categories: list[_ExhaustiveCategory]
    annotations: list[_CocoMaskObject]


ANNOTATIONS = {"bbox": _BoxFile, "segm": _MaskFile}
EXHAUSTIVE = {"bbox": _CocoBoxFile, "segm": _CocoMaskFile}
RESULTS = {"bbox": list[_Box], "segm": list[_Mask]}


def check_kind(iou_type: Any) -> None:
    """Refuse what is neither "segm" nor "bbox"."""
    if not isinstance(iou_type, str) or iou_type not in SHAPE_FIELD:
        raise UserError(f"iou_type {iou_type!r} is unknown; choose one of {', '.join(SHAPE_FIELD)}")


def read_ground_truth(
    source: dict | str | os.PathLike | GroundTruth, iou_type: str, exhaustive: bool = False
) -> GroundTruth:
    """Reads LVIS v1 annotations, a dict or a path, without their objects of no area.

    Args:
        exhaustive: that every image was searched for every class, as in COCO. Then the fields that LVIS alone
            has are not asked for: every class counts in every image. A class without `frequency` is rare if
            it is in at most 10 images, common in at most 100, else frequent: by `image_count`, else as
            counted in this file. Crowds are objects to ignore (which COCO lets be found many times).

    Raises:
        UserError: an unreadable file, a missing or wrong field, an unknown id; names the entry.
    """
    check_kind(iou_type)
    if isinstance(source, GroundTruth):
        if source.iou_type != iou_type:
            raise UserError(f"{source.name} was read for {source.iou_type!r}; read it for {iou_type!r}")
        return source
    name, columns = "ground truth", None
    if isinstance(source, str | os.PathLike):
        name = called(source)
        source = Text(source, name)
        if native.core and not exhaustive and (columns := read_objects(source, iou_type == "segm")):
            rest, *columns = columns
    kind = (EXHAUSTIVE if exhaustive else ANNOTATIONS)[iou_type]
    try:
        name, gt = read(rest if columns else source, name, kind)
    except UserError:
        if columns:
            read(source, name, kind)  # of the whole text, in which the place that is told is another
        raise

    listed = _column(gt.categories, "id", f"{name}: categories")
    image_ids = _column(gt.images, "id", f"{name}: images")
    where = f"{name}: images"
    sizes = np.stack([_column(gt.images, field, where) for field in ("height", "width")], axis=1)
    check_sizes(sizes, where)
    frequency = (
        _derived_frequency(gt, f"{name}: categories")
        if exhaustive
        else [one.frequency for one in gt.categories]
    )
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

    where = f"{name}: annotations"
    if columns is None:
        columns = _object_columns(gt.annotations, iou_type, where, exhaustive)
    image_id, category_id, area, ignore, shape = columns
    if not np.isfinite(area).all():
        raise UserError(f"{where}[{np.flatnonzero(~np.isfinite(area))[0]}] has no finite area")
    image = positions(image_id, image_ids, "image", where)
    label = positions(category_id, category_ids, "category", where)
    order = np.argsort(image, kind="stable")
    order = order[area[order] > 0]
    if iou_type == "bbox":
        shape = shape[order]
        _check_boxes(shape, where, order)
    elif isinstance(shape, Outlines):
        some = area > 0
        masks = drawn(shape.only(some), sizes[image[some]], where, np.flatnonzero(some))
        shape = masks[(np.cumsum(some) - 1)[order]]
    else:
        shape = _object_masks(shape, sizes[image], where, order)
    return GroundTruth(
        name=name,
        iou_type=iou_type,
        image_ids=image_ids,
        sizes=sizes,
        category_ids=category_ids,
        frequency=np.array([frequency[k] for k in categories.tolist()], dtype="U1"),
        listed=listed,
        absent=np.arange(len(images) * len(categories)) if exhaustive else cells("neg_category_ids"),
        not_exhaustive=np.zeros(0, np.int64) if exhaustive else cells("not_exhaustive_category_ids"),
        image=image[order],
        label=label[order],
        area=area[order],
        ignore=ignore[order],
        shape=shape,
        names=[gt.categories[k].name for k in categories.tolist()],
    )


def _derived_frequency(gt: Any, where: str) -> list[str]:
    """The group of each class, as `read_ground_truth` says."""
    shown = Counter(category for _, category in {(one.image_id, one.category_id) for one in gt.annotations})
    counts = [shown[one.id] if one.image_count is None else one.image_count for one in gt.categories]
    if len(wrong := np.flatnonzero(_whole(counts, where, "image_count") < 0)):
        raise UserError(f"{where}: entry {wrong[0]} has image_count {counts[wrong[0]]}; it must be 0 or more")
    derived = ["r" if n <= RARE else "c" if n <= COMMON else "f" for n in counts]
    given = (category.frequency for category in gt.categories)
    return [d if f is None else f for f, d in zip(given, derived, strict=True)]


def _object_columns(objects: list, iou_type: str, where: str, exhaustive: bool) -> tuple:
    """Image and category ids, areas, whether to ignore, and boxes (N, 4) or a list of segmentations."""
    image, category = (_column(objects, field, where) for field in ("image_id", "category_id"))
    area = np.fromiter(map(attrgetter("area"), objects), np.float64, len(objects))
    ignore = (bool(one.ignore or exhaustive and one.iscrowd) for one in objects)
    ignore = np.fromiter(ignore, bool, len(objects))
    shape = list(map(attrgetter(SHAPE_FIELD[iou_type]), objects))
    if iou_type == "bbox":
        shape = np.array(shape, dtype=np.float64).reshape(-1, 4)
    return image, category, area, ignore, shape


def _object_masks(shapes: list, sizes: np.ndarray, where: str, order: np.ndarray) -> Masks:
    """Masks of those objects that `order` names, from polygons and RLEs, given the sizes of all (N, 2)."""
    coded = np.array([isinstance(shapes[g], _Rle) for g in order.tolist()], dtype=bool)
    rles, outlined = order[coded], order[~coded]
    counts = [_counts(shapes[g], sizes[g].tolist(), f"{where}: entry {g}") for g in rles.tolist()]
    masks = Masks.of(counts)
    mask_areas(masks, sizes[rles], where, rles)
    outlines = Outlines.of([shapes[g] for g in outlined.tolist()], where, outlined)
    place = np.empty(len(order), np.int64)
    place[np.flatnonzero(coded)], place[np.flatnonzero(~coded)] = (
        np.arange(len(rles)),
        np.arange(len(outlined)),
    )
    place[~coded] += len(rles)
    return Masks.joined([masks, drawn(outlines, sizes[outlined], where, outlined)])[place]


def _counts(rle: _Rle, size: list[int], where: str) -> bytes:
    return compressed(rle.size, rle.counts, size, where)


def read_detections(source: list | str | os.PathLike | Detections, gt: GroundTruth) -> Detections:
    """Reads LVIS results: a list, or a path of JSON or of what `save_detections` wrote.

    Raises:
        UserError: an unreadable file, or a missing or wrong field, an id that `gt` does not know, a score
            or box that is not finite, a mask of another size than its image, or cut short; names the entry.
    """
    if isinstance(source, Detections):
        return checked(source, gt)
    name = "detections"
    if isinstance(source, str | os.PathLike):
        name, path = called(source), source
        source = Text(source, name)
        if source.read(0, len(ZIP)) == ZIP:
            return _load_detections(path, gt, name)
        if native.core and (dt := read_results(source, gt.iou_type == "segm")):
            *dt, sizes = dt
            dt = checked(Detections(*dt), gt, name)
            return _with_whole_masks(dt, gt, name, sizes)
    name, rows = read(source, name, RESULTS[gt.iou_type])
    score = np.fromiter(map(attrgetter("score"), rows), np.float64, len(rows))
    shape = list(map(attrgetter(SHAPE_FIELD[gt.iou_type]), rows))
    if gt.iou_type == "bbox":
        shape = np.fromiter(chain.from_iterable(shape), np.float64, 4 * len(rows)).reshape(-1, 4)
    dt = Detections(_column(rows, "image_id", name), _column(rows, "category_id", name), score, shape)
    if gt.iou_type == "bbox":
        return checked(dt, gt, name)
    for n, rle in enumerate(shape):
        if isinstance(rle, list):
            raise UserError(
                f"{name}: entry {n}: segmentation is a list, like polygons of annotations; results hold "
                "masks as RLE: encode them with pycocotools.mask"
            )
    image = positions(dt.image_id, gt.image_ids, "image", name)
    sizes = [tuple(size) for size in gt.sizes.tolist()]
    counts = [
        rle.counts.encode("utf-8", "surrogatepass")
        if rle.size == sizes[i] and isinstance(rle.counts, str)  # as nearly all are
        else _counts(rle, list(sizes[i]), f"{name}: entry {n}")
        for n, (rle, i) in enumerate(zip(dt.shape, image.tolist(), strict=True))
    ]
    masks = Masks.of(counts)
    mask_areas(masks, gt.sizes[image], name, range(len(masks)))
    return checked(dt._replace(shape=masks), gt, name)


def save_detections(
    detections: Detections, path: str | os.PathLike, masks: Masks | list | None = None, compress: bool = False
) -> None:
    """Writes detections as columns, an ``.npz`` that `read_detections` takes.

    Columns of boxes are read in a sixth of JSON's time and are 0.4 of its size, of masks 0.7 and 0.7.
    Compressed, both are 0.2 of its size; boxes take half of its time, masks one and a half.

    Args:
        path: what is there is replaced when all is written.
        masks: of the same detections, beside their boxes: (N,).
        compress: whether to.

    Raises:
        UserError: `path` cannot be written.

    Example:
        >>> gt = read_ground_truth("lvis_v1_val.json", "segm")  # doctest: +SKIP
        >>> save_detections(read_detections("results.json", gt), "results.npz")  # doctest: +SKIP
    """
    columns = dict(zip(COLUMNS, map(np.asarray, detections[:3]), strict=True))
    for shape in [detections.shape] + [masks] * (masks is not None):
        if isinstance(shape, np.ndarray) and shape.ndim == 2:
            columns["bbox"] = shape
        else:
            whole = Masks.of(shape.counts() if isinstance(shape, Masks) else shape)
            columns |= dict(counts=whole.data, length=whole.length)
    with replacing(path) as file:
        (np.savez_compressed if compress else np.savez)(file, **columns)


def _load_detections(path: str | os.PathLike, gt: GroundTruth, name: str) -> Detections:
    """What `save_detections` wrote."""
    try:
        with np.load(os.fsdecode(path), allow_pickle=False) as arrays:
            if gt.iou_type == "segm" and "bbox" in arrays and "counts" not in arrays:
                raise UserError(f'{name}: has boxes alone; ask for them: --iou bbox (iou_type="bbox")')
            if gt.iou_type == "bbox" and "counts" in arrays and "bbox" not in arrays:
                raise UserError(f'{name}: has masks alone; ask for them: --iou segm (iou_type="segm")')
            ids = [arrays[column] for column in COLUMNS]
            shape = arrays["bbox"] if gt.iou_type == "bbox" else [arrays["counts"], arrays["length"]]
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{name}: cannot read columns of {gt.iou_type} ({error}); write it again") from error
    if gt.iou_type == "segm":
        counts, length = shape
        whole = counts.dtype == np.uint8 and length.dtype == np.int64 and counts.ndim == length.ndim == 1
        if not whole or ((length < 0) | (length > len(counts))).any() or length.sum() != len(counts):
            raise UserError(f"{name}: the columns counts and length do not fit each other; write it again")
        shape = Masks(counts, np.cumsum(length) - length, length)
    return _with_whole_masks(checked(Detections(*ids, shape), gt, name), gt, name)


def _with_whole_masks(
    dt: Detections, gt: GroundTruth, name: str, sizes: np.ndarray | None = None
) -> Detections:
    """Refuse masks cut short, or of another size than their image where they tell it, (N, 2)."""
    if gt.iou_type == "segm":
        wanted = gt.sizes[positions(dt.image_id, gt.image_ids, "image", name)]
        for n in np.flatnonzero((sizes != wanted).any(axis=1))[:1] if sizes is not None else ():
            compressed(sizes[n].tolist(), "", wanted[n].tolist(), f"{name}: entry {n}")
        mask_areas(dt.shape, wanted, name, range(len(wanted)))
    return dt


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
        if isinstance(shape, list | np.ndarray) and not set(map(type, shape)) - {bytes}:
            shape = Masks.of(shape)
        if not isinstance(shape, Masks):
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
    wanted = f"{name}: shape must be boxes, an array (N, 4) of x, y, w, h"
    try:
        boxes = np.asarray(values)
    except Exception as error:  # as above
        raise UserError(wanted) from error
    if not boxes.size:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(f"{wanted}; it is {boxes.shape}")
    if boxes.dtype.kind not in "fiu":
        raise UserError(f"{wanted}; it is an array of {boxes.dtype}")
    return boxes.astype(np.float64, copy=False)


def positions(ids: np.ndarray, known: np.ndarray, what: str, where: str) -> np.ndarray:
    """Where each of `ids` stands in `known`, which is sorted: (N,) int64."""
    place, wrong = np.zeros(len(ids), dtype=np.int64), np.arange(len(ids))
    if len(known):
        low, high = int(known[0]), int(known[-1])
        if high - low < 2 * len(ids):  # a table of all numbers between is faster than a search
            table = np.full(high - low + 1, -1, dtype=np.int64)
            table[known - low] = np.arange(len(known))
            if native.core:
                ids = np.ascontiguousarray(ids, np.int64)
                wrong = range(
                    native.core("positions", len(ids), ids, low, len(table), table, place), len(ids)
                )
            else:
                place = table[np.clip(ids, low, high) - low]
                wrong = np.flatnonzero(known[place] != ids)
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
    if not len(boxes) or (boxes.min() >= -FARTHEST and boxes.max() <= FARTHEST):
        return
    if len(wrong := np.flatnonzero(~(np.abs(boxes) <= FARTHEST))):
        at = wrong[0] // 4
        raise UserError(
            f"{name}: entry {entries[at]} has bbox {boxes[at].tolist()}: x, y, w, h must be finite "
            f"and within {FARTHEST:.0e} pixels"
        )
