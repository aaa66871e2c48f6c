import numpy as np
import pytest

from fasa.grouping import MeanShiftGroups, warn_if_degenerate


def planted(k, clusters, width=64, noise=0.2):
    rng = np.random.default_rng(0)
    truth = np.arange(k) % clusters
    centres = np.maximum(rng.normal(size=(clusters, width)), 0)
    lengths = rng.uniform(0.2, 5, (k, 1))  # lengths differ by how much a class was trained
    return np.maximum(centres[truth] + noise * rng.normal(size=(k, width)), 0) * lengths, truth


def purity(groups, truth):
    return sum(np.bincount(truth[groups == g]).max() for g in np.unique(groups)) / len(truth)


@pytest.mark.parametrize(("k", "clusters"), [(60, 6), (300, 10)])
def test_planted_clusters_are_found(k, clusters):
    means, truth = planted(k, clusters)
    groups = MeanShiftGroups(quantile=1 / clusters)(means)
    assert purity(groups, truth) == 1 and len(np.unique(groups)) == clusters


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
def test_a_handful_of_classes(seen):
    groups = MeanShiftGroups()(np.eye(5)[:seen])
    assert groups.shape == (seen,) and groups.dtype == np.int64


def test_identical_means_are_one_group():
    with pytest.warns(UserWarning, match="one group"):
        assert (MeanShiftGroups()(np.ones((8, 4))) == 0).all()


def test_warns_when_groups_say_nothing():
    with pytest.warns(UserWarning, match="raise the quantile"):
        warn_if_degenerate(np.arange(20))
