"""FASA as an mmdet plug-in: ``custom_imports = dict(imports=["fasa.detection"])`` registers all of it."""

from mmdet.registry import MODELS

from fasa.algorithm import FASA
from fasa.detection.adaptation import AdaptationHook
from fasa.detection.head import AugmentedShared2FCBBoxHead, AugmentedShared4Conv1FCBBoxHead
from fasa.detection.metric import FASALVISMetric
from fasa.detection.progress import ProgressHook
from fasa.detection.resume import ExactResumeHook

MODELS.register_module(module=FASA)

__all__ = [
    "AdaptationHook",
    "AugmentedShared2FCBBoxHead",
    "AugmentedShared4Conv1FCBBoxHead",
    "ExactResumeHook",
    "FASALVISMetric",
    "ProgressHook",
]
