from collections import defaultdict, deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fasa.baselines.bank import Bank, one_of_each

K = 4


def test_one_of_each_takes_them_in_turn():
    labels = torch.tensor([2, 0, 2, 2, 0])  # class 0 in rows 1, 4; class 2 in rows 0, 2, 3
    for turn, rows in enumerate([[1, 0], [4, 2], [1, 3], [4, 0]]):
        classes, mine = one_of_each(labels, K, torch.tensor(turn))
        assert classes.tolist() == [0, 2] and mine.tolist() == rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, K - 1), max_size=9), max_size=12), st.integers(0, 3))
def test_equals_a_deque_per_class(steps, size):
    bank, slow, number = Bank(K, size, (2, 1)), defaultdict(lambda: deque(maxlen=size)), 0.0
    for turn, labels in enumerate(steps):
        x = torch.arange(number, number + 2 * len(labels)).view(-1, 2, 1)
        number += 2 * len(labels)
        bank.push(x, torch.tensor(labels, dtype=torch.int64), turn)
        for c in set(labels):
            mine = [x[i].flatten().tolist() for i, label in enumerate(labels) if label == c]
            slow[c].append(mine[turn % len(mine)])
    for c in range(K):
        kept = bank.values[c][bank.filled[c]].flatten(1).tolist()
        assert sorted(kept) == sorted(slow[c])
        if kept:
            assert bank.values[c, (bank.pushed[c] - 1) % size].flatten().tolist() == slow[c][-1]


def test_keeps_float32_copies_without_gradient():
    bank = Bank(K, 2, (3,))
    x = torch.ones(2, 3, dtype=torch.float16).requires_grad_()
    bank.push(x, torch.tensor([1, 3]), 0)
    with torch.no_grad():
        x.zero_()
    assert bank.values.dtype == torch.float32 and not bank.values.requires_grad
    assert bank.values[[1, 3], 0].eq(1).all() and bank.filled.sum() == 2


def test_refuses_samples_that_would_spread_over_a_slot():
    with pytest.raises(ValueError, match=r"samples are \(1, 2\), slots \(3, 2\)"):
        Bank(K, 2, (3, 2)).push(torch.ones(1, 1, 2), torch.tensor([0]), 0)
