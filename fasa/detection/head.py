"""mmdet's box heads with an augmenter beside `fc_cls`.

Shapes: N RoIs of a batch, P foreground ones, M virtual features, D the width of `fc_cls`'s input, K classes.
"""

from mmdet.models import Shared2FCBBoxHead, Shared4Conv1FCBBoxHead
from mmdet.registry import MODELS
from torch import Tensor

from fasa.augmenter import virtual_loss


class AugmentedHead:
    """Mixin for a `ConvFCBBoxHead`: adds the loss of virtual features under the key ``loss_virtual``.

    Boxes, masks and the head's own losses see clean features only. Without an augmenter, and at test
    time, it is the unchanged head; the augmenter's state is extra keys of the checkpoint, which a stock
    model skips.

    Args:
        augmenter: config of an `Augmenter`; K and D are filled in. None: off.
    """

    def __init__(self, *args, augmenter: dict | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.augmenter = None
        if augmenter is not None:
            sizes = dict(num_classes=self.num_classes, width=self.fc_cls.in_features)
            self.augmenter = MODELS.build(augmenter, default_args=sizes)
            # mmdet hands scores, not embeddings, from `forward` to `loss`.
            self.fc_cls.register_forward_pre_hook(self._keep_embeddings)
        self._embeddings = None

    def _keep_embeddings(self, fc_cls, inputs: tuple[Tensor]) -> None:
        if self.training:
            self._embeddings = inputs[0]

    def loss(
        self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, labels: Tensor, *args, **kwargs
    ) -> dict:
        """The head's own losses and ``loss_virtual``; arguments as in mmdet, labels (N,) in [0, K]."""
        losses = super().loss(cls_score, bbox_pred, rois, labels, *args, **kwargs)
        if self.augmenter is not None:
            positive = (labels >= 0) & (labels < self.num_classes)
            virtual = self.augmenter.virtual(self._embeddings[positive], labels[positive])
            loss = virtual_loss(self.fc_cls(virtual.features), virtual)
            losses["loss_virtual"] = self.augmenter.loss_weight * loss
            self._embeddings = None  # it holds the graph of the step
        return losses


@MODELS.register_module()
class AugmentedShared2FCBBoxHead(AugmentedHead, Shared2FCBBoxHead):
    """`Shared2FCBBoxHead` with an augmenter."""


@MODELS.register_module()
class AugmentedShared4Conv1FCBBoxHead(AugmentedHead, Shared4Conv1FCBBoxHead):
    """`Shared4Conv1FCBBoxHead` with an augmenter."""
