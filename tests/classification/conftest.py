import numpy as np
import pytest
import torch

from fasa.data.images import LongTailed, Split


@pytest.fixture(autouse=True)
def fixed_threads():
    torch.set_num_threads(1)


def noisy_stripes(counts: list[int], seed: int) -> Split:
    """Images of 8 x 8 grey pixels: class k has a bright column k, under noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 120, (len(labels), 8, 8, 1), dtype=np.uint8)
    images[np.arange(len(labels)), :, labels] += 100
    return Split(images, labels)


@pytest.fixture
def tiny() -> LongTailed:
    """Four classes; nothing is held out of the last one."""
    splits = [noisy_stripes(counts, i) for i, counts in enumerate(([9, 5, 3, 2], [3, 3, 2, 0], [4] * 4))]
    return LongTailed(*splits, names=list("abcd"), flip=False)
