"""Images in a folder a class, ``train/CLASS/*.png`` and ``test/CLASS/*.png``, on the disk or in a zip file.

A zip file is read where it lies: nothing of it is unpacked to the disk.
"""

import io
import os
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
from msgspec import Meta
from PIL import Image, ImageOps, UnidentifiedImageError

from fasa.data.images import LongTailed, Ratio, Split, divide, exponential_counts
from fasa.errors import UserError
from fasa.files import readable_errors
from fasa.sections import Count, Section, Text

FORMATS = ("PNG", "JPEG")
SUFFIXES = Image.registered_extensions()  # with the format of each
LARGEST = 1 << 24  # bytes of an image file
WIDEST = 4096  # pixels of its sides
Files = dict[str, dict[str, list[str]]]  # part -> class -> names


class Settings(Section, tag_field="kind", tag="folder", kw_only=True):
    """Where the images are, and what is kept of them.

    Args:
        path: the folder or zip file that holds ``train`` and ``test``.
        ratio: of the most frequent class to the rarest, see `exponential_counts`: makes a tail of classes of
            about one size; None keeps the tail that the images have.
        adapt: at most so many images of a class in adapt. With a ratio they are of those that train leaves
            out, so the most frequent class has few or none; without, a fifth of a class at most leaves train,
            and a class of up to four images loses none.
        image_size: side to which images are scaled; None: all have one size.
        flip: whether a mirrored image is of the same class.
    """

    path: Text
    ratio: Ratio | None = None
    adapt: Count = 100
    image_size: Annotated[int, Meta(ge=8, le=1024)] | None = None
    flip: bool = True


def load(settings: Settings, seed: int) -> LongTailed:
    """Read the images, and divide train's with a seed, see `divide`.

    With a ratio, classes are in the order of their names, the first the most frequent, and n_max is the size
    of the smallest class. Without, they are in the order of their sizes, those of one size by name.

    Raises:
        UserError: no such folder, a class without images, an image that cannot be read, of another size, or
            no PNG or JPEG.
    """
    with _opened(settings.path) as (files, read):
        sizes = {name: len(found) for name, found in files["train"].items()}
        names = sorted(sizes, key=lambda name: (0 if settings.ratio else -sizes[name], name))
        available = np.array([sizes[name] for name in names])
        most = min(settings.adapt, int(available.max()))
        if settings.ratio:
            try:
                counts = exponential_counts(int(available.min()), len(names), settings.ratio)
            except ValueError as error:
                raise UserError(f"{settings.path}: {error}") from None
            left = np.minimum(available - counts, most)
        else:
            left = np.minimum(available // 5, most)
            counts = available - left
        paths, labels = _listed(files["train"], names)
        shape = _decode(settings, paths[0], read).shape

        def pick(chosen: np.ndarray, paths: list[str], labels: np.ndarray) -> Split:
            images = np.empty((len(chosen), *shape), np.uint8)
            for place, index in enumerate(chosen):
                image = _decode(settings, paths[index], read)
                if image.shape != shape:
                    raise UserError(
                        f"{settings.path}: {paths[index]} is of {image.shape[1]} x {image.shape[0]} pixels, "
                        f"{paths[0]} of {shape[1]} x {shape[0]}; set image_size to scale all to one size"
                    )
                images[place] = image
            return Split(images, labels[chosen])

        train, adapt = (pick(part, paths, labels) for part in divide(labels, np.stack([counts, left]), seed))
        paths_of_test, labels_of_test = _listed(files["test"], names)
        test = pick(np.arange(len(paths_of_test)), paths_of_test, labels_of_test)
    return LongTailed(train, adapt, test, names, flip=settings.flip)


def _listed(classes: dict[str, list[str]], names: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the paths of a part by class and name, and their labels."""
    paths = [path for name in names for path in sorted(classes[name])]
    return paths, np.repeat(np.arange(len(names)), [len(classes[name]) for name in names])


@contextmanager
def _opened(path: str) -> Iterator[tuple[Files, Callable[[str], bytes]]]:
    """Yield the images' names by part and class, and what reads one."""
    with readable_errors(path):
        if Path(path).is_dir():
            names = [str(name.relative_to(path)) for name in Path(path).glob("*/*/*")]
            yield _sorted(path, names), lambda name: _read(Path(path, name))
        elif not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: is neither a folder nor a zip file")
        else:
            try:
                with zipfile.ZipFile(path) as archive:
                    yield (
                        _sorted(path, dict.fromkeys(archive.namelist())),
                        lambda name: _member(path, archive, name),
                    )
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise UserError(f"{path}: is no zip file that can be read ({error})") from None


def _sorted(path: str, names: Iterable[str]) -> Files:
    """Sort the names of images by part and class; files that are none do not count."""
    files: Files = {"train": defaultdict(list), "test": defaultdict(list)}
    for name in names:
        parts = PurePosixPath(name).parts
        if (
            len(parts) == 3
            and parts[0] in files
            and not parts[1].startswith(".")  # .., or what editors leave
            and not parts[2].startswith(".")  # such as macOS's ._1.png
            and (kind := SUFFIXES.get(PurePosixPath(name).suffix.lower()))
        ):
            if kind not in FORMATS:
                raise UserError(f"{path}: {name} is no PNG or JPEG; convert it, or take it away")
            files[parts[0]][parts[1]].append(name)
    for part, classes in files.items():
        if len(classes) < 2:
            raise UserError(f"{path}: has no images {part}/CLASS/*.png of two classes or more")
    if differ := sorted(files["train"].keys() ^ files["test"].keys()):
        lacks = "test" if differ[0] in files["train"] else "train"
        raise UserError(f"{path}: {lacks}/{differ[0]} has no images ({len(differ)} classes in one part only)")
    return files


def _read(path: Path) -> bytes:
    """Return the bytes of a regular file of the size of an image."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode) or state.st_size > LARGEST:
        raise UserError(f"{path}: is no regular file of at most {LARGEST} bytes")
    return path.read_bytes()


def _member(path: str, archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes, unpacked in memory, never more than an image has."""
    if archive.getinfo(name).file_size > LARGEST:
        raise UserError(
            f"{path}: {name} claims {archive.getinfo(name).file_size} bytes; images have {LARGEST}"
        )
    try:
        with archive.open(name) as file:
            return file.read(LARGEST)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path}: {name} cannot be unpacked ({error})") from None


def _decode(settings: Settings, name: str, read: Callable[[str], bytes]) -> np.ndarray:
    """Return an image (H, W, 3) uint8."""
    data, side = read(name), settings.image_size
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if max(picture.size) > WIDEST:
                raise ValueError(f"it is {picture.width} x {picture.height} pixels large")
            picture = ImageOps.exif_transpose(picture)  # as it was held
            if picture.mode.startswith("I"):  # of 16 bits
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert("RGB")
            return np.asarray(picture.resize((side, side), Image.Resampling.BOX) if side else picture)
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, UnidentifiedImageError):
            reason = "it is no PNG or JPEG"
        raise UserError(f"{settings.path}: {name} cannot be read as an image ({reason})") from None
