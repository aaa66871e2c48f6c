import hashlib

import numpy as np
import pytest

from fasa.data import alphabet, scenes
from fasa.data.glyph_crops import Settings, load
from fasa.data.images import check
from fasa.errors import UserError
from fasa.sections import read

SMALL = dict(classes=5, n_max=9, ratio=9, adapt=2, test=3)


@pytest.fixture(scope="module")
def data():
    return load(Settings(**SMALL), 4)


def digests(data):
    return [hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest() for split in data[:3]]


def test_train_has_a_long_tail_and_the_rest_is_balanced(data):
    assert check(data) is data
    assert data.counts.tolist() == [9, 5, 3, 1, 1]
    assert np.bincount(data.adapt.labels).tolist() == [2] * 5
    assert np.bincount(data.test.labels).tolist() == [3] * 5
    assert {split.images.shape[1:] for split in data[:3]} == {(16, 16, 3)}
    assert len(set(data.names)) == 5 and not data.flip


def test_no_image_comes_twice(data):
    images = [image.tobytes() for split in data[:3] for image in split.images]
    assert len(set(images)) == len(images) == 19 + 10 + 15


def test_same_arguments_give_the_same_bytes_and_other_seeds_others(data):
    again, other = (load(Settings(**SMALL), seed) for seed in (4, 5))
    assert digests(again) == digests(data) and again.names == data.names
    assert not set(digests(other)) & set(digests(data)) and other.names != data.names


def test_parts_do_not_depend_on_each_other(data):
    other = load(Settings(**SMALL | dict(adapt=1)), 4)
    assert np.array_equal(digests(other) == np.array(digests(data)), [True, False, True])


def test_an_image_is_a_scene_of_one_glyph_four_times_smaller(data):
    plan, _, _, test = np.random.SeedSequence(4).spawn(4)
    rng = np.random.default_rng(plan)
    characters = rng.permutation(alphabet.choose(5, rng))
    assert data.names == [alphabet.class_name(c) for c in characters]
    for index, child in enumerate(test.spawn(15)):
        rng = np.random.default_rng(child)
        picture, _ = scenes.paint([scenes.Thing(characters[index // 3])], 64, (40, 56), rng)
        blocks = picture.reshape(16, 4, 16, 4, 3).mean((1, 3))
        assert np.abs(data.test.images[index] - blocks).max() <= 0.5


def test_other_sizes():
    sizes = dict(image_size=24, object_size=(18, 24))
    data = load(Settings(classes=2, n_max=20, ratio=1, adapt=1, test=1, **sizes), 0)
    assert data.train.images.shape == (40, 24, 24, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 1}, r"data\.classes: Expected `int` >= 2"),
        ({"classes": 10**9}, r"data\.classes: Expected `int` <= 10000"),
        ({"n_max": 10**9}, r"data\.n_max: Expected `int` <= 10000"),
        ({"image_size": 10**6}, r"data\.image_size: Expected `int` <= 1024"),
        ({"image_size": 7}, r"data\.image_size: Expected `int` >= 8"),
        ({"n_max": 0}, r"data\.n_max: Expected `int` >= 1"),
        ({"adapt": 0}, r"data\.adapt: Expected `int` >= 1"),
        ({"test": 2.5}, r"data\.test: Expected `int`, got `float`"),
        ({"ratio": 0.5}, r"data\.ratio: Expected `float` >= 1"),
        ({"ratio": 101}, r"data: ratio 101 leaves the rarest class without images"),
        ({"object_size": 12}, r"data\.object_size: Expected `array`"),
        ({"object_size": [10]}, r"data\.object_size: Expected `array` of length 2"),
        ({"object_size": [5, 9]}, r"data\.object_size\[0\]: Expected `int` >= 6"),
        ({"object_size": [12, 10]}, r"data: object_size must be \[smallest, largest\]"),
        ({"object_size": [13, 14]}, r"data: object_size must be .* 3/4 and 1 of image_size, 16"),
        ({"object_size": [10, 17]}, r"data: object_size must be"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(wrong, message):
    with pytest.raises(UserError, match=message) as error:
        read(Settings, wrong, "data")
    assert "\n" not in str(error.value)


def test_more_classes_than_characters_are_refused():
    with pytest.raises(UserError, match=r"data\.classes: is 5000; choose 1 to 1\d\d\d"):
        load(Settings(classes=5000), 0)
