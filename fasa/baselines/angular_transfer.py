"""Liu et al. as the appendix has it: tail classes borrow the angular spread of the head classes.

Shapes: N embeddings, D their width, K foreground classes; background, where there is one, is label K.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fasa.augmenter import Augmenter
from fasa.class_stats import ClassMoments

LIMIT = 1 - 1e-6  # of |cos|: the derivative of acos is infinite at 1
TINY = 1e-4  # a shorter embedding counts as of this length: the direction of 0 has an infinite derivative


class AngularTransfer(Augmenter):
    """ArcFace logits with a random extra angle for tail labels (appendix F, Eq. 2).

    With theta_j the angle between an embedding and row j of the classifier's weight, y the label:

    ``s cos(theta_y + alpha + m)`` for the label, ``s cos(theta_j + alpha)`` for the rest;
    ``alpha ~ N(0, max(var_head - var_y, 0))`` for tail labels, 0 for head ones and background, anew for
    every embedding. Without labels ``s cos(theta)``. The linear classifier's scores and bias have no part.

    var_c is the running variance of theta_c over the embeddings of class c (within a batch, as
    `ClassMoments` has it), var_head the mean of it over the head classes that have one. A tail class that
    has none, never seen twice in a batch, counts as without spread and borrows all of var_head.

    Reference: Liu et al., Deep representation learning on long-tailed data: a learnable embedding
    augmentation perspective, CVPR 2020.

    Differs from Liu et al.: the variance is that of the angle to the classifier's row, the theta_y of
    Eq. 2, not to a running class centre. Differs from ArcFace: an angle beyond [0, pi] is clamped to it, so
    that a larger margin never raises the label's score; there it has no gradient.

    Args:
        num_classes, width: K and D.
        scale: s (Table 7).
        margin: m in radians (Table 7).
        background_margin: whether background gets the margin too. Eq. 2 sums over all N samples and excepts
            none, and the appendix blames the background for the method's sensitivity to m.
        tail: a class with fewer instances is a tail class (ours: LVIS's bound of frequent).
        momentum: of the angular moments (ours; FASA's).
        loss_weight: unused, there are no virtual samples.
        warmup: iterations before the first extra angle; the margin is there from the start.
        seed: of the extra angles.

    Attributes (in the checkpoint, with those of `Augmenter`):
        angles.mean, angles.var: (K, 1) float32, radians and their squares.

    Raises:
        ValueError: an argument is out of its range.
    """

    changes_scores = True

    def __init__(
        self,
        num_classes: int,
        width: int,
        scale: float = 20.0,
        margin: float = 0.1,
        background_margin: bool = True,
        tail: int = 100,
        momentum: float = 0.1,
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(num_classes, width, loss_weight, warmup, seed)
        if not (scale > 0 and 0 <= margin < math.pi and 0 < momentum <= 1 and tail >= 0):
            raise ValueError(
                f"AngularTransfer: scale={scale!r} (> 0), margin={margin!r} (in [0, pi)), "
                f"momentum={momentum!r} (in (0, 1]), tail={tail!r} (>= 0)"
            )
        self.scale, self.margin, self.background_margin, self.tail = scale, margin, background_margin, tail
        self.angles = ClassMoments(num_classes, 1, momentum)

    def logits(self, scores: Tensor, z: Tensor, weight: Tensor, labels: Tensor | None = None) -> Tensor:
        """The class scores, (N, >= K), float32 at least whatever the inputs are.

        In training mode `labels` also update the angular moments; before this step's extra angles are drawn.

        Raises:
            RuntimeError: angles are to be drawn and the class counts are not known.
        """
        dtype = torch.promote_types(torch.promote_types(z.dtype, weight.dtype), torch.float32)
        with torch.autocast(z.device.type, enabled=False):  # half a digit of cos is degrees of angle near 0
            cosine = F.normalize(z.to(dtype), eps=TINY) @ F.normalize(weight.to(dtype), eps=TINY).T
        if labels is None:
            return self.scale * cosine
        angle = cosine.clamp(-LIMIT, LIMIT).acos()
        own = angle.gather(1, labels[:, None])  # (N, 1)
        foreground = labels < self.num_classes
        if self.training:
            rows = (foreground & self.usable(z)).nonzero().squeeze(1)
            self.angles.update(own[rows], labels[rows])
        margin = torch.full_like(own, self.margin)
        if not self.background_margin:
            margin = margin * foreground[:, None]
        shift = self._alpha(labels)[:, None].to(dtype) + torch.zeros_like(angle)
        shift.scatter_add_(1, labels[:, None], margin)
        return self.scale * (angle + shift).clamp(0, math.pi).cos()

    def _alpha(self, labels: Tensor) -> Tensor:
        """The extra angle of each embedding, (N,)."""
        if self.step < self.warmup:  # `forward` counts this step only afterwards
            return self.angles.var.new_zeros(len(labels))
        self.require_counts()
        tail, var = self.counts < self.tail, self.angles.var.squeeze(1)
        head = ~tail & (self.angles.spread > 0)
        var_head = (var * head).sum() / head.sum().clamp(min=1)  # 0, nothing to lend, without a head class
        std = F.pad((var_head - var).clamp(min=0).sqrt() * tail, (0, 1))  # (K + 1,): background's is 0
        eps = torch.randn(len(labels), dtype=var.dtype, device=var.device, generator=self.generator())
        return std[labels] * eps
