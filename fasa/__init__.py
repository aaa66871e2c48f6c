"""FASA: feature augmentation and sampling adaptation for long-tailed recognition.

The algorithm is plain PyTorch; ``fasa.detection`` plugs it into mmdet.
"""

import importlib

__version__ = "0.1.0"
HOME = dict(
    FASA="algorithm",
    Augmenter="augmenter",
    ClassMoments="class_stats",
    Virtual="augmenter",
    virtual_loss="augmenter",
)
__all__ = sorted(HOME)


def __getattr__(name: str):
    # On first use, not above: importing torch takes seconds that a stage of the pipeline may not need.
    if name in HOME:
        return getattr(importlib.import_module(f"fasa.{HOME[name]}"), name)
    raise AttributeError(f"module 'fasa' has no attribute {name!r}")
