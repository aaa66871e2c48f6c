"""Running statistics per class, without a loop over classes and equal on every rank.

Shapes: P embeddings, D their width, K classes, U the classes present in the batch of any rank.
"""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fasa.errors import UserError


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum `x` over all ranks in place; returns `x` as it is where nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(x)
    return x


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """How often each class occurs, (K,) int64; unlike `bincount` without a stop of the GPU."""
    return labels.new_zeros(num_classes).index_add_(0, labels, torch.ones_like(labels))


def blend(running: Tensor, known: Tensor, classes: Tensor, value: Tensor, momentum: float) -> None:
    """Move running statistics towards those of a batch, in place; the first observation is taken whole.

    A row that is not finite, of what was not seen or overflowed, leaves its class alone.

    Args:
        running: (K, D).
        known: (K,) float, 1 where a class has one; above 0 in averages of several models.
        classes: (U,) int64, each once.
        value: (U, D), of these classes.
        momentum: weight of the batch.
    """
    old, finite = running[classes], value.isfinite().all(1)
    weight = torch.where(known[classes] > 0, momentum, 1.0).to(value.dtype)[:, None]
    running[classes] = torch.where(finite[:, None], (1 - weight) * old + weight * value, old)
    known[classes] = known[classes].masked_fill(finite, 1)


def batch_moments(z: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and unbiased variance of each class present in the batches of all ranks together.

    Two passes, the mean and then the squared deviations from it: plain sums of squares lose digits.
    Only present classes travel between ranks.

    Args:
        z: (P, D) float32 or float64; P may be 0.
        labels: (P,) int64 in [0, num_classes).

    Returns:
        classes (U,) int64 ascending, n (U,), mean (U, D) and variance (U, D), NaN where n = 1.
    """
    counts = all_reduce_sum(class_counts(labels, num_classes))
    classes = counts.nonzero().squeeze(1)
    n = counts[classes]
    row = torch.searchsorted(classes, labels)  # class -> its row among the U present ones
    mean = all_reduce_sum(z.new_zeros(len(classes), z.size(1)).index_add_(0, row, z)) / n[:, None]
    deviation = z - mean[row]
    squares = all_reduce_sum(torch.zeros_like(mean).index_add_(0, row, deviation * deviation))
    return classes, n, mean, squares / (n[:, None] - 1)  # 0 / 0 for n = 1: NaN, "no variance seen"


class ClassMoments(nn.Module):
    """Running mean and variance of the embeddings of each class (main paper, sec. 3.1).

    ``mean <- (1 - momentum) * mean + momentum * batch_mean``, the same for the variance; the first
    observation initialises. A class with one sample in a batch leaves its variance alone.

    Differs from the released code: statistics are those of all ranks together, and one sample is not
    mistaken for a variance of 0.

    Args:
        num_classes: K.
        width: D.
        momentum: weight of the newest batch, in (0, 1].

    Attributes:
        mean: (K, D), 0 where never seen.
        var: (K, D), 0 where a class was never seen twice in one batch.
        seen, spread: (K,) float32, 1 where the class has a mean, has a variance; not bool, which cannot be
            averaged with a model's other buffers.
    """

    def __init__(self, num_classes: int, width: int, momentum: float = 0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(num_classes, width))
        self.register_buffer("var", torch.zeros(num_classes, width))
        self.register_buffer("seen", torch.zeros(num_classes))
        self.register_buffer("spread", torch.zeros(num_classes))

    @torch.no_grad()
    def update(self, z: Tensor, labels: Tensor) -> None:
        """Take a batch: `z` (P, D) of any float type, `labels` (P,) in [0, K); P may be 0."""
        classes, _, mean, var = batch_moments(z.detach().to(self.mean.dtype), labels, len(self.seen))
        blend(self.mean, self.seen, classes, mean, self.momentum)
        blend(self.var, self.spread, classes, var, self.momentum)

    @classmethod
    def saved(cls, checkpoint: str | Path) -> "ClassMoments":
        """Those in a detector's checkpoint, of a cascade the first stage's.

        Raises:
            UserError: it has none.
        """
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        mean = next((name for name in state if name.endswith("augmenter.moments.mean")), None)
        if mean is None:
            raise UserError(f"{checkpoint}: has no class moments: it is of a row without FASA")
        moments = cls(*state[mean].shape)
        for name, buffer in moments.named_buffers():
            buffer.copy_(state[mean.removesuffix("mean") + name])
        return moments
