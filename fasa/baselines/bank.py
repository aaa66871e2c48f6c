"""A small memory of every class: the last few of its embeddings, or of its RoI maps.

Shapes: P samples of a batch, K classes, B slots of a class, U classes present in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fasa.augmenter import require
from fasa.class_stats import class_counts

LARGEST = 1000  # samples of a class: a slip of the keyboard must not take all memory


def one_of_each(labels: Tensor, num_classes: int, turn: Tensor | int) -> tuple[Tensor, Tensor]:
    """One sample of each class present: that number ``turn mod n`` of its n in the batch.

    Returns:
        classes (U,) int64 ascending, and rows (U,) int64 in [0, P).
    """
    counts = class_counts(labels, num_classes)
    classes = counts.nonzero().squeeze(1)
    n = counts[classes]
    by_class = labels.argsort(stable=True)
    return classes, by_class[n.cumsum(0) - n + turn % n]


class Bank(nn.Module):
    """A ring buffer per class that takes at most one sample of a class in a step.

    Of several positives of one class many are proposals of one object, near copies of each other. One a
    step, each in its turn, keeps them from filling the bank: what it holds comes from B steps. No draw, so
    that the step's random numbers are all for the virtual samples.

    Each rank keeps its own: sharing would send whole maps in every step. A checkpoint holds rank 0's, so
    that resume is exact on one rank. DistributedDataParallel needs ``broadcast_buffers=False``
    (mmengine's default), or it copies rank 0's bank over the others in every step.

    Args:
        num_classes: K.
        size: B; 0 keeps nothing.
        shape: of a sample, (D,) or (C, H, W).

    Attributes (in the checkpoint):
        values: (K, B, *shape) float32, without a gradient.
        pushed: (K,) int64, samples taken so far; the newest is in slot ``(pushed - 1) mod B``.
    """

    def __init__(self, num_classes: int, size: int, shape: Sequence[int]):
        super().__init__()
        require("Bank", 0 <= size <= LARGEST, "size", size, f"at most {LARGEST} samples of a class")
        self.size = size
        self.register_buffer("values", torch.zeros(num_classes, size, *shape))
        self.register_buffer("pushed", torch.zeros(num_classes, dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """Which slots hold a sample, (K, B) bool."""
        return torch.arange(self.size, device=self.pushed.device) < self.pushed[:, None]

    @torch.no_grad()
    def push(self, x: Tensor, labels: Tensor, turn: Tensor | int) -> None:
        """Take one of each class among `x`, (P, *shape) of any float type; P may be 0.

        Raises:
            ValueError: the samples are of another shape, which PyTorch would spread over the slots.
        """
        if not self.size:
            return
        if x.shape[1:] != self.values.shape[2:]:
            raise ValueError(f"Bank: samples are {tuple(x.shape[1:])}, slots {tuple(self.values.shape[2:])}")
        classes, rows = one_of_each(labels, len(self.pushed), turn)
        self.values[classes, self.pushed[classes] % self.size] = x[rows].to(self.values.dtype)
        self.pushed[classes] += 1
