"""Small archives in the format of CIFAR-100's python version, for tests that cannot download the original."""

import io
import pickle
import struct
import tarfile

import numpy as np


class Python2(pickle._Pickler):
    """Writes str and bytes as Python 2 wrote its str: the original's form, which Python 3 never writes."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[bytes] = dispatch[str] = save_string


def python2(content):
    """Pickle as the original: by Python 2 with NumPy 1."""
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def python3(content):
    """Pickle by Python 3 with NumPy 2."""
    return pickle.dumps(content, protocol=2)


def contents(classes=4, per_class=10, test=2, seed=0):
    """Return the three dictionaries of an archive with random images."""
    rng = np.random.default_rng(seed)
    made = {
        "meta": {b"fine_label_names": [b"class_%d" % k for k in range(classes)], b"coarse_label_names": []}
    }
    for part, n in (("train", per_class), ("test", test)):
        labels = rng.permutation(np.repeat(np.arange(classes), n)).tolist()
        made[part] = {
            b"filenames": [b"image_%d.png" % i for i in range(len(labels))],
            b"batch_label": b"training batch 1 of 1",
            b"fine_labels": labels,
            b"coarse_labels": [0] * len(labels),
            b"data": rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
        }
    return made


def write(path, members):
    """Write members, name to bytes, into a .tar.gz at `path`."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_archive(path, dump=python2, **changes):
    """Write an archive, as `contents` makes it, to `path`; some of its parts may be given."""
    made = {part: dump(content) for part, content in (contents() | changes).items()}
    return write(path, {f"cifar-100-python/{part}": made[part] for part in ("train", "test", "meta")})
