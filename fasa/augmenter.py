"""The one interface between a feature-augmentation method and whoever trains a classifier.

Shapes: P foreground embeddings, M virtual features, D embedding width, K foreground classes.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Virtual(NamedTuple):
    """Virtual samples for the classification branch; M may be 0."""

    features: Tensor  # (M, D) float: what `fc_cls` takes
    labels: Tensor  # (M,) int64 in [0, K); background never appears
    weights: Tensor  # (M,) float


class Augmenter(nn.Module):
    """What a method may do to the classification branch; the default does nothing.

    A trainer calls, in this order: `initialise` once with the instance counts of the part trained on,
    `virtual` in every training step, and `adapt` after every adaptation pass over held-out data.

    Args:
        num_classes: K, without background.
        width: D, the width of an embedding.
    """

    loss_weight: float = 1.0

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.num_classes, self.width = num_classes, width

    def initialise(self, counts: Tensor) -> None:
        """Take the instance counts, (K,), of the data trained on."""

    def virtual(self, z: Tensor, labels: Tensor) -> Virtual:
        """Make virtual samples beside the embeddings `z`, (P, D), of `labels`, (P,) in [0, K)."""
        return Virtual(z.new_zeros(0, self.width), labels.new_zeros(0), z.new_zeros(0))

    def adapt(self, signal: Tensor) -> None:
        """Take a class signal, (K,): lower is better (a metric comes negated), NaN is not measured."""


def virtual_loss(logits: Tensor, virtual: Virtual) -> Tensor:
    """Weighted cross-entropy of virtual features, mean over M; 0, with a gradient path, for M = 0.

    Args:
        logits: (M, >= K), `fc_cls(virtual.features)`.
    """
    losses = F.cross_entropy(logits.float(), virtual.labels, reduction="none")
    # Not .mean(): it is NaN for M = 0, and a rank without the term would stall its peers.
    return (virtual.weights * losses).sum() / max(len(losses), 1)
