"""Trains in two stages, where an augmenter asks for them (appendix F, Yin et al.)."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from fasa.detection.adaptation import box_heads


@HOOKS.register_module()
class PhasesHook(Hook):
    """Freezes before every iteration what the augmenter's `frozen` names: ``"features"`` or ``"classifier"``.

    The features are all that the embeddings come from: backbone and neck, the running statistics of their
    norms included, and the layers of the box head before `fc_cls`, which is the classifier. Nothing is kept:
    a resumed run is in the phase that its iteration says. With several ranks the config needs
    ``find_unused_parameters=True``.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Freeze and unfreeze."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for head in box_heads(model):
            frozen = head.augmenter.frozen()
            set_trainable(head.fc_cls, frozen != "classifier")
            layers = (head.shared_convs, head.shared_fcs, head.cls_convs, head.cls_fcs)
            for part in (model.backbone, model.neck, *layers):
                set_trainable(part, frozen != "features")
                part.train(frozen != "features")


def set_trainable(part: nn.Module, trainable: bool) -> None:
    """Let gradients reach the parameters of `part`, or not."""
    for parameter in part.parameters():
        parameter.requires_grad_(trainable)
