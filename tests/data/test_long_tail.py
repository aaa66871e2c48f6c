import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasa.data.long_tail import deal, zipf_counts


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 20_000), st.floats(0, 4))
def test_counts_keep_the_total_and_fall(classes, total, exponent):
    counts = zipf_counts(classes, total, exponent)
    assert counts.shape == (classes,) and counts.sum() == total
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= (1 if total >= classes else 0)


def test_counts_follow_the_law():
    counts = zipf_counts(100, 1_000_000, 2.0)
    law = np.array([1 / (rank + 10) ** 2 for rank in range(1, 101)])
    np.testing.assert_allclose(counts, 1 + law / law.sum() * 999_900, atol=1.5)


def test_exponent_zero_balances():
    assert zipf_counts(7, 100, 0).tolist() == [15, 15, 14, 14, 14, 14, 14]


@pytest.mark.parametrize("seed", range(5))
def test_deal_hits_counts_and_sizes_exactly(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, 80)
    counts = zipf_counts(20, int(sizes.sum()), 1.5)
    scenes = deal(counts, sizes, np.array([[0, 19], [3, 4]]), 0.9, rng)
    assert [len(scene) for scene in scenes] == sizes.tolist()
    assert np.bincount(np.concatenate(scenes), minlength=20).tolist() == counts.tolist()


@pytest.mark.parametrize("together", [0.5, 1.0])
def test_planted_pairs_share_scenes(together):
    rng = np.random.default_rng(0)
    counts, sizes = np.full(100, 20), np.full(500, 4)
    scenes = deal(counts, sizes, np.array([[10, 90]]), together, rng)
    shared = sum({10, 90} <= set(scene) for scene in scenes)
    unplanned = sum({11, 91} <= set(scene) for scene in scenes)
    assert shared >= 20 * together > 5 > unplanned


def test_no_pairs_no_scenes_of_two():
    rng = np.random.default_rng(0)
    scenes = deal(np.array([2, 1]), np.ones(3, int), np.array([[0, 1]]), 1.0, rng)
    assert sorted(scenes) == [[0], [0], [1]]
    assert len(deal(np.array([2, 1]), np.array([3]), np.zeros((0, 2), int), 1.0, rng)[0]) == 3
