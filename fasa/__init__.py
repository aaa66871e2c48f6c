"""FASA, feature augmentation and sampling adaptation for long-tailed recognition, and what it is compared to.

The algorithm is plain PyTorch; ``fasa.detection`` plugs it into mmdet. Every method is an `Augmenter`: FASA
itself, and a class of each file in ``fasa/baselines``, found by the file's name (``cam_mixing.py`` holds
`CAMMixing`).
"""

import importlib
import re
from functools import cache
from pathlib import Path

__version__ = "0.1.0"
HOME = dict(
    Augmenter="fasa.augmenter",
    ClassMoments="fasa.class_stats",
    FASA="fasa.algorithm",
    Virtual="fasa.augmenter",
    virtual_loss="fasa.augmenter",
)


@cache
def methods() -> dict[str, str]:
    """The names of all methods and their modules; read from the files, so that no method loads another."""
    found = dict(FASA=HOME["FASA"])
    for path in sorted(Path(__file__).with_name("baselines").glob("*.py")):
        for name in re.findall(r"^class (\w+)\((?!nn\.)", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name.lower() == path.stem.replace("_", ""):
                found[name] = f"fasa.baselines.{path.stem}"
    return found


def __getattr__(name: str):
    # On first use, not above: importing torch takes seconds that a stage of the pipeline may not need.
    if module := HOME.get(name) or (methods().get(name) if name[:1].isupper() else None):
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'fasa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *HOME, *methods()})
