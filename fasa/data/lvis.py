"""Annotation files in the format of LVIS v1: reading, counting, and checking that the images are there.

What is read was written by others: `decode` takes no field of another type, `check` no entry that contradicts
another, and no image leads out of its folder. One line names the entry.
"""

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fasa.errors import UserError
from fasa.files import readable_errors
from fasa.sections import Count, NonNegative

T = TypeVar("T")
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Pixels = Annotated[int, Meta(ge=1, le=65_535)]  # no JPEG is larger
Box = tuple[float, float, NonNegative, NonNegative]  # x, y, w, h
HOST = "http://images.cocodataset.org/"
MEND = "run: dvc repro -fs data@NAME"


class Image(Struct, gc=False, kw_only=True):
    id: Id
    file_name: str = ""
    coco_url: str  # relative to the folder of images, or behind `HOST`
    width: Pixels
    height: Pixels
    neg_category_ids: list[Id]  # classes known to be absent
    not_exhaustive_category_ids: list[Id]  # classes of which not all objects are annotated


class Annotation(Struct, gc=False, kw_only=True):
    id: Id
    image_id: Id
    category_id: Id
    bbox: Box
    area: NonNegative
    segmentation: Raw | UnsetType = UNSET  # as it stands in the file, see `shape`: most of a file is polygons


class Category(Struct, gc=False, kw_only=True):
    id: Id
    name: Annotated[str, Meta(min_length=1)]
    frequency: Literal["r", "c", "f"]
    image_count: Count
    instance_count: Count


class File(Struct, gc=False, kw_only=True):
    """A prepared annotation file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class Rle(Struct, gc=False):
    """A mask as lengths of runs down the columns, background first, or COCO's compressed form of them."""

    size: tuple[Pixels, Pixels]  # height, width
    counts: str | list[Count]


def decode(path: str | Path, kind: type[T]) -> T:
    """Read a JSON file as `kind`, anything msgspec knows.

    Raises:
        UserError: no such file, not JSON, or not of that kind; names the entry.
    """
    data = read_file(path)
    if data[:2] == b"\x1f\x8b":
        raise UserError(f"{path}: is packed by gzip; unpack it first")
    if data[:3] == b"\xef\xbb\xbf":
        raise UserError(
            f"{path}: begins with a byte order mark, which JSON has not; save it as UTF-8 without"
        )
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: {_told(error, data)[:300]}") from None  # it may quote what it found


def read_file(path: str | Path) -> bytes:
    """Return the bytes of a regular file: a pipe or a device could go on for ever.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    with readable_errors(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: is no regular file")
        return Path(path).read_bytes()


def _told(error: Exception, data: bytes) -> str:
    """What is wrong, the place first: "annotations[3].id: Expected `int`, got `str`"."""
    if isinstance(error, msgspec.ValidationError):
        what, _, place = str(error).partition(" - at `$")
        return f"{place.strip('.`')}: {what}" if place else what
    if (
        b"NaN" in data or b"Infinity" in data
    ):  # no JSON, but Python writes and reads them: it can tell the place
        try:
            return next(_not_finite(json.loads(data), ""))
        except (ValueError, RecursionError, StopIteration):
            pass
    return f"cut off or not JSON ({' '.join(str(error).split())})"


def _not_finite(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{place.strip('.')}: is {value}, not a finite number"
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _not_finite(part, f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}")


def check(path: str | Path, content: Any) -> None:
    """Refuse entries of a decoded annotation file that contradict each other.

    Args:
        path: in messages.
        content: with lists `images`, `annotations` and `categories`, such as a `File`.

    Raises:
        UserError: an id twice, or one that is not there; names the entry.
    """
    known = {}
    for section in ("images", "annotations", "categories"):
        ids = known[section] = [entry.id for entry in getattr(content, section)]
        refuse_double(path, section, "id", ids)
    if not content.categories:
        raise UserError(f"{path}: categories is empty")
    for section, field, target in (
        ("annotations", "image_id", "images"),
        ("annotations", "category_id", "categories"),
        ("images", "neg_category_ids", "categories"),
        ("images", "not_exhaustive_category_ids", "categories"),
    ):
        there = set(known[target])
        for place, entry in enumerate(getattr(content, section)):
            value = getattr(entry, field)
            for one in value if isinstance(value, list) else () if value is None else (value,):
                if one not in there:
                    raise UserError(f"{path}: {section}[{place}].{field}: {one} is not in {target}")


def refuse_double(path: str | Path, section: str, field: str, values: Sequence) -> None:
    """Refuse a list in which a value comes twice."""
    if len(set(values)) < len(values):
        first: dict = {}
        for place, value in enumerate(values):
            if first.setdefault(value, place) != place:
                raise UserError(
                    f"{path}: {section}[{place}].{field}: {value!r} is that of {section}[{first[value]}] too"
                )


def shape(annotation: Any, image: Any, least: int = 3) -> list[list[float]] | Rle | None:
    """Return the mask of an object, checked: polygons, RLE, or None if there is none.

    Args:
        annotation: with `segmentation`, an `Annotation`.
        image: with `width` and `height`.
        least: points of a polygon.

    Raises:
        ValueError: another type, half a point, a point farther from the image than its size, runs that do not
            fill it: pycocotools would crash on such masks, or never return.
    """
    if annotation.segmentation is UNSET or (raw := bytes(annotation.segmentation)) in (b"null", b"[]"):
        return None
    found = msgspec.json.decode(raw, type=list[list[float]] | Rle)
    if isinstance(found, Rle):
        if found.size != (image.height, image.width):
            raise ValueError(f"its size is {list(found.size)}, the image's [{image.height}, {image.width}]")
        runs = run_lengths(found.counts) if isinstance(found.counts, str) else found.counts
        if sum(runs) != image.height * image.width or min(runs) < 0:
            raise ValueError("its runs do not fill the image; was it cut off?")
        return found
    side = max(image.width, image.height)
    for ring in found:
        if len(ring) % 2 or len(ring) < 2 * least:
            raise ValueError(f"a polygon of {len(ring)} numbers; it takes an even number, from 6 on")
        if ring and not -side <= min(ring) <= max(ring) <= 2 * side:
            raise ValueError(
                f"a polygon reaches from {min(ring):g} to {max(ring):g} in an image of {side} pixels"
            )
    return found


def run_lengths(counts: str) -> list[int]:
    """Unpack COCO's compressed runs: 5 bits a character, lowest first, the sixth: the number goes on.

    From the fourth on a run is stored as the difference to the last but one.

    Raises:
        ValueError: what is none, or was cut off.
    """
    runs: list[int] = []
    number = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"its runs hold {character!r}, so it is no RLE")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) << (shift - 4)  # the highest bit is the sign
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("its runs end within a number; was it cut off?")
    return runs


def read(path: str | Path, *, train: bool = False) -> File:
    """Read a prepared annotation file, checked, categories in order of their ids.

    Masks are checked and stay as bytes, so this takes a quarter of the memory of `read_annotations`.

    Args:
        path: the JSON file.
        train: whether to learn from it, which takes instances of every category.

    Raises:
        UserError: a file that is missing, cut off or inconsistent; names the entry.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; {MEND}")
    try:
        file = decode(path, File)
        check(path, file)
        refuse_double(path, "categories", "name", [category.name for category in file.categories])
        images = {image.id: image for image in file.images}
        for place, image in enumerate(file.images):
            refuse_outside(f"{path}: images[{place}].coco_url", relative(image.coco_url))
        for place, annotation in enumerate(file.annotations):
            try:
                shape(annotation, images[annotation.image_id])
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: annotations[{place}].segmentation: {error}") from None
    except UserError as error:
        raise UserError(f"{error}; delete it and {MEND}") from None
    file.categories.sort(key=lambda category: category.id)
    learnt = {annotation.category_id for annotation in file.annotations}
    if train and (empty := [category.name for category in file.categories if category.id not in learnt]):
        raise UserError(
            f"{path}: no instances of {', '.join(empty[:5])} ({len(empty)} in all), so nothing to learn from"
        )
    return file


