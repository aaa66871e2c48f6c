"""Running statistics per class, without a loop over classes and equal on every rank.

Shapes: P embeddings, D their width, K classes, U the classes present in the batch of any rank.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum `x` over all ranks in place; returns `x` as it is where nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(x)
    return x


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
    counts = all_reduce_sum(torch.bincount(labels, minlength=num_classes))
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
        seen, spread: (K,) bool; the class has a mean, has a variance.
    """

    def __init__(self, num_classes: int, width: int, momentum: float = 0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(num_classes, width))
        self.register_buffer("var", torch.zeros(num_classes, width))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))
        self.register_buffer("spread", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def update(self, z: Tensor, labels: Tensor) -> None:
        """Take a batch: `z` (P, D) of any float type, `labels` (P,) in [0, K); P may be 0."""
        classes, n, mean, var = batch_moments(z.detach().to(self.mean.dtype), labels, len(self.seen))
        self._blend(self.mean, self.seen, classes, mean)
        several = n > 1
        self._blend(self.var, self.spread, classes[several], var[several])

    def _blend(self, running: Tensor, known: Tensor, classes: Tensor, value: Tensor) -> None:
        weight = torch.where(known[classes], self.momentum, 1.0).to(value.dtype)[:, None]
        running[classes] = (1 - weight) * running[classes] + weight * value
        known[classes] = True
