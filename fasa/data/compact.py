"""Annotations in a form that training reads image by image, and that the ranks of a host share.

An annotation file as large as LVIS v1's takes 40 s and gigabytes to parse, in each process that needs it.
`write` parses it once, when data are prepared, and leaves beside ``train.json``

train.lines   a line an image, JSON: what mmdet makes of it, with masks as they stand in the file
train.npz     columns: where each line ends, the classes of each image's objects, the categories

`open_compact` reads the columns and maps the lines into memory: that costs no time, and all processes have
the same pages.

I images, G objects, K classes.
"""

import mmap
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from fasa.data import source
from fasa.data.lvis import MEND, Annotation, File, Image, read_file, refuse_missing, relative
from fasa.errors import UserError
from fasa.files import UNREADABLE, readable_errors


class Instance(Struct, gc=False):
    """An object, as mmdet has it."""

    ignore_flag: int
    bbox: tuple[float, float, float, float]  # x1, y1, x2, y2
    bbox_label: int
    mask: Raw | UnsetType


class Line(Struct, gc=False):
    """An image, as mmdet has it but for the folder that it lies in."""

    file_name: str
    img_id: int
    height: int
    width: int
    instances: list[Instance]


class Name(Struct, gc=False):
    """Of an image, the file alone."""

    file_name: str


class Compact(NamedTuple):
    """What `open_compact` returns."""

    lines: mmap.mmap
    ends: np.ndarray  # (I,) int64, of each line
    least_side: np.ndarray  # (I,) pixels
    annotated: np.ndarray  # (I,) bool, whether the file has an annotation of the image
    labels: np.ndarray  # (G,) int64, of all objects, by image
    label_ends: np.ndarray  # (I,) int64, where those of each image end
    category_ids: np.ndarray  # (K,) in the order of the file, which labels count
    names: np.ndarray  # (K,) of the classes
    frequency: np.ndarray  # (K,) "r", "c" or "f"

    def image(self, i: int) -> dict[str, Any]:
        """A `Line` as plain data."""
        return msgspec.json.decode(self._line(i))

    def file_names(self) -> list[str]:
        """Of all images, I paths from the folder of images."""
        return [msgspec.json.decode(self._line(i), type=Name).file_name for i in range(len(self.ends))]

    def _line(self, i: int) -> bytes:
        return self.lines[self.ends[i - 1] if i else 0 : self.ends[i]]

    def labels_of(self, i: int) -> list[int]:
        """The class of each object of an image."""
        return self.labels[self.label_ends[i - 1] if i else 0 : self.label_ends[i]].tolist()


def write(path: Path) -> None:
    """Write the compact form of a prepared annotation file beside it."""
    data = read_file(path)
    file = msgspec.json.decode(data, type=File)
    label = {category.id: k for k, category in enumerate(file.categories)}
    of_image: dict[int, list[Annotation]] = {image.id: [] for image in file.images}
    for annotation in file.annotations:
        of_image[annotation.image_id].append(annotation)
    encoder, ends, labels, label_ends = msgspec.json.Encoder(), [], [], []
    with open(path.with_suffix(".lines"), "wb") as lines:
        for image in file.images:
            instances = [instance(one, label) for one in of_image[image.id] if takes_part(one, image)]
            name = relative(image.coco_url)
            line = Line(name, image.id, image.height, image.width, instances)
            lines.write(encoder.encode(line) + b"\n")
            ends.append(lines.tell())
            labels += [one.bbox_label for one in instances]
            label_ends.append(len(labels))
    with open(path.with_suffix(".npz"), "wb") as columns:
        np.savez(
            columns,
            ends=np.array(ends, np.int64),
            least_side=np.array([min(image.height, image.width) for image in file.images], np.int64),
            annotated=np.array([bool(of_image[image.id]) for image in file.images], bool),
            labels=np.array(labels, np.int64),
            label_ends=np.array(label_ends, np.int64),
            category_ids=np.array([category.id for category in file.categories], np.int64),
            names=np.array([category.name for category in file.categories], str),
            frequency=np.array([category.frequency for category in file.categories], str),
            source=np.array([len(data), zlib.crc32(data)], np.int64),
        )


def takes_part(annotation: Annotation, image: Image) -> bool:
    """Whether mmdet takes an annotation: a pixel wide and high at the least, and in its image."""
    x, y, w, h = annotation.bbox
    inside = min(x + w, image.width) > max(x, 0) and min(y + h, image.height) > max(y, 0)
    return inside and annotation.area > 0 and w >= 1 and h >= 1


def instance(annotation: Annotation, label: dict[int, int]) -> Instance:
    """An annotation as mmdet has it."""
    x, y, w, h = annotation.bbox
    mask = annotation.segmentation
    if mask is not UNSET and bytes(mask) in (b"null", b"[]"):
        mask = UNSET
    return Instance(0, (x, y, x + w, y + h), label[annotation.category_id], mask)


def open_compact(path: str | Path, thorough: bool = True) -> Compact:
    """Open the compact form of an annotation file.

    Args:
        path: of the annotation file, ``train.json``.
        thorough: whether to look if that file was edited since, which takes a second a gigabyte.

    Raises:
        UserError: it is not there, is cut off, or was made of another annotation file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; {MEND}")
    try:
        with readable_errors(path):
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as columns:
                length, checksum = columns["source"].tolist()
                found = {name: columns[name] for name in Compact._fields if name != "lines"}
            with open(path.with_suffix(".lines"), "rb") as file:
                lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except UNREADABLE as error:
        raise UserError(f"{path}: its compact form cannot be read ({error}); {MEND}") from None
    if path.stat().st_size != length or len(lines) != found["ends"][-1:].sum():
        raise UserError(f"{path}: was edited or cut off since it was prepared; {MEND}")
    if thorough and zlib.crc32(read_file(path)) != checksum:
        raise UserError(f"{path}: was edited since it was prepared; {MEND}")
    return Compact(lines, **found)


def annotations(data: str | Path, part: str, thorough: bool = True) -> Compact:
    """The annotations of a part of a prepared data set.

    Args:
        data: the folder.
        part: of `fasa.data.prepared.PARTS`.
        thorough: whether to look if they are those that were prepared, and all images there; of several ranks
            one does.

    Raises:
        UserError: the data set was prepared without that part, or it is damaged.
    """
    place = source(data)
    if part not in place.parts:
        raise UserError(
            f"{data}: has no part {part}, only {', '.join(place.parts)}; data.{part} makes one "
            f"(data.images.{part} of kind glyphs)"
        )
    found = open_compact(Path(data, "annotations", f"{part}.json"), thorough)
    if thorough:
        refuse_missing(Path(place.images, name) for name in found.file_names())
    return found
