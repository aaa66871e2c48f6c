"""FASA as an mmdet plug-in: ``custom_imports = dict(imports=["fasa.detection"])`` registers all of it."""

from mmdet.registry import MODELS

import fasa
from fasa.detection.adaptation import AdaptationHook
from fasa.detection.head import (
    AugmentedConvFCBBoxHead,
    AugmentedDoubleConvFCBBoxHead,
    AugmentedShared2FCBBoxHead,
    AugmentedShared4Conv1FCBBoxHead,
    augmented,
)
from fasa.detection.instaboost import CompatibleInstaBoost
from fasa.detection.metric import FASALVISMetric
from fasa.detection.nms_resampling import KeepLabels, NMSResamplingRPNHead
from fasa.detection.phases import PhasesHook
from fasa.detection.progress import ProgressHook
from fasa.detection.repeat_factor_sampler import RepeatFactorSampler
from fasa.detection.resume import ExactResumeHook

for name in fasa.METHODS:
    MODELS.register_module(module=getattr(fasa, name))

__all__ = [
    "AdaptationHook",
    "AugmentedConvFCBBoxHead",
    "AugmentedDoubleConvFCBBoxHead",
    "AugmentedShared2FCBBoxHead",
    "AugmentedShared4Conv1FCBBoxHead",
    "CompatibleInstaBoost",
    "ExactResumeHook",
    "FASALVISMetric",
    "KeepLabels",
    "NMSResamplingRPNHead",
    "PhasesHook",
    "ProgressHook",
    "RepeatFactorSampler",
    "augmented",
]
