"""The one interface between a feature-augmentation method and whoever trains a classifier.

Shapes: N embeddings of a batch, P foreground ones, M virtual samples, D embedding width, C channels of a RoI
map, K foreground classes; background, where there is one, is label K.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class Virtual(NamedTuple):
    """Virtual samples for the classification branch; M may be 0."""

    features: Tensor  # (M, D) or (M, C, H, W) float: they re-enter where they were taken
    labels: Tensor  # (M,) int64 in [0, K); background never appears
    weights: Tensor  # (M,) float, >= 0


class Augmenter(nn.Module):
    """What a method may do to the classification branch; the default does nothing.

    A trainer calls `initialise` once, with the instance counts of the part trained on; in every training step
    `encode` on what enters the classifier, `logits` on what leaves it, `losses`, and the augmenter itself on
    the foreground embeddings, which gives virtual samples; at test time `encode` and `logits`; and `adapt`
    after every pass over held-out data. A method overrides what it needs: these, `observe` and `virtual`.

    Args:
        num_classes: K, without background.
        width: D, the width of an embedding.
        loss_weight: of the virtual samples' cross-entropy.
        warmup: iterations before the first virtual sample; state is gathered from the start.
        seed: of all that is drawn.

    Attributes (in the checkpoint):
        iteration: () int64, training steps so far.
        drawn: (K,) int64, the virtual samples of each class so far, on this rank.
    """

    needs_maps: bool = False  # whether `observe` and `virtual` look at the RoI maps
    changes_scores: bool = False  # whether a model needs the augmenter at test time too

    def __init__(
        self, num_classes: int, width: int, loss_weight: float = 0.1, warmup: int = 0, seed: int = 0
    ):
        super().__init__()
        self.num_classes, self.width = num_classes, width
        self.loss_weight, self.warmup, self.seed = loss_weight, warmup, seed
        self.register_buffer("iteration", torch.tensor(0))
        self.register_buffer("drawn", torch.zeros(num_classes, dtype=torch.int64))

    def initialise(self, counts: Tensor) -> None:
        """Take the instance counts, (K,), of the data trained on, and count iterations from 0.

        Raises:
            ValueError: they are not of K classes.
        """
        if len(counts) != self.num_classes:
            raise ValueError(f"{type(self).__name__}: {len(counts)} counts for {self.num_classes} classes")
        self.iteration.zero_()
        self.drawn.zero_()

    def forward(
        self,
        z: Tensor,
        labels: Tensor,
        maps: Tensor | None = None,
        head: Callable[[Tensor], Tensor] | None = None,
    ) -> Virtual:
        """One training step: observe, then make virtual samples unless it is too early.

        Args:
            z: (P, D), embeddings before `encode`, with their graph.
            labels: (P,) int64 in [0, K).
            maps: (P, C, H, W), the RoI maps that they come from, where `needs_maps`.
            head: maps (M, C, H, W) -> scores (M, >= K), where `needs_maps`.
        """
        self.iteration += 1
        self.observe(z, labels, maps, head)
        if self.iteration <= self.warmup:
            return self.nothing(z)
        virtual = self.virtual(z, labels, maps, head)
        self.drawn.index_add_(0, virtual.labels, torch.ones_like(virtual.labels))
        return virtual

    def encode(self, z: Tensor) -> Tensor:
        """What the classifier sees of all embeddings `z`, (N, D)."""
        return z

    def logits(self, scores: Tensor, z: Tensor, weight: Tensor, labels: Tensor | None = None) -> Tensor:
        """The class scores, (N, >= K), in place of the classifier's own.

        Args:
            scores: (N, >= K), the classifier's.
            z: (N, D), what it saw.
            weight: (>= K, D), its weight.
            labels: (N,) in [0, K] in training; None at test time.
        """
        return scores

    def observe(self, z: Tensor, labels: Tensor, maps=None, head=None) -> None:
        """Update the method's state from a batch; arguments as `forward`'s."""

    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """Make virtual samples; arguments as `forward`'s."""
        return self.nothing(z)

    def losses(self, z: Tensor, labels: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Losses of the method's own, their names beginning with ``loss_``.

        Args:
            z: (N, D), embeddings before `encode`.
            labels: (N,) in [0, K].
            scores: (N, >= K), what `logits` gave.
        """
        return {}

    def adapt(self, signal: Tensor) -> None:
        """Take a class signal, (K,): lower is better (a metric comes negated), NaN is not measured."""

    @classmethod
    def adapts(cls) -> bool:
        """Whether the method does something with class signals."""
        return cls.adapt is not Augmenter.adapt

    def nothing(self, z: Tensor) -> Virtual:
        """No virtual sample at all."""
        return Virtual(z.new_zeros(0, self.width), self.drawn.new_zeros(0), z.new_zeros(0))

    def generator(self) -> torch.Generator:
        """A generator for this step, on the device of the state; call it once a step.

        Seeded anew from (seed, rank, iteration): a resumed run draws what an unbroken one would have.
        """
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        seed = hash((self.seed, rank, self.iteration.item()))  # of integers: the same in every process
        return torch.Generator(self.drawn.device).manual_seed(seed % 2**63)


def virtual_loss(logits: Tensor, virtual: Virtual) -> Tensor:
    """Weighted mean cross-entropy of virtual samples; 0, with a gradient path, where there are none.

    Args:
        logits: (M, >= K), the scores of `virtual.features`.
    """
    losses = F.cross_entropy(logits.float(), virtual.labels, reduction="none")
    weights = virtual.weights.float()  # 1e-12 is 0 in half precision
    # Not .mean(): it is NaN for M = 0, and a rank without the term would stall its peers.
    return (weights * losses).sum() / weights.sum().clamp(min=1e-12)
