"""Images on the device: the whole split once, as bytes, cut into standardised batches there.

Shapes: N images of H x W pixels and C channels, B images of a batch.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fasa.data.images import Split


def channel_moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of `images`, (N, H, W, C) uint8: (C,) in [0, 255].

    A channel without contrast gets the deviation 1, so that dividing by it is harmless.
    """
    axes = (0, 1, 2)
    return images.mean(axes, dtype=np.float64), np.maximum(images.std(axes, dtype=np.float64), 1)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The source of one epoch's randomness: a resumed run needs no state of it."""
    return torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)  # of integers: the same everywhere


class Images:
    """A split on a device; every batch is (B, C, H, W) float32, standardised, and labels (B,) int64.

    Batches lie in memory as channels-last, which is how the bytes lie.

    Args:
        split: images and labels.
        mean, std: of each channel in the part trained on, (C,).
    """

    def __init__(self, split: Split, mean: np.ndarray, std: np.ndarray, device: torch.device):
        self.images, self.labels = torch.tensor(split.images), torch.tensor(split.labels, device=device)
        self.images = self.images.to(device)
        self.mean, self.std = (torch.tensor(x, dtype=torch.float32, device=device) for x in (mean, std))

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, as it is."""
        for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
            yield self._standardise(images), labels

    def shuffled(
        self, size: int, crop: int, flip: bool, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once in random order, shifted and perhaps mirrored; the last batch may be smaller.

        Args:
            size: B.
            crop: pixels of black around an image before a window of its size is cut out at random.
            flip: mirror half of the windows, left to right.
            generator: on the CPU, so that every device sees the same batches.
        """
        n, height, width, _ = self.images.shape
        order = torch.randperm(n, generator=generator)
        top, left = torch.randint(2 * crop + 1, (2, n, 1), generator=generator)
        mirror = torch.rand(n, 1, generator=generator) < (0.5 if flip else 0)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        columns = torch.where(mirror, columns.flip(1), columns)
        order, rows, columns = (x.to(self.images.device) for x in (order, rows, columns))
        padded = F.pad(self.images, (0, 0, crop, crop, crop, crop))
        parts = (x.split(size) for x in (order, rows, columns))
        for i, y, x in zip(*parts, strict=True):
            windows = padded[i[:, None, None], y[:, :, None], x[:, None, :]]
            yield self._standardise(windows), self.labels[i]

    def _standardise(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).permute(0, 3, 1, 2)
