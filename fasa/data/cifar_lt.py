"""CIFAR-100-LT by the protocol of LDAM-DRW (Cao et al., 2019): n_i = int(500 * (1 / ratio) ** (i / 99)).

60,000 colour images of 32 x 32 pixels in 100 classes (Krizhevsky, 2009); of the 50,000 to train on, a long
tail is kept, 10,847 at ratio 100. The archive is "CIFAR-100 python version": pickles of Python 2. As pickles
can run any code, they are read by an `_Unpickler` that knows arrays of bytes and nothing else.
"""

import gzip
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fasa.data import fetching
from fasa.data.images import LongTailed, Ratio, Split, divide, exponential_counts
from fasa.errors import UserError
from fasa.sections import Positive, Section

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
HASH = "md5:eb9058c3a382ffc7106e4002c42a8d85"
SIZE = 169_001_437  # bytes
MOST = 250_000_000  # bytes of the archive unpacked, some 186 million
ARCHIVE = Path("data/cifar-100-python.tar.gz")
MEMBERS = {f"cifar-100-python/{part}": part for part in ("train", "test", "meta")}


class Settings(Section, tag_field="kind", tag="cifar100"):
    """Where the archive is, and what is kept of it.

    Args:
        archive: path of the archive if it lies elsewhere; by default it is `ARCHIVE`, see `fetch`.
        ratio: of the most frequent class to the rarest, see `exponential_counts`.
        adapt: at most so many images of a class in adapt; by default all that train leaves out.
    """

    archive: str | None = None
    ratio: Ratio = 100
    adapt: Positive = 500

    def __post_init__(self):
        exponential_counts(500, 100, self.ratio)


def fetch(settings: Settings) -> Path:
    """Return the archive, its sum checked: the one that `settings` name, or `ARCHIVE`, fetched if missing.

    Raises:
        UserError: an archive that cannot be fetched, or is not the original.
    """
    if settings.archive:
        return fetching.check_sum(settings.archive, HASH)
    return fetching.fetch(URL, ARCHIVE, HASH, SIZE)


def load(settings: Settings, seed: int) -> LongTailed:
    """Read CIFAR-100 with a long tail; seed 0 keeps the images that LDAM-DRW keeps, see `divide`.

    Train keeps n_i images of class i and adapt has those that it leaves out, 500 - n_i, so none of class 0:
    the most frequent is not measured. Test is the original's, 100 images of every class.

    Raises:
        UserError: an archive that is not there, or is not the original.
    """
    path = Path(settings.archive or ARCHIVE)
    if not settings.archive and not path.exists():
        raise UserError(f"{path}: is not there yet; run: dvc repro images@cifar100")
    full, test, names = read(fetching.check_sum(path, HASH))
    counts = exponential_counts(len(full.labels) / len(names), len(names), settings.ratio)
    left = np.minimum(np.bincount(full.labels, minlength=len(names)) - counts, settings.adapt)
    parts = divide(full.labels, np.stack([counts, left]), seed)
    train, adapt = (Split(full.images[part], full.labels[part]) for part in parts)
    return LongTailed(train, adapt, test, names, flip=True)


def read(path: str | Path) -> tuple[Split, Split, list[str]]:
    """Read train, test and the names of the classes from the archive; nothing is unpacked to disk.

    Raises:
        UserError: a file that is missing, cut off, not such an archive, or asks to run code.
    """
    contents = {}
    try:
        with gzip.open(path) as packed, tarfile.open(fileobj=_Bounded(packed, MOST), mode="r|") as archive:
            for member in archive:
                if member.isfile() and (part := MEMBERS.get(member.name)):
                    contents[part] = _unpickle(archive.extractfile(member).read(), f"{path}: {member.name}")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or _line(error)
        raise UserError(f"{path}: is no archive that can be read ({reason})") from None
    if missing := [name for name, part in MEMBERS.items() if part not in contents]:
        raise UserError(f"{path}: has no {', '.join(missing)}, so it is not CIFAR-100's python version")
    try:
        names = [name.decode() for name in contents["meta"][b"fine_label_names"]]
        train, test = (_split(contents[part], len(names)) for part in ("train", "test"))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its content is not that of CIFAR-100 ({error!r})") from None
    return train, test, names


class _Bounded:
    """A file that gives at most `most` bytes, then an error: what is small when packed can be endless."""

    def __init__(self, file: io.BufferedIOBase, most: int):
        self.file, self.left = file, most

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError("it unpacks to more than the original")
        return data


def _split(content: dict[bytes, Any], classes: int) -> Split:
    """Return images (N, 32, 32, 3) and labels; stored are rows (N, 3072), the red channel first."""
    rows, labels = content[b"data"].array, np.array(content[b"fine_labels"], np.int64)
    if labels.shape != (len(rows),) or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels are not one of {classes} classes for each of {len(rows)} images")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), labels)


def _unpickle(data: bytes, where: str) -> Any:
    try:
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # broken pickles raise nearly anything
        raise UserError(f"{where}: is not a pickle as in CIFAR-100 ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Array:
    """Stands in for numpy.ndarray: it takes uint8 only, and nothing of NumPy's own unpickling runs."""

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        if dtype.code not in ("u1", b"u1") or fortran:
            raise pickle.UnpicklingError(f"an array of {dtype.code!r}")
        self.array = np.frombuffer(data, np.uint8).reshape(shape)


class _Dtype:
    """Stands in for numpy.dtype: keeps its code, such as ``u1``."""

    def __init__(self, code, *_):
        self.code = code

    def __setstate__(self, state):
        pass  # byte order and alignment, which single bytes do not have


class _Unpickler(pickle.Unpickler):
    """Knows the names in a pickled array of bytes, written with NumPy 1 or 2, and no other."""

    known = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # bytes, as Python 3 writes them
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which was refused")
        return self.known[module, name]
