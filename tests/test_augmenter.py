import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fasa import FASA, SMOTE, Augmenter, Virtual, virtual_loss
from fasa.augmenter import check_arguments
from fasa.errors import UserError


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", [FASA, SMOTE])
def test_virtual_features_are_float32_in_the_warmup_as_after_it(method, dtype):
    """A classifier of another precision fails in the first step, not hours later."""
    augmenter = method(2, 3, warmup=1)
    augmenter.initialise(torch.ones(2))
    z, labels = torch.randn(8, 3), torch.arange(8) % 2
    found = [augmenter(z.to(dtype), labels) for _ in range(9)]
    assert sum(len(virtual.labels) for virtual in found)
    assert {virtual.features.dtype for virtual in found} == {torch.float32}


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda one: one(torch.ones(2, 1), torch.zeros(2).long()),
            r"FASA: embeddings \(2, 1\), not \(N, 3\)",
        ),
        (lambda one: one.initialise(torch.tensor([0.5, 0.5])), "FASA: 0.5 is no number of instances"),
        (lambda one: one.initialise(torch.tensor([3, -1])), "FASA: -1 is no number of instances"),
        (lambda one: one.initialise([3, math.nan]), "FASA: nan is no number of instances"),
        (lambda one: one.adapt([0.1, 0.2, 0.3]), r"FASA: a signal \(3,\) for 2 classes"),
        (lambda one: FASA(2, 3, groups=0.05), "FASA: groups is 0.05; it must be a dict"),
        (lambda one: FASA(2, 3, warmup="100"), "FASA: warmup is '100'; it must be 0 or more"),
    ],
)
def test_a_wrong_call_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as info:
        call(FASA(2, 3))
    assert "\n" not in str(info.value)


def test_lists_and_arrays_are_signals_too():
    augmenter = FASA(2, 3)
    augmenter.initialise(np.array([3, 5]))
    augmenter.adapt(np.array([0.5, np.nan]))
    assert augmenter.measured.tolist() == [1, 0]


@pytest.mark.parametrize(
    "labels", [torch.zeros(1).long(), torch.zeros(2), torch.zeros(2, 1).long(), torch.zeros(2).bool()]
)
def test_labels_are_one_whole_number_each(labels):
    augmenter = FASA(2, 3)
    with pytest.raises(ValueError, match=r"FASA: labels .*, not \(2,\) int64"):
        augmenter(torch.ones(2, 3), labels)
    assert augmenter.iteration == 0


@pytest.mark.parametrize("method", [FASA, SMOTE])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(seed="x"),
            "seed is 'x'; it must be a whole number",
        ),  # Python's hash of text differs by process
        (dict(num_classes=0), "num_classes is 0; it must be a whole number from 1"),
        (dict(width=0), "width is 0; it must be a whole number from 1"),
    ],
)
def test_what_every_method_takes_is_checked(method, arguments, message):
    with pytest.raises(UserError, match=message):
        method(**dict(num_classes=2, width=3) | arguments)


def test_a_method_of_ones_own_may_hand_arguments_on():
    class Mine(FASA):
        def __init__(self, num_classes, width, bonus=1.0, **more):
            super().__init__(num_classes, width, **more)

    check_arguments(Mine, dict(prob_scale=4, bonus=2), "augmenter", set())
    with pytest.raises(UserError, match="augmenter.bonus is 'x', not a number"):
        check_arguments(Mine, dict(prob_scale=4, bonus="x"), "augmenter", set())
    with pytest.raises(UserError, match="augmenter.bonus is unknown"):
        check_arguments(FASA, dict(bonus=2), "augmenter", set())
