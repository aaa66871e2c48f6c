import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fasa.classification.batches import Images, channel_moments, epoch_generator
from fasa.data.images import Split

N, H, W, C = 23, 8, 10, 3


@pytest.fixture
def split():
    """Pixel values of 1 and more, so that padding is told from them; a label per image."""
    images = np.random.default_rng(0).integers(1, 256, (N, H, W, C), dtype=np.uint8)
    return Split(images, np.arange(N))


def raw(split):
    """Batches of plain pixel values."""
    return Images(split, np.zeros(C), np.ones(C), torch.device("cpu"))


def shuffled(split, seed=0, epoch=0, size=5, crop=2, flip=True):
    """Images and labels of an epoch, and the sizes of its batches."""
    batches = raw(split).shuffled(size, crop, flip, epoch_generator(seed, epoch))
    x, labels = zip(*batches, strict=True)
    return torch.cat(x), torch.cat(labels), [len(one) for one in labels]


def test_every_image_once_an_epoch_and_the_last_batch_is_kept(split):
    _, labels, sizes = shuffled(split)
    assert sizes == [5, 5, 5, 5, 3]
    assert labels.tolist() != list(range(N)) and sorted(labels.tolist()) == list(range(N))


def test_seed_and_epoch_decide(split):
    x, labels, _ = shuffled(split, seed=3, epoch=4)
    torch.manual_seed(5)  # has no say
    again, same, _ = shuffled(split, seed=3, epoch=4)
    assert torch.equal(x, again) and torch.equal(labels, same)
    for seed, epoch in ((3, 5), (4, 4), (4, 3)):
        assert not torch.equal(labels, shuffled(split, seed, epoch)[1])


def test_windows_are_those_of_an_obvious_loop(split):
    """Each is one of the 25 windows of its padded image, mirrored or not; and all kinds occur."""
    seen = set()
    for epoch in range(40):
        for window, label in zip(*shuffled(split, epoch=epoch)[:2], strict=True):
            padded = np.zeros((H + 4, W + 4, C))
            padded[2:-2, 2:-2] = split.images[label]
            found = [
                (top, left, mirror)
                for top in range(5)
                for left in range(5)
                for mirror in (False, True)
                if np.array_equal(
                    window.permute(1, 2, 0).numpy(),
                    padded[top : top + H, left : left + W][:, :: -1 if mirror else 1],
                )
            ]
            assert len(found) == 1
            seen.add(found[0])
    assert len(seen) == 50


def test_without_crop_and_flip_images_stay_as_they_are(split):
    x, labels, _ = shuffled(split, crop=0, flip=False)
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), split.images[labels])


def test_in_order(split):
    batches = list(raw(split).in_order(10))
    assert [len(y) for _, y in batches] == [10, 10, 3]
    assert torch.cat([y for _, y in batches]).tolist() == list(range(N))
    x = torch.cat([x for x, _ in batches])
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), split.images)


def test_batches_are_standardised_by_train(split):
    mean, std = channel_moments(split.images)
    for c in range(C):
        assert mean[c] == pytest.approx(split.images[..., c].ravel().mean())
        assert std[c] == pytest.approx(split.images[..., c].ravel().std())
    images = Images(split, mean, std, torch.device("cpu"))
    x = torch.cat([x for x, _ in images.in_order(10)])
    assert x.dtype == torch.float32
    assert_close(x.mean((0, 2, 3)), torch.zeros(C), atol=1e-5, rtol=0)
    assert_close(x.std((0, 2, 3), correction=0), torch.ones(C))
    # padding is black, as where images are padded before they are standardised
    corners = torch.cat([x for x, _ in images.shuffled(5, 9, False, epoch_generator(0, 0))])
    assert_close(corners.amin((0, 2, 3)), torch.tensor(-mean / std).float())


def test_channel_without_contrast_is_harmless():
    mean, std = channel_moments(np.full((3, 8, 8, 1), 7, dtype=np.uint8))
    assert mean.tolist() == [7] and std.tolist() == [1]
