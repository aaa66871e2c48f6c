"""Trains in two stages, where an augmenter asks for them (appendix F, Yin et al.)."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from fasa.detection.two_stage import augmenters, box_heads, feature_layers
from fasa.errors import UserError


@HOOKS.register_module(force=True)
class PhasesHook(Hook):
    """Freezes before every iteration what the augmenter's `frozen` names: ``"features"`` or ``"classifier"``.

    The features are all that the embeddings come from: backbone and neck, the running statistics of their
    norms included, and the layers of the box head before `fc_cls`, which is the classifier. What the config
    froze stays frozen. Nothing is kept: a resumed run is in the phase that its iteration says. With several
    ranks the config needs ``find_unused_parameters=True``.

    Raises:
        UserError: before training, where no augmenter has stages.
    """

    def before_train(self, runner: Runner) -> None:
        """Look for an augmenter with stages, and at what is frozen anyway."""
        if not any(augmenter.phase for augmenter in filter(None, augmenters(runner.model))):
            raise UserError(
                "PhasesHook: no augmenter has stages; give a FeatureTransfer its `phase`, in iterations"
            )
        self.trainable = {parameter for parameter in runner.model.parameters() if parameter.requires_grad}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Freeze and unfreeze."""
        for head, augmenter in zip(box_heads(runner.model), augmenters(runner.model), strict=True):
            if augmenter is None:
                continue
            frozen = augmenter.frozen()
            self.set_trainable(head.fc_cls, frozen != "classifier")
            for part in feature_layers(runner.model, head):
                self.set_trainable(part, frozen != "features")
                part.train(frozen != "features")

    def set_trainable(self, part: nn.Module, trainable: bool) -> None:
        """Let gradients reach the parameters of `part`, or not."""
        for parameter in part.parameters():
            parameter.requires_grad_(trainable and parameter in self.trainable)
