from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fasa.data.digits_lt import Settings, load
from fasa.data.images import check
from fasa.errors import UserError
from fasa.sections import read


def pairs(split):
    return Counter((image.tobytes(), int(label)) for image, label in zip(*split, strict=True))


def test_counts_of_the_parts():
    data = check(load(Settings(), 0))
    assert data.counts.tolist() == [100, 64, 41, 27, 17, 11, 7, 4, 3, 2]
    assert np.bincount(data.adapt.labels).tolist() == [30] * 10
    assert np.bincount(data.test.labels).tolist() == [40] * 10
    assert data.names == list("0123456789") and not data.flip


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_disjoint_images_of_the_original_under_its_labels(seed):
    digits = load_digits()
    original = Counter(
        (np.rint(image / 16 * 255).astype(np.uint8).tobytes(), label)
        for image, label in zip(digits.images, digits.target.tolist(), strict=True)
    )
    data = load(Settings(), seed)
    assert sum((pairs(split) for split in data[:3]), Counter()) <= original


def test_ink_has_the_full_range():
    images = load(Settings(), 0).train.images
    assert images.shape == (276, 8, 8, 1) and images.dtype == np.uint8
    assert len(np.unique(images)) == 17 and (images.min(), images.max()) == (0, 255)


def test_the_seed_decides():
    one, same, other = (load(Settings(), seed) for seed in (0, 0, 1))
    for part in range(3):
        assert np.array_equal(one[part].images, same[part].images)
        assert not np.array_equal(one[part].images, other[part].images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_max": "many"}, r"data\.n_max: Expected `int`, got `str`"),
        ({"test": 0}, r"data\.test: Expected `int` >= 1"),
        ({"n_max": 10**30}, r"data\.n_max: "),
        ({"ratio": 200}, r"data: ratio 200 leaves"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        read(Settings, wrong, "data")


def test_more_images_than_there_are():
    with pytest.raises(UserError, match=r"data: 179 images of class 0 are wanted, but there are 178$"):
        load(Settings(n_max=109), 0)
