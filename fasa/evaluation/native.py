"""The compiled core, where the installation could build it: ``native.core``, else None.

Every caller has a NumPy twin that gives the same bytes, and is the oracle of the tests. ``FASA_CORE=off`` in
the environment takes the twins.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

INTERFACE = 2  # of core.cpp's functions; a core that was built from another version is none
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Core:
    """Functions of core.cpp, by their names there less ``fasa_``; other threads run meanwhile."""

    NO_MEMORY = -2

    def __init__(self, path: Path):
        self._library = ctypes.CDLL(str(path))
        self.path = path

    def __call__(self, name: str, *arguments) -> int:
        """Calls a function; arrays are passed by address and must be contiguous and of the type it takes."""
        function = self._library[f"fasa_{name}"]
        function.restype = ctypes.c_int64
        returned = function(*map(_argument, arguments))
        if returned == self.NO_MEMORY:
            raise MemoryError
        return returned


def _argument(value):
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    if value is None:
        return None
    return value if isinstance(value, bytes) else ctypes.c_int64(value)


def _find() -> Core | None:
    if os.environ.get("FASA_CORE") == "off":
        return None
    for suffix in EXTENSION_SUFFIXES:
        if (path := Path(__file__).with_name(f"_core{suffix}")).is_file():
            try:
                core = Core(path)
                return core if core("interface") == INTERFACE else None
            except (OSError, AttributeError):  # built for another machine, or before there was that number
                return None
    return None


core = _find()


def in_threads(work, parts: list) -> list:
    """What `work` makes of each part, in order, on as many cores as there are."""
    if len(parts) < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, parts))
