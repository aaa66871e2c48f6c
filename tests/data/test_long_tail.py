import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasa.data.long_tail import deal, tail_counts


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 20_000), st.floats(1, 1e6))
def test_counts_keep_the_total_and_fall(classes, total, ratio):
    counts = tail_counts(classes, total, ratio)
    assert counts.shape == (classes,) and counts.sum() == total
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= (1 if total >= classes else 0)


def test_counts_follow_the_law():
    counts = tail_counts(100, 1_000_000, 50.0)
    law = np.array([50 ** (-i / 99) for i in range(100)])
    np.testing.assert_allclose(counts, law / law.sum() * 1_000_000, atol=1)
    assert counts[0] / counts[-1] == pytest.approx(50, rel=0.001)


def test_the_rarest_have_one_and_the_others_still_follow_the_law():
    counts = tail_counts(50, 500, 1e4)
    ones = (counts == 1).sum()
    assert 20 < ones < 40
    ratios = counts[:10] / counts[1:11]
    np.testing.assert_allclose(ratios, 1e4 ** (1 / 49), rtol=0.1)


def test_the_groups_of_lvis():
    """LVIS v1: 28% rare, 38% common, 34% frequent, in 4, 32 and 588 images in the median."""
    counts = tail_counts(60, 8250, 500)
    rare, common = (counts <= 10).mean(), ((counts > 10) & (counts <= 100)).mean()
    assert rare == pytest.approx(0.28, abs=0.04) and common == pytest.approx(0.38, abs=0.04)
    assert np.median(counts[counts <= 10]) == 4
    assert np.median(counts[(counts > 10) & (counts <= 100)]) == pytest.approx(32, abs=3)


def test_ratio_one_balances():
    assert tail_counts(7, 100, 1).tolist() == [15, 15, 14, 14, 14, 14, 14]


@pytest.mark.parametrize("seed", range(5))
def test_deal_hits_counts_and_sizes_exactly(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, 80)
    counts = tail_counts(20, int(sizes.sum()), 20)
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
