"""InstaBoost: objects are moved about in their images (appendix F)."""

from fasa.sections import Section
from fasa.traits import innermost

imports = ["fasa.detection.instaboost"]
warmup = False


class Settings(Section):
    """mmdet's defaults."""


def apply(cfg, classes, settings):
    pipeline = innermost(cfg.train_dataloader.dataset).pipeline
    pipeline.insert(1, dict(type="CompatibleInstaBoost"))  # between image and annotations
