"""FASA, feature augmentation and sampling adaptation for long-tailed recognition, and what it is compared to.

The algorithm is plain PyTorch; ``fasa.detection`` plugs it into mmdet.
"""

import importlib

__version__ = "0.1.0"
METHODS = dict(  # each an `Augmenter`, and its module; a new one is one more line
    FASA="algorithm",
    SMOTE="baselines.smote",
    MoEx="baselines.moex",
    AngularTransfer="baselines.angular_transfer",
    CAMMixing="baselines.cam_mixing",
    FeatureTransfer="baselines.feature_transfer",
    ReleasedFASA="baselines.released_fasa",
)
HOME = METHODS | dict(
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
