import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fasa import Augmenter, Virtual, virtual_loss


def test_default_augmenter_does_nothing():
    virtual = Augmenter(5, 3)(torch.randn(4, 3), torch.randint(0, 5, (4,)))
    assert virtual.features.shape == (0, 3) and virtual.labels.shape == virtual.weights.shape == (0,)


def test_loss_is_the_weighted_mean_over_virtual_features():
    logits, labels, weights = torch.randn(4, 6), torch.tensor([0, 1, 2, 2]), torch.tensor([1.0, 0.5, 0, 2])
    each = torch.stack([F.cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in range(4)])
    expected = (weights * each).sum() / weights.sum()
    assert_close(virtual_loss(logits, Virtual(torch.zeros(4, 3), labels, weights)), expected)


def test_no_virtual_features_give_zero_with_a_gradient():
    fc = nn.Linear(3, 6)
    empty = Virtual(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    loss = virtual_loss(fc(empty.features), empty)
    loss.backward()
    assert loss == 0 and (fc.weight.grad == 0).all()
