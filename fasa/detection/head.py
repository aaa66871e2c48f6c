"""mmdet's box heads with an augmenter around `fc_cls`.

Shapes: N RoIs of a batch, P foreground ones, M virtual samples, D the width of `fc_cls`'s input, K classes.
"""

import copy
import inspect

import torch
from mmdet.models import (
    ConvFCBBoxHead,
    DoubleConvFCBBoxHead,
    Shared2FCBBoxHead,
    Shared4Conv1FCBBoxHead,
)
from mmdet.models.layers import NormedLinear
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

import fasa
from fasa.augmenter import FILLED_IN, Augmenter, check_arguments, virtual_loss
from fasa.detection.two_stage import class_scores
from fasa.errors import UserError

STAGE_SEED = 1_000_000  # between the seeds of two stages of a cascade: each draws on its own


def augmented(model: dict, augmenter: dict) -> dict:
    """A detector's config with an augmenter in each of its box heads, one or those of a cascade.

    Args:
        model: of a two-stage detector, as mmdet's configs have it; it stays as it is.
        augmenter: config of an `Augmenter`, such as ``dict(type="FASA")``.

    Raises:
        UserError: these are no configs, there is no box head, or none of a kind that has an augmented twin.

    Example, in a config after its ``_base_``:
        >>> model = augmented(_base_.model, dict(type="FASA", warmup=6000))  # doctest: +SKIP
    """
    if not isinstance(model, dict | Config) or not isinstance(augmenter, dict) or "type" not in augmenter:
        told = augmenter if isinstance(model, dict | Config) else model
        raise UserError(f'augmented: it takes a model\'s config and dict(type="FASA"), not {told!r}')
    seed = augmenter.get("seed", 0)
    if not isinstance(seed, int):
        raise UserError(f"augmenter.seed is {seed!r}, not a whole number")
    model = copy.deepcopy(model)
    heads = (model.get("roi_head") or {}).get("bbox_head")
    if not heads:
        raise UserError(f"{model.get('type')}: no roi_head.bbox_head; only two-stage detectors are augmented")
    for stage, head in enumerate(heads if isinstance(heads, list | tuple) else [heads]):
        kind = head["type"]
        name = kind if isinstance(kind, str) else kind.__name__  # mmdet's newer configs hold classes
        name = name.rpartition(".")[2].removeprefix("Augmented")
        kind = f"Augmented{name}"
        if kind not in MODELS:
            raise UserError(f"roi_head.bbox_head: no augmented {name}; known: {', '.join(sorted(TWINS))}")
        if name in TWINS:  # by its path, which a config that was saved imports it from
            kind = f"fasa.detection.{kind}"
        head.update(type=kind, augmenter=dict(augmenter, seed=seed + STAGE_SEED * stage))
    return model


