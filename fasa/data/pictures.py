"""Image files of others: where they are, whether they are what is annotated, and what stands for them."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fasa.data.lvis import HOST, read_file, refuse_outside
from fasa.errors import UserError

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # that mmcv reads too
TURNED = (5, 6, 7, 8)  # EXIF's orientations that swap width and height
ORIENTATION = 0x0112


class Picture(NamedTuple):
    """An image file, and what tells that it is still the same one.

    Args:
        name: below the folder of images.
        bytes: of the file.
        mtime: nanoseconds.
    """

    name: str
    bytes: int
    mtime: int


def locate(images: Sequence[Any], root: Path, folder: str, where: str | Path) -> dict[int, Picture]:
    """Find the files of annotated images, and check by their headers that they are of the annotated size.

    A file is looked for by the path in ``file_name``, then by that in ``coco_url``. Links in the folder are
    followed: they are their owner's.

    Args:
        images: with `id`, `file_name`, `coco_url`, `width` and `height`.
        root: what the pictures' names start from.
        folder: below `root`, where the images' names start from.
        where: the annotation file, in messages.

    Returns:
        The file of each image, by its id.

    Raises:
        UserError: an image that is missing, no regular file, no image, or of another size; a name that leads
            out of its folder, or that two images have.
    """
    found: dict[int, Picture] = {}
    seen: dict[str, int] = {}
    for place, image in enumerate(
        tqdm(images, desc=f"images of {where}", unit="", mininterval=1, disable=None)
    ):
        entry = f"{where}: images[{place}]"
        url = image.coco_url.replace(HOST, "")
        names = [name for name in (image.file_name, url) if name and "://" not in name]
        if not names:
            raise UserError(f"{entry}: names no file, neither in file_name nor in coco_url")
        for name in names:
            refuse_outside(entry, name)
        names = [os.path.normpath(os.path.join(folder, name)) for name in names]
        for name in names:
            try:
                state = os.stat(root / name)
            except (OSError, ValueError):
                continue
            break
        else:
            raise UserError(f"{entry}: {root / names[0]} is missing")
        if seen.setdefault(name, place) != place:
            raise UserError(f"{entry}: {name} is that of images[{seen[name]}] too")
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"{entry}: {root / name} is no regular file")
        size = header(root / name)
        if size != (image.width, image.height):
            raise UserError(
                f"{entry}: {root / name} has {size[0]} x {size[1]} pixels, the annotations say "
                f"{image.width} x {image.height}"
            )
        found[image.id] = Picture(name, state.st_size, state.st_mtime_ns)
    return found


def header(path: Path) -> tuple[int, int]:
    """Return width and height of an image as mmcv loads it, turned as its EXIF says; pixels are not read.

    Raises:
        UserError: no image, or of a format that mmcv does not read.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            turned = picture.getexif().get(ORIENTATION) in TURNED
            return picture.size[::-1] if turned else picture.size
    except UnidentifiedImageError:
        raise UserError(f"{path}: is no image of {', '.join(FORMATS)}, or cut off") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image ({' '.join(str(error).split())})") from None


def decode_error(path: Path) -> str | None:
    """Read all of an image; return one line if it is cut off or broken."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path}: cannot be read as an image ({' '.join(str(error).split())})"
    return None


def write_manifest(path: Path, pictures: Iterable[Picture]) -> None:
    """Write a line an image: name, bytes, time in nanoseconds, parted by tabs."""
    lines = sorted({f"{one.name}\t{one.bytes}\t{one.mtime}\n" for one in pictures})
    path.write_text("".join(lines), encoding="utf-8")


def read_manifest(path: Path) -> list[Picture]:
    """Read what `write_manifest` wrote.

    Raises:
        UserError: it is something else.
    """
    try:
        rows = (line.split("\t") for line in read_file(path).decode().split("\n")[:-1])
        return [Picture(name, int(size), int(mtime)) for name, size, mtime in rows]
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); prepare the data anew") from None
