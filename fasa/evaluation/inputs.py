"""LVIS annotations and results as arrays, checked.

I images, K classes, G objects, N detections. A *cell* is one class in one image, numbered image * K + class.
"""

import json
import os
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from pycocotools import mask as mask_utils

from fasa.errors import UserError
from fasa.evaluation.overlap import run_sums

SHAPE_FIELD = {"segm": "segmentation", "bbox": "bbox"}


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


class _Image(msgspec.Struct, gc=False):
    id: int
    height: int
    width: int
    neg_category_ids: list[int]
    not_exhaustive_category_ids: list[int]


class _Category(msgspec.Struct, gc=False):
    id: int
    frequency: str


class _Object(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
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
    image_id: int
    category_id: int
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


def read_ground_truth(source: dict | str | os.PathLike | GroundTruth, iou_type: str) -> GroundTruth:
    """Reads LVIS v1 annotations, a dict or a path, without their objects of no area.

    Raises:
        UserError: an unreadable file, a missing or wrong field, an unknown id; names the entry.
    """
    if iou_type not in SHAPE_FIELD:
        raise UserError(f"iou_type {iou_type!r} is unknown; choose one of {', '.join(SHAPE_FIELD)}")
    if isinstance(source, GroundTruth):
        if source.iou_type != iou_type:
            raise UserError(f"{source.name} was read for {source.iou_type!r}; read it for {iou_type!r}")
        return source
    name, gt = _read(source, "ground truth", ANNOTATIONS[iou_type])

    images = sorted(gt.images, key=lambda image: image.id)
    categories = sorted(gt.categories, key=lambda category: category.id)
    image_ids = _ids(images, "id", f"{name}: images")
    category_ids = _ids(categories, "id", f"{name}: categories")
    for what, ids in (("image", image_ids), ("category", category_ids)):
        if len(twice := ids[1:][ids[1:] == ids[:-1]]):
            raise UserError(f"{name}: {what} id {twice[0]} is there twice")

    def cells(field: str) -> np.ndarray:
        """The cells that a list of each image names."""
        lists = [getattr(image, field) for image in images]
        where = f"{name}: {field}"
        label = positions(_whole(chain(*lists), where), category_ids, "category", where)
        return np.unique(
            np.repeat(np.arange(len(images)), [len(one) for one in lists]) * len(categories) + label
        )

    sizes = np.array([[image.height, image.width] for image in images], dtype=np.int64).reshape(-1, 2)
    objects = gt.annotations
    area = _column(objects, "area", np.float64)
    if not np.isfinite(area).all():
        raise UserError(f"{name}: annotations[{np.flatnonzero(~np.isfinite(area))[0]}] has no finite area")
    image = _ids(objects, "image_id", f"{name}: annotations")
    image = positions(image, image_ids, "image", f"{name}: annotations")
    label = _ids(objects, "category_id", f"{name}: annotations")
    label = positions(label, category_ids, "category", f"{name}: annotations")
    order = np.argsort(image, kind="stable")
    order = order[area[order] > 0]
    if iou_type == "bbox":
        shape = np.array([objects[g].bbox for g in order], dtype=np.float64).reshape(-1, 4)
        _check_boxes(shape, f"{name}: annotations", order)
    else:
        shape = _object_rles([objects[g].segmentation for g in order], image[order], sizes, image_ids, name)
    return GroundTruth(
        name=name,
        iou_type=iou_type,
        image_ids=image_ids,
        sizes=sizes,
        category_ids=category_ids,
        frequency=np.array([category.frequency for category in categories], dtype="U1"),
        listed=np.array([category.id for category in gt.categories], dtype=np.int64),
        absent=cells("neg_category_ids"),
        not_exhaustive=cells("not_exhaustive_category_ids"),
        image=image[order],
        label=label[order],
        area=area[order],
        ignore=np.array([bool(objects[g].ignore) for g in order], dtype=bool),
        shape=shape,
    )


def _object_rles(
    shapes: list, image: np.ndarray, sizes: np.ndarray, image_ids: np.ndarray, name: str
) -> list[dict]:
    """Compresses the polygons and RLEs of objects, given also the image of each (G,)."""
    where, size_of, rles, coded = f"{name}: annotations", sizes.tolist(), [], []
    for g, (shape, i) in enumerate(zip(shapes, image.tolist(), strict=True)):
        if isinstance(shape, _Rle):
            coded.append(g)
            rles.append({"size": size_of[i], "counts": compressed(shape, size_of[i], where)})
            continue
        try:
            parts = mask_utils.frPyObjects(shape, *size_of[i])
        except Exception as error:  # pycocotools raises bare ones
            what = f"{name}: an object of image {image_ids[i]}"
            raise UserError(f"{what}: segmentation is neither RLE nor polygons ({error})") from error
        rles.append(parts[0] if len(parts) == 1 else mask_utils.merge(parts))
    counts, i = [rles[g]["counts"] for g in coded], image[coded]
    mask_areas(counts, sizes[i], image_ids[i], where)  # refuses what polygons cannot be: cut short
    return rles


def read_detections(source: list | str | os.PathLike | Detections, gt: GroundTruth) -> Detections:
    """Reads LVIS results, a list or a path.

    Raises:
        UserError: an unreadable file, or a missing or wrong field, an id that `gt` does not know, a score
            or box that is not finite, a mask of another size than its image; names the entry.
    """
    if isinstance(source, Detections):
        name, dt = "detections", source
        _check_scores(dt.score, name)
    else:
        name, rows = _read(source, "detections", RESULTS[gt.iou_type])
        score = _column(rows, "score", np.float64)
        _check_scores(score, name)
        shape = map(attrgetter(SHAPE_FIELD[gt.iou_type]), rows)
        if gt.iou_type == "bbox":
            shape = np.fromiter(chain.from_iterable(shape), np.float64, 4 * len(rows)).reshape(-1, 4)
        dt = Detections(_ids(rows, "image_id", name), _ids(rows, "category_id", name), score, shape)
    image = positions(dt.image_id, gt.image_ids, "image", name)
    positions(dt.category_id, gt.category_ids, "category", name)
    if gt.iou_type == "bbox":
        dt = dt._replace(shape=np.asarray(dt.shape, dtype=np.float64).reshape(-1, 4))
        _check_boxes(dt.shape, name, range(len(dt.shape)))
    elif not isinstance(source, Detections):
        sizes = [tuple(size) for size in gt.sizes.tolist()]
        dt = dt._replace(
            shape=[
                rle.counts.encode()
                if rle.size == sizes[i] and isinstance(rle.counts, str)  # as nearly all are
                else compressed(rle, list(sizes[i]), f"{name}: entry {n}")
                for n, (rle, i) in enumerate(zip(dt.shape, image.tolist(), strict=True))
            ]
        )
    return dt


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


def compressed(rle: _Rle, size: list[int], where: str) -> bytes:
    """The "counts" of a run-length encoding of any kind as pycocotools takes them."""
    if list(rle.size) != size:  # pycocotools would quietly call the IoU -1
        raise UserError(
            f"{where}: segmentation is of size {list(rle.size)}, the image of {size} (height, width)"
        )
    if isinstance(rle.counts, str):
        return rle.counts.encode()
    if min(rle.counts, default=0) < 0 or sum(rle.counts) != size[0] * size[1]:
        raise UserError(f"{where}: the runs of segmentation do not fill an image of {size}")
    return mask_utils.frPyObjects({"size": size, "counts": rle.counts}, *size)["counts"]


def mask_areas(
    counts: list[bytes], sizes: np.ndarray, image_ids: np.ndarray, name: str = "detections"
) -> np.ndarray:
    """Areas of compressed RLEs in pixels, (N,) float64, given the size (N, 2) and id (N,) of their images.

    Refuses RLEs that were cut short: pycocotools would never return from an IoU with one.
    """
    total, area = run_sums(counts)
    if len(wrong := np.flatnonzero(total != sizes.prod(axis=1))):
        where = f"{name}: a mask in image {image_ids[wrong[0]]}"
        raise UserError(f"{where} does not fill its size, {sizes[wrong[0]].tolist()}; was its RLE cut short?")
    return area.astype(np.float64)


def _column(rows: list, field: str, dtype: type) -> np.ndarray:
    return np.fromiter(map(attrgetter(field), rows), dtype=dtype, count=len(rows))


def _ids(rows: list, field: str, where: str) -> np.ndarray:
    return _whole(map(attrgetter(field), rows), where)


def _whole(values: Iterable[int], where: str) -> np.ndarray:
    try:
        return np.fromiter(values, dtype=np.int64)
    except OverflowError as error:
        raise UserError(f"{where}: an id does not fit into 64 bits") from error


def _check_scores(score: np.ndarray, name: str) -> None:
    if len(wrong := np.flatnonzero(~np.isfinite(score))):
        raise UserError(f"{name}: entry {wrong[0]} has score {score[wrong[0]]}; did the training diverge?")


def _check_boxes(boxes: np.ndarray, name: str, entries) -> None:
    if len(wrong := np.flatnonzero(~np.isfinite(boxes))):
        at = wrong[0] // 4
        raise UserError(
            f"{name}: entry {entries[at]} has bbox {boxes[at].tolist()}: x, y, w, h must be finite"
        )


def _read(source: Any, name: str, kind: type) -> tuple[str, Any]:
    """Returns (what to call it in a message, its content as `kind`), given a path or the content itself."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            text = Path(source).read_bytes()
        except OSError as error:
            raise UserError(f"{name}: {error.strerror}") from error
        try:
            return name, msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError as error:
            raise UserError(f"{name}: {_told(error)}") from error
        except msgspec.DecodeError as strict:
            if b"NaN" not in text and b"Infinity" not in text:
                raise UserError(f"{name}: not JSON, or cut short ({strict}); write it again") from strict
            try:  # Python also reads NaN and Infinity: then the checks on values can say where they stand
                source = json.loads(text)
            except ValueError as error:
                raise UserError(f"{name}: not JSON, or cut short ({error}); write it again") from strict
    try:
        return name, msgspec.convert(source, type=kind)
    except msgspec.ValidationError:
        pass
    try:
        return name, msgspec.convert(_plain(source), type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{name}: {_told(error)}") from error


def _plain(content: Any) -> Any:
    """What models and pycocotools make holds bytes and NumPy's numbers: as JSON would have them."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, bytes):
        return content.decode("ascii", "replace")
    return content.tolist() if isinstance(content, np.ndarray | np.generic) else content


def _told(error: msgspec.ValidationError) -> str:
    """msgspec's "Expected `int`, got `str` - at `$[3].image_id`", the place first as in other messages."""
    what, _, where = str(error).partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    return f"{where}: {what}" if where else what
