"""Interrupted training goes on as if it had not been interrupted."""

import json
import zlib
from pathlib import Path

import msgspec
import numpy as np
import torch

from fasa.classification.job import Row, Schedule
from fasa.data.images import LongTailed
from fasa.errors import UserError
from fasa.files import replacing

LAST = "last.pth"


def identity(data: LongTailed, schedule: Schedule, row: Row, **others: int | bool) -> str:
    """All that the bits of a run depend on, as one line; images and labels through a checksum."""
    arrays = [np.ascontiguousarray(array) for split in (data.train, data.adapt, data.test) for array in split]
    sums = [zlib.crc32(array) for array in arrays]
    parts = dict(data=sums, schedule=msgspec.to_builtins(schedule), row=msgspec.to_builtins(row), **others)
    return json.dumps(parts, sort_keys=True)


def save(path: Path, state: dict) -> None:
    """Whenever the process dies, the file is whole."""
    with replacing(path) as file:
        torch.save(state, file)


def load(path: Path, run: str) -> dict | None:
    """What `save` wrote, on the CPU; None: there is nothing yet.

    Args:
        run: what the state's own `run` must be, from `identity`.

    Raises:
        UserError: it is another's.
    """
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["run"] != run:
        raise UserError(f"{path} is of a run with other data or settings: delete it, or name another folder")
    return state
