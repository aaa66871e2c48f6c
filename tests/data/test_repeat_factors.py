import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasa.data.repeat_factors import by_frequency, image_classes, repeat_factors


def slow_factors(images, threshold):
    factors = []
    for image in images:
        factor = 1.0
        for c in image:
            fraction = sum(c in other for other in images) / len(images)
            factor = max(factor, math.sqrt(threshold / fraction))
        factors.append(factor)
    return factors


images = st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=30)


@settings(deadline=None)
@given(images, st.floats(1e-6, 2))
def test_factors_are_those_of_the_loop(images, threshold):
    factors = repeat_factors(images, 7, threshold)
    assert factors.shape == (len(images),) and factors.dtype == np.float64
    np.testing.assert_array_equal(factors, slow_factors(images, threshold))


def test_factors_by_hand():
    images = [[0, 0, 1]] + [[0]] * 3 + [[]] * 12  # class 0 in 4 of 16 images, class 1 in 1, twice counts once
    assert repeat_factors(images, 2, 0.25).tolist() == [2.0, 1, 1, 1] + [1] * 12
    assert repeat_factors(images, 2, 1.0).tolist() == [4.0, 2, 2, 2] + [1] * 12
    assert repeat_factors(images, 2, 1 / 16).tolist() == [1.0] * 16
    assert repeat_factors([], 2, 1.0).shape == (0,)


@settings(deadline=None)
@given(images, st.floats(1e-6, 2), st.lists(st.sampled_from("rcf"), min_size=7, max_size=7))
def test_groups_are_those_of_the_loop(images, threshold, frequencies):
    factors = repeat_factors(images, 7, threshold)
    means = by_frequency(factors, images, frequencies)
    assert list(means) == ["r", "c", "f"]
    for group, mean in means.items():
        of_class = [
            np.mean([factors[i] for i, image in enumerate(images) if c in image])
            for c in range(7)
            if frequencies[c] == group and any(c in image for image in images)
        ]
        np.testing.assert_allclose(mean, np.mean(of_class) if of_class else np.nan)


def test_labels_follow_the_category_ids_and_images_the_file():
    annotations = dict(
        images=[dict(id=9), dict(id=2), dict(id=5)],
        categories=[dict(id=30), dict(id=10)],
        annotations=[
            dict(image_id=5, category_id=30),
            dict(image_id=9, category_id=10),
            dict(image_id=5, category_id=10),
        ],
    )
    assert image_classes(annotations) == [[0], [], [1, 0]]


@pytest.mark.parametrize("threshold, more", [(1e-3, False), (0.5, True)])
def test_on_the_glyphs(threshold, more, tiny_glyphs):
    """Where t is below every class's fraction nothing is repeated; above it, rarer classes are more often."""
    from fasa.data.lvis import frequencies, read_annotations

    annotations = read_annotations(tiny_glyphs / "annotations" / "train.json")
    images, groups = image_classes(annotations), frequencies(annotations)
    assert sum(map(len, images)) == len(annotations["annotations"])
    factors = repeat_factors(images, len(groups), threshold)
    assert (factors.max() > 1) == more
    np.testing.assert_allclose(factors, slow_factors(images, threshold))
