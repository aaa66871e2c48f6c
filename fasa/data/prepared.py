"""The folder that every kind of detection data leaves, and how it is written whole or not at all.

annotations/PART.json   LVIS v1, categories and their counts those of train
annotations/PART.lines  and PART.npz: the same in a form that training reads, see `fasa.data.compact`
source.json             where the images are, see `fasa.data.Source`
images.tsv              where images lie elsewhere: name, bytes and time of each, in their place

The parts: train; adapt, which FASA adapts to; val, which is reported; and, where the settings ask for it,
tune, on which settings are chosen: neither on what is reported, nor on what FASA has adapted to.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fasa.data import Source, compact
from fasa.errors import UserError
from fasa.files import readable_errors

PARTS = ("train", "adapt", "val", "tune")  # a new one goes last: seeds are dealt in this order
MANIFEST = "images.tsv"
SOURCE = "source.json"
OWN = {*PARTS, "annotations", SOURCE, MANIFEST}


@contextmanager
def replacing_folder(out: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `out` that takes its place when the block ends, and is gone when it fails.

    Raises:
        UserError: `out` holds something else, which would be lost, or it cannot be written.
    """
    with readable_errors(out):
        out = Path(os.path.realpath(out))  # a link to a folder stays a link
        there = {path.name for path in out.iterdir()} if out.is_dir() else {None}
        if os.path.lexists(out) and there and not (SOURCE in there and there <= OWN):
            raise UserError(f"{out}: is not a folder of prepared data and would be lost; choose another one")
        scratch = out.with_name(f".{out.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            (scratch / "annotations").mkdir(parents=True)
            yield scratch
            for path in sorted(scratch.glob("annotations/*.json")):
                compact.write(path)
            shutil.rmtree(out, ignore_errors=True)
            os.replace(scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_source(folder: Path, source: Source) -> None:
    """Write ``source.json``."""
    text = msgspec.json.format(msgspec.json.encode(source), indent=2)
    (folder / SOURCE).write_bytes(text + b"\n")
