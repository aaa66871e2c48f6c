"""NMS re-sampling: the RPN keeps more proposals of rare objects while it trains (appendix G)."""

from fasa.sections import Section
from fasa.traits import innermost

imports = ["fasa.detection.nms_resampling"]
warmup = False


class Settings(Section):
    """Thresholds are the paper's: 0.7, 0.8, 0.9 for frequent, common and rare objects."""


def apply(cfg, classes, settings):
    cfg.model.rpn_head.update(type="NMSResamplingRPNHead", frequencies=classes.frequencies)
    innermost(cfg.train_dataloader.dataset).pipeline.append(
        dict(type="KeepLabels")
    )  # mmdet hides them from the RPN