def read_annotations(path: str | Path, *, train: bool = False) -> dict:
    """Read a prepared annotation file as `read` does, all of it as plain data."""
    read(path, train=train)
    content = decode(path, dict)
    content["categories"].sort(key=lambda category: category["id"])
    return content


def instance_counts(annotations: dict) -> np.ndarray:
    """Return the number of instances of each category, (K,) int64, in order of category id."""
    ids = np.array(sorted(category["id"] for category in annotations["categories"]))
    labels = np.searchsorted(ids, np.array([a["category_id"] for a in annotations["annotations"]], np.int64))
    return np.bincount(labels, minlength=len(ids))


def frequencies(annotations: dict) -> list[str]:
    """Return each category's group in train, "r" (up to 10 images), "c" (up to 100) or "f", by id."""
    return [category["frequency"] for category in sorted(annotations["categories"], key=lambda c: c["id"])]


def relative(coco_url: str) -> str:
    """Return the path in a ``coco_url``, as mmdet reads it."""
    return coco_url.replace(HOST, "")


def image_path(root: str | Path, image: dict) -> Path:
    """Return where an image lies below the folder of images, see `relative`."""
    return Path(root, relative(image["coco_url"]))


def refuse_outside(where: str, name: str) -> None:
    """Refuse a name that leads out of the folder it is for. Links that lie in the folder are its owner's.

    Raises:
        UserError: an absolute path, one with "..", or none at all.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0][0] == "/" or ".." in parts or "://" in name or min(name) < " ":
        raise UserError(f"{where}: {name!r} does not name a file inside the folder of images")


def check_images(root: str | Path, annotations: dict | File) -> None:
    """Check that every annotated image is there, a regular file.

    Args:
        root: the folder of images.
        annotations: of `read` or `read_annotations`.

    Raises:
        UserError: images are missing; names the first.
    """
    if isinstance(annotations, File):
        paths = [Path(root, relative(image.coco_url)) for image in annotations.images]
    else:
        paths = [image_path(root, image) for image in annotations["images"]]
    refuse_missing(paths)


def refuse_missing(paths: Iterable[Path]) -> None:
    """Refuse images that are not there, or no regular files; names the first.

    Raises:
        UserError: there are some.
    """
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        reason = "is no regular file" if os.path.exists(missing[0]) else "missing"
        raise UserError(f"{missing[0]}: {reason}, with {len(missing) - 1} other images; {MEND}")
