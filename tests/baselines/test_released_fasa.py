"""The released code's differences, each against a number by hand or against FASA itself."""

from types import SimpleNamespace

import numpy as np
import torch
from sklearn.cluster import AffinityPropagation
from torch.testing import assert_close

from fasa.algorithm import FASA
from fasa.baselines.released_fasa import ReleasedFASA


def built(method, k, d, mean=None, **arguments):
    augmenter = method(k, d, **arguments)
    augmenter.initialise(torch.arange(1, k + 1))
    if mean is not None:
        augmenter.moments.mean.copy_(mean)
        augmenter.moments.seen.fill_(True)
    return augmenter


def test_one_sample_of_a_class_shrinks_its_variance():
    three = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])  # variances 4 and 3
    one, label = torch.tensor([[7.0, 7.0]]), torch.zeros(1, dtype=torch.int64)
    for method, kept in ((FASA, 1.0), (ReleasedFASA, 0.9)):
        augmenter = built(method, 2, 2)
        augmenter.observe(three, label.repeat(3))
        augmenter.observe(one, label)
        assert_close(augmenter.moments.var[0], kept * torch.tensor([4.0, 3.0]))
        assert_close(augmenter.moments.mean[0], 0.9 * torch.tensor([2.0, 2.0]) + 0.1 * 7)


def test_a_first_sample_alone_says_that_there_is_no_variance():
    augmenter = built(ReleasedFASA, 2, 2)
    augmenter.observe(torch.ones(1, 2), torch.tensor([1]))
    assert augmenter.moments.spread.tolist() == [False, True] and not augmenter.moments.var.any()


def purity(groups, truth):
    """The share of classes that are of their group's most frequent cluster."""
    return sum(np.bincount(truth[groups == one]).max() for one in np.unique(groups)) / len(truth)


def test_planted_clusters_are_torn_apart():
    generator, truth = torch.Generator().manual_seed(0), torch.arange(60) % 12
    mean = 4 * torch.rand(12, 16, generator=generator)[truth] + 0.1 * torch.randn(60, 16, generator=generator)
    found = {}
    for method, arguments in ((FASA, dict(groups=dict(quantile=0.07))), (ReleasedFASA, {})):
        augmenter = built(method, 60, 16, mean, **arguments)
        augmenter.adapt(torch.ones(60))
        found[method] = purity(augmenter.groups.numpy(), truth.numpy())
    assert found[FASA] == 1 and found[ReleasedFASA] < 0.6


def test_classes_never_seen_are_grouped_too():
    augmenter = built(ReleasedFASA, 6, 2, torch.rand(6, 2, generator=torch.Generator().manual_seed(0)))
    augmenter.moments.seen[3:] = False
    augmenter.moments.mean[3:] = 0
    augmenter.adapt(torch.ones(6))
    assert (augmenter.groups >= 0).all()


def test_probabilities_stay_where_no_group_is_found(monkeypatch):
    augmenter = built(ReleasedFASA, 6, 2, torch.rand(6, 2, generator=torch.Generator().manual_seed(0)))
    start = augmenter.probability.clone()

    def adapt(signal):
        augmenter.iteration += 1
        augmenter.adapt(torch.full((6,), signal))

    adapt(2.0)
    nothing = SimpleNamespace(labels_=np.full(6, -1))  # what scikit-learn gives without any exemplar
    monkeypatch.setattr(AffinityPropagation, "fit", lambda self, x: nothing)
    adapt(1.0)
    assert_close(augmenter.probability, start)
    monkeypatch.undo()
    adapt(0.5)
    assert (augmenter.probability > start)[start < 1].all()
