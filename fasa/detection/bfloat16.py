"""Training in bfloat16 without a GPU, which mmengine's `AmpOptimWrapper` asks for."""

from functools import partial
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from fasa.detection.two_stage import unwrap


@HOOKS.register_module(force=True)
class BFloat16Hook(Hook):
    """Lets backbone, neck and heads of a two-stage detector compute in bfloat16 while it trains.

    Convolutions and linear layers do, by torch's autocast. What backbone with neck, and each head, hand out
    is float32 again, so that RoIAlign, losses and class statistics are; so are weights and gradients. It
    pays on CPUs with AMX, see ``benchmarks/precision``; a model that has been trained so is a model as any.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Wrap what computes; parameters stay as they are."""
        model = unwrap(runner.model)
        device = next(model.parameters()).device.type
        model.extract_feat = partial(mixed, device, model.extract_feat)
        for head in heads(model):
            head.forward = partial(mixed, device, head.forward)


def heads(model: nn.Module) -> list[nn.Module]:
    """RPN, box and mask heads, one for each stage of a cascade."""
    found = [model.rpn_head, model.roi_head.bbox_head, getattr(model.roi_head, "mask_head", None)]
    return [part for one in found if one for part in (one if isinstance(one, nn.ModuleList) else [one])]


def mixed(device: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function of tensors on a device in bfloat16: inside it, what profits of it is computed so."""
    with torch.autocast(device, torch.bfloat16):
        return as_float32(function(*args, **kwargs))


def as_float32(value: Any) -> Any:
    """The same with bfloat16 tensors in float32, however they are nested in tuples and lists."""
    if isinstance(value, tuple | list):
        return type(value)(map(as_float32, value))
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
