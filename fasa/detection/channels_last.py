"""Maps whose channels lie side by side, on a CPU: convolutions of few channels are faster so."""

import torch
from mmcv.ops import RoIAlign
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fasa.detection.two_stage import unwrap
from fasa.errors import UserError


@HOOKS.register_module(force=True)
class ChannelsLastHook(Hook):
    """Gives the weights of a model on a CPU torch's `channels_last` layout, which all maps then take over.

    Results differ in their last digits. On several ranks it does nothing: torch's DistributedDataParallel
    gives gradients the layout that weights had before, and fused optimizers take both for the same.

    Raises:
        UserError: there is an mmcv `RoIAlign`, which reads such maps wrongly; `RowRoIExtractor` does not.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Change the layout in place, where parameters keep it from then on."""
        model = unwrap(runner.model)
        if next(model.parameters()).device.type != "cpu" or get_world_size() > 1:
            return
        if any(isinstance(part, RoIAlign) for part in model.modules()):
            raise UserError("ChannelsLastHook: mmcv's RoIAlign cannot read such maps; use RowRoIExtractor")
        for weights in model.parameters():
            if weights.dim() == 4:  # no buffers: banks of maps have five
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)
