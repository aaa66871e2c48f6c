"""Losses for long tails. Whatever the loss, a class is predicted by the argmax of the plain logits.

Shapes: N images, K classes, n_k images of class k in the part trained on.

Each is built from the counts, (K,), and called with logits (N, K), labels (N,) and the share of the epochs
that is done, in [0, 1]; it returns the batch's loss, () float32 in nats.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class CrossEntropy:
    """Plain cross-entropy, mean over the batch.

    Attributes:
        scale: of the cosine classifier that a loss is made for; None: a linear one.
    """

    scale: float | None = None

    def __init__(self, counts: Tensor):
        """It needs no counts."""

    def __call__(self, logits: Tensor, labels: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(logits.float(), labels)


class BalancedSoftmax:
    """Cross-entropy of ``logits + log n`` (Ren et al. 2020): plain logits then suit a balanced test."""

    scale: float | None = None

    def __init__(self, counts: Tensor):
        self.shift = counts.double().log().float()

    def __call__(self, logits: Tensor, labels: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(logits.float() + self.shift, labels)


class LDAM:
    """Label-distribution-aware margins with deferred re-weighting, LDAM-DRW (Cao et al. 2019).

    Cross-entropy of ``s (cos_k - [k = label] m_k)`` with ``m_k = C / n_k^(1/4)``, C such that the largest
    margin is `margin`. The logits come from the cosine classifier and hold s already. From `DEFERRED` of the
    epochs on it is weighted by ``(1 - beta) / (1 - beta^n_k)`` (Cui et al. 2019), brought to a mean of 1 over
    the classes; a batch's loss is divided by its sum of weights. A class without images has margin and
    weight 0.
    """

    scale: float | None = 30.0
    DEFERRED = 0.8

    def __init__(self, counts: Tensor, margin: float = 0.5, beta: float = 0.9999):
        n = counts.double()
        root = torch.where(n > 0, n**-0.25, 0.0)
        self.margins = (margin * root / root.max()).float()
        weights = torch.where(n > 0, (1 - beta) / (1 - beta**n), 0.0)
        self.weights = (weights / weights.mean()).float()

    def __call__(self, logits: Tensor, labels: Tensor, progress: float) -> Tensor:
        margins = self.scale * self.margins[labels, None]
        logits = logits.float().scatter_add(1, labels[:, None], -margins)
        return F.cross_entropy(logits, labels, self.weights if progress >= self.DEFERRED else None)


LOSSES = dict(
    balanced_softmax=BalancedSoftmax,
    cross_entropy=CrossEntropy,
    ldam_drw=LDAM,
)
