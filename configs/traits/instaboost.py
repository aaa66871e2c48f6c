"""InstaBoost: objects are moved about in their images (appendix F)."""

from fasa.errors import UserError
from fasa.sections import Section
from fasa.traits import innermost

imports = ["fasa.detection.instaboost"]
warmup = False


class Settings(Section):
    """mmdet's defaults."""


def apply(cfg, classes, settings):
    if cfg.model.roi_head.mask_head is None:
        raise UserError("InstaBoost moves objects by their masks, and the data have none")
    pipeline = innermost(cfg.train_dataloader.dataset).pipeline
    pipeline.insert(1, dict(type="CompatibleInstaBoost"))  # between image and annotations
