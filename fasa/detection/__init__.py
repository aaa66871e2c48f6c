"""FASA as an mmdet plug-in: ``custom_imports = dict(imports=["fasa.detection"])`` registers all of it.

What only some configs name is imported when it is first built: a run loads what it uses.
"""

from importlib import import_module

from mmdet.registry import DATA_SAMPLERS, HOOKS, MODELS, TRANSFORMS
from mmengine.registry import METRICS, OPTIM_WRAPPER_CONSTRUCTORS

from fasa.detection.adaptation import AdaptationHook
from fasa.detection.head import (
    AugmentedConvFCBBoxHead,
    AugmentedDoubleConvFCBBoxHead,
    AugmentedShared2FCBBoxHead,
    AugmentedShared4Conv1FCBBoxHead,
    augmented,
)
from fasa.detection.progress import ProgressHook
from fasa.detection.resume import ExactResumeHook

ON_FIRST_USE = {  # registry and module of each name
    "ChannelsLastHook": (HOOKS, "channels_last"),
    "ClassifierApart": (OPTIM_WRAPPER_CONSTRUCTORS, "classifier_apart"),
    "ClockHook": (HOOKS, "clock"),
    "CompatibleInstaBoost": (TRANSFORMS, "instaboost"),
    "FASALVISMetric": (METRICS, "metric"),
    "KeepLabels": (TRANSFORMS, "nms_resampling"),
    "NMSResamplingRPNHead": (MODELS, "nms_resampling"),
    "PhasesHook": (HOOKS, "phases"),
    "RowRoIExtractor": (MODELS, "roi_align"),
    "RepeatFactorSampler": (DATA_SAMPLERS, "repeat_factor_sampler"),
}
__all__ = [
    "AdaptationHook",
    "AugmentedConvFCBBoxHead",
    "AugmentedDoubleConvFCBBoxHead",
    "AugmentedShared2FCBBoxHead",
    "AugmentedShared4Conv1FCBBoxHead",
    "ExactResumeHook",
    "ProgressHook",
    *ON_FIRST_USE,
    "augmented",
]


def __getattr__(name: str):
    if name not in ON_FIRST_USE:
        raise AttributeError(f"module 'fasa.detection' has no attribute {name!r}")
    return getattr(import_module(f"fasa.detection.{ON_FIRST_USE[name][1]}"), name)


def _register(name: str) -> None:
    def build(*args, **kwargs):
        return __getattr__(name)(*args, **kwargs)

    # The class takes its place when its module is imported.
    ON_FIRST_USE[name][0].register_module(name=name, module=build)


for name in ON_FIRST_USE:
    _register(name)
