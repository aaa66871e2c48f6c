"""LVIS annotations and results as arrays, checked.

I images, K classes. A *cell* is one class in one image, numbered image * K + class.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from fasa.errors import UserError

SHAPE_FIELD = {"segm": "segmentation", "bbox": "bbox"}


class GroundTruth(NamedTuple):
    """Annotations; images and classes in ascending order of id, objects as in the file."""

    name: str  # in messages
    image_ids: list[int]
    sizes: list[list[int]]  # [height, width] of each image
    category_ids: list[int]
    frequency: list[str]  # of each class: "r", "c" or "f"
    absent: np.ndarray  # cells that hold no object
    not_exhaustive: np.ndarray  # cells that may hold more objects than annotated
    image: np.ndarray  # of each object
    label: np.ndarray  # its class
    cell: np.ndarray
    shape: list  # its box or mask, as the file has it


class Detections(NamedTuple):
    """Results, in the order of the file."""

    name: str  # in messages
    image: np.ndarray
    label: np.ndarray
    cell: np.ndarray
    score: np.ndarray  # float64
    shape: list  # box or mask, as the file has it


def read_ground_truth(source, iou_type: str) -> GroundTruth:
    """Reads LVIS v1 annotations, a dict or a path, without their objects of no area."""
    name, gt = _read(source, "ground truth", dict)
    missing = {"images", "categories", "annotations"} - gt.keys()
    if missing:
        raise UserError(f"{name}: no {sorted(missing)[0]!r}; LVIS v1 annotations are needed")

    fields = ("id", "height", "width", "neg_category_ids", "not_exhaustive_category_ids")
    images = sorted(zip(*_columns(gt["images"], fields, f"{name}: images"), strict=True))
    categories = sorted(
        zip(*_columns(gt["categories"], ("id", "frequency"), f"{name}: categories"), strict=True)
    )
    image_ids, category_ids = [row[0] for row in images], [row[0] for row in categories]
    n_classes = len(category_ids)

    def listed(column: int) -> np.ndarray:
        """The cells that the images' lists name."""
        image = [i for i, row in enumerate(images) for _ in row[column]]
        label = [category_id for row in images for category_id in row[column]]
        return np.array(image, dtype=np.int64) * n_classes + _positions(label, category_ids, "category", name)

    fields = ("image_id", "category_id", "area", SHAPE_FIELD[iou_type])
    objects = zip(*_columns(gt["annotations"], fields, f"{name}: annotations"), strict=True)
    objects = [row for row in objects if row[2] > 0]
    image = _positions([row[0] for row in objects], image_ids, "image", name)
    label = _positions([row[1] for row in objects], category_ids, "category", name)
    return GroundTruth(
        name=name,
        image_ids=image_ids,
        sizes=[[height, width] for _, height, width, _, _ in images],
        category_ids=category_ids,
        frequency=[frequency for _, frequency in categories],
        absent=listed(3),
        not_exhaustive=listed(4),
        image=image,
        label=label,
        cell=image * n_classes + label,
        shape=[row[3] for row in objects],
    )


def read_detections(source, gt: GroundTruth, iou_type: str) -> Detections:
    """Reads LVIS results, a list or a path."""
    name, rows = _read(source, "detections", list)
    fields = ("image_id", "category_id", "score", SHAPE_FIELD[iou_type])
    image, label, score, shape = _columns(rows, fields, name)
    image = _positions(image, gt.image_ids, "image", name)
    label = _positions(label, gt.category_ids, "category", name)
    score = np.array(score, dtype=np.float64)
    if not np.isfinite(score).all():
        bad = np.flatnonzero(~np.isfinite(score))[0]
        raise UserError(f"{name}: entry {bad} has score {score[bad]}; did the training diverge?")
    return Detections(name, image, label, image * len(gt.category_ids) + label, score, shape)


def comparable(shape, size: list[int], iou_type: str, where: str):
    """What pycocotools compares: a box as four floats, polygons or any kind of RLE as a compressed RLE."""
    if iou_type == "bbox":
        box = [float(side) for side in shape]
        if len(box) != 4 or not np.isfinite(box).all():
            raise UserError(f"{where}: bbox {box} is not four finite numbers (x, y, w, h)")
        return box
    if isinstance(shape, list):
        return mask_utils.merge(mask_utils.frPyObjects(shape, *size))
    found = list(shape["size"]) if isinstance(shape, dict) and shape.keys() >= {"size", "counts"} else None
    if found != size:  # pycocotools would quietly call the IoU -1
        raise UserError(
            f"{where}: segmentation is no RLE of the image's {size} (height, width), but of {found}"
        )
    return mask_utils.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape


def area(comparable_shape) -> float:
    """The area of a box or mask in pixels."""
    if isinstance(comparable_shape, list):
        return comparable_shape[2] * comparable_shape[3]
    return mask_utils.area(comparable_shape)  # one a call: pycocotools 2.0.11 fails on more than 255


def _read(source, name: str, kind: type):
    """Returns (what to call it in a message, its content), given a path or the content itself."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        try:
            source = json.loads(Path(source).read_bytes())
        except OSError as error:
            raise UserError(f"{name}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{name}: not JSON, or cut short ({error}); write it again") from error
    if not isinstance(source, kind):
        raise UserError(f"{name}: a {kind.__name__} is needed, not a {type(source).__name__}")
    return name, source


def _columns(records: list[dict], fields: tuple[str, ...], where: str) -> list[list]:
    try:
        return [[record[field] for record in records] for field in fields]
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: every entry needs the fields {', '.join(fields)}") from error


def _positions(ids: list, known: list, what: str, where: str) -> np.ndarray:
    position_of = {id: position for position, id in enumerate(known)}
    unknown = sorted(set(ids) - position_of.keys(), key=str)
    if unknown:
        raise UserError(
            f"{where}: {what} id {unknown[0]} is not among the annotations' {what} ids; is it another split?"
        )
    return np.array([position_of[id] for id in ids], dtype=np.int64)