class AugmentedHead:
    """Mixin for a `ConvFCBBoxHead`: adds the loss of virtual samples under the key ``loss_virtual``.

    Boxes, masks and the head's own losses see clean features only. Without an augmenter it is the unchanged
    head, and so at test time where the augmenter does not change scores; the augmenter's state is extra keys
    of the checkpoint, which a stock model skips.

    Args:
        augmenter: config of an `Augmenter`; K, D and the shape of maps are filled in. None: off.

    Raises:
        UserError: a loss or classifier that the augmenter cannot go with.
    """

    def __init__(self, *args, augmenter: dict | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.augmenter: Augmenter | None = None
        self._step = None  # of the last forward: embeddings, what `fc_cls` saw, RoI maps
        self._maps, self._inputs = None, 1
        if augmenter is not None:
            sizes = dict(num_classes=self.num_classes, width=self.fc_cls.in_features)
            method = name = augmenter["type"]
            if isinstance(name, str):
                method = getattr(fasa, name) if name in fasa.methods() else MODELS.get(name)
            if method is None:
                known = ", ".join(sorted(fasa.methods()))
                raise UserError(f"augmenter: there is no {name!r}; known: {known}")
            if "map_shape" in inspect.signature(method).parameters:
                sizes["map_shape"] = (self.in_channels, *self.roi_feat_size)
            arguments = {key: value for key, value in augmenter.items() if key != "type"}
            check_arguments(method, arguments, "augmenter", FILLED_IN)
            try:
                self.augmenter = method(**sizes, **arguments)
            except (TypeError, ValueError) as error:
                raise UserError(f"augmenter: {error}") from error
            self._refuse()
            # mmdet hands scores, not embeddings, from `forward` to `loss`.
            self.fc_cls.register_forward_pre_hook(self._encode)
            self.fc_cls.register_forward_hook(self._logits)

    def _refuse(self) -> None:
        name, loss = type(self.augmenter).__name__, type(self.loss_cls).__name__
        if getattr(self.loss_cls, "use_sigmoid", False):
            raise UserError(f"{name}: its loss is of a softmax, {loss} is of sigmoids; use CrossEntropyLoss")
        if self.augmenter.changes_scores and self.custom_cls_channels:
            raise UserError(f"{name} makes scores of its own and {loss} too; use CrossEntropyLoss")
        if self.augmenter.changes_scores and isinstance(self.fc_cls, NormedLinear):
            raise UserError(
                f"{name} makes scores of its own and NormedLinear too; leave cls_predictor_cfg out"
            )

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, >= K) and boxes of RoI maps (N, C, H, W), as in mmdet; a Double-Head takes two."""
        self._maps, self._inputs = maps[0], len(maps)
        outputs = super().forward(*maps)
        self._maps = None
        return outputs

    def _encode(self, fc_cls: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        encoded = self.augmenter.encode(inputs[0])
        if self.training:
            self._step = inputs[0], encoded, self._maps if self.augmenter.needs_maps else None
        return (encoded,)

    def _logits(self, fc_cls: nn.Module, inputs: tuple[Tensor], scores: Tensor) -> Tensor:
        return self.augmenter.logits(scores, inputs[0], fc_cls.weight)

    def loss(
        self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, labels: Tensor, *args, **kwargs
    ) -> dict:
        """The head's losses, the method's, and ``loss_virtual``; arguments as mmdet's, labels (N,)."""
        augmenter = self.augmenter
        # OHEM and PISA ask which RoIs are hard; in eval mode nothing is learnt.
        if augmenter is None or self._step is None or not torch.is_grad_enabled():
            self._step = None
            return super().loss(cls_score, bbox_pred, rois, labels, *args, **kwargs)
        z, encoded, maps = self._step
        self._step = None  # it holds the graph of the step
        cls_score = augmenter.logits(cls_score, encoded, self.fc_cls.weight, labels)
        losses = super().loss(cls_score, bbox_pred, rois, labels, *args, **kwargs)
        losses |= augmenter.losses(z, labels, cls_score)
        virtual = augmenter(z, labels, maps, self._score)
        # Plain cross-entropy: losses that count what they see must not count virtual samples.
        loss = virtual_loss(self._score(virtual.features, virtual.labels), virtual)
        losses["loss_virtual"] = augmenter.loss_weight * loss
        return losses

    def _score(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Class scores of embeddings (M, D) or RoI maps (M, C, H, W)."""
        features = features.to(self.fc_cls.weight.dtype)
        maps = features.dim() == 4
        scores = self.forward(*[features] * self._inputs)[0] if maps else self.fc_cls(features)
        (_, encoded, _), self._step = self._step, None
        if labels is not None:
            scores = self.augmenter.logits(scores, encoded, self.fc_cls.weight, labels)
        return class_scores(self, scores)


@MODELS.register_module()
class AugmentedShared2FCBBoxHead(AugmentedHead, Shared2FCBBoxHead):
    """`Shared2FCBBoxHead` with an augmenter."""


@MODELS.register_module()
class AugmentedShared4Conv1FCBBoxHead(AugmentedHead, Shared4Conv1FCBBoxHead):
    """`Shared4Conv1FCBBoxHead` with an augmenter."""


@MODELS.register_module()
class AugmentedConvFCBBoxHead(AugmentedHead, ConvFCBBoxHead):
    """`ConvFCBBoxHead` with an augmenter."""


@MODELS.register_module()
class AugmentedDoubleConvFCBBoxHead(AugmentedHead, DoubleConvFCBBoxHead):
    """`DoubleConvFCBBoxHead` with an augmenter, which sees what the classifier sees."""


TWINS = [kind.__name__.removeprefix("Augmented") for kind in AugmentedHead.__subclasses__()]
