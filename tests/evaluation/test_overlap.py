"""What matching is made of, against what it stands in for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from fasa.errors import UserError
from fasa.evaluation.inputs import positions
from fasa.evaluation.masks import Masks, run_sums
from fasa.evaluation.overlap import lexsort, places

pytestmark = pytest.mark.usefixtures("path")


def some_masks(rng, n):
    """Compressed masks of several sizes, some empty or full, and whose runs take 1 to 4 bytes."""
    for _ in range(n):
        height, width = rng.choice([(1, 1), (7, 5), (60, 80), (900, 1200)])
        coarse = rng.random(np.minimum(4, [height, width])) < rng.choice([0, 0.3, 0.7, 1])
        mask = np.kron(coarse, np.ones((height // 4 + 1, width // 4 + 1)))[:height, :width]
        noise = rng.random((height, width)) < rng.choice([0, 1e-5, 0.01])
        yield mask_utils.encode(np.asfortranarray(mask.astype(bool) ^ noise, dtype=np.uint8))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12))
def test_sums_of_runs_are_the_pixels_of_image_and_object(seed, n):
    rles = list(some_masks(np.random.default_rng(seed), n))
    pixels, area = run_sums(Masks.of(rle["counts"] for rle in rles))
    assert pixels.tolist() == [np.prod(rle["size"]) for rle in rles]
    assert area.tolist() == [mask_utils.area(rle) for rle in rles]


def test_sums_of_runs_of_more_masks_than_are_read_at_a_time():
    rles = list(some_masks(np.random.default_rng(0), 40)) * 30
    assert run_sums(Masks.of(rle["counts"] for rle in rles))[1].tolist() == [
        mask_utils.area(rle) for rle in rles
    ]


def test_a_mask_that_is_cut_short_does_not_fill_its_image_nor_change_its_neighbours():
    runs = np.random.default_rng(5).integers(1, 99, 400)  # so different that a number takes two bytes
    pixels = np.zeros((200, 101), np.uint8, order="F")
    ends = np.cumsum(runs)
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        pixels.reshape(-1, order="F")[start:end] = 1
    whole = mask_utils.encode(pixels)
    counts, size = whole["counts"], np.prod(whole["size"])
    inside = 0
    for cut in range(1, 60):
        pixels, area = run_sums(Masks.of([b"", counts, counts[:-cut], b"", counts, counts[:-cut]]))
        assert pixels[[0, 1, 3, 4]].tolist() == [0, size, 0, size]
        assert pixels[2] == pixels[5] != size
        if (counts[-cut - 1] - 48) & 32:  # in the middle of a number
            assert pixels[2] == -1
            inside += 1
        assert area[1] == area[4] == mask_utils.area(whole)
    assert inside > 0


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40), most=st.sampled_from([3, 2**16 - 1, 2**16, 2**40])
)
def test_sorts_as_numpy_does(seed, n, most):
    rng = np.random.default_rng(seed)
    keys = [
        rng.integers(0, most + 1, n),
        -rng.integers(0, 3, n),
        rng.random(n).round(1),
        rng.integers(0, 2, n) > 0,
    ]
    for i in range(4):
        np.testing.assert_array_equal(lexsort(*keys[i:], *keys[:i]), np.lexsort((*keys[i:], *keys[:i])))


def test_places_in_groups():
    group, score = np.array([2, 0, 2, 2, 0]), np.array([0.1, 0.5, 0.3, 0.3, 0.9])
    assert places(group).tolist() == [0, 0, 1, 2, 1]
    assert places(group, score).tolist() == [2, 1, 0, 1, 0]
    assert places(group[:0], score[:0]).tolist() == []


@pytest.mark.parametrize("known", [[-3, 0, 4, 9], [-(2**63), 4, 9, 2**63 - 1]])
def test_positions_by_table_and_by_search(known):
    known, where = np.array(known), np.array([3, 1, 1, 0, 2] * 9)
    np.testing.assert_array_equal(positions(known[where], known, "image", "here"), where)
    np.testing.assert_array_equal(positions(known[[2]], known, "image", "here"), [2])
    for unknown in (5, 10**18, -(10**18)):
        ids = np.append(known[where], unknown)
        with pytest.raises(UserError, match=f"here: entry 45 has image id {unknown}, which is not among"):
            positions(ids, known, "image", "here")
