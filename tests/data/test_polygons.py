import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle

from fasa.data.polygons import polygons


def rasterise(rings, shape):
    return rle.decode(rle.merge(rle.frPyObjects(rings, *shape))).astype(bool)


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_rasterises_back_exactly(mask):
    rings = polygons(mask)
    if mask.any():
        np.testing.assert_array_equal(rasterise(rings, mask.shape), mask)
    else:
        assert rings == []


@pytest.mark.parametrize(
    ("rows", "rings"),
    [
        (["...", ".##"], [[1, 1, 3, 1, 3, 2, 1, 2]]),
        (["#.", "##"], [[0, 0, 1, 0, 1, 1, 2, 1, 2, 2, 0, 2]]),
        (["#.", ".#"], [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]),
        # Two diagonal neighbours of one part: the ring passes their corner twice.
        ([".#", "#.", "##"], None),
        (["##.", "#.#", "###"], [[0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 1, 3, 1, 3, 3, 0, 3]]),
    ],
)
def test_rings_by_hand(rows, rings):
    mask = np.array([[pixel == "#" for pixel in row] for row in rows])
    if rings is not None:
        assert polygons(mask) == rings
    np.testing.assert_array_equal(rasterise(polygons(mask), mask.shape), mask)


def test_a_part_with_holes_is_cut_into_parts_without():
    mask = np.ones((7, 9), bool)
    mask[2:4, 2:4] = mask[2, 6] = mask[5, 6] = False
    rings = polygons(mask)
    assert len(rings) > 1
    np.testing.assert_array_equal(rasterise(rings, mask.shape), mask)
