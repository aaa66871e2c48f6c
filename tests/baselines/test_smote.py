import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fasa.baselines.smote import SMOTE

K, D = 5, 4


def batch(seed, size=12):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K - 1, (size,), generator=generator)  # class K - 1 is never seen
    return torch.randn(size, D, generator=generator), labels


def fill(smote, c, values):
    smote.bank.values[c, : len(values)] = torch.tensor(values)
    smote.bank.pushed[c] = len(values)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def weight_of(x, a, b):
    """lam of ``x = lam * a + (1 - lam) * b``, or None where x is not on that line."""
    lam = ((x - b) @ (a - b) / ((a - b) @ (a - b))).item()
    return lam if torch.allclose(x, lam * a + (1 - lam) * b, atol=1e-5) else None


def test_draws_from_the_nearest_by_cosine_alone():
    smote = SMOTE(2, 2, k=2, bank=4)
    # By angle from (1, 0): 180, 90, 45 and 5.7 degrees; by Euclid the third is the furthest.
    fill(smote, 1, [[-1.0, 0], [0, 1], [30, 30], [10, 1]])
    z, labels = torch.tensor([[1.0, 0]]).repeat(401, 1), torch.ones(401, dtype=torch.int64)
    virtual = smote.virtual(z, labels)
    assert virtual.labels.tolist() == [1] * 401 and virtual.weights.tolist() == [1.0] * 401
    features = virtual.features[1:]  # the newest slot stands for row 0 itself in iteration 0
    near, diagonal = (
        [lam for x in features if (lam := weight_of(x, z[0], smote.bank.values[1, j])) is not None]
        for j in (3, 2)
    )
    assert len(near) + len(diagonal) == 400 and 150 < len(near) < 250  # uniform among the two
    for lams in (near, diagonal):
        assert all(0 < lam <= 1 + 1e-5 for lam in lams)
        assert abs(sum(lams) / len(lams) - 0.5) < 5 / math.sqrt(12 * len(lams))  # uniform: variance 1/12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 6), st.integers(0, 20))
def test_every_sample_lies_between_its_embedding_and_one_of_the_nearest(seed, k, bank, size):
    smote = SMOTE(K, D, k=k, bank=bank, seed=seed)
    for step in range(4):
        z, labels = batch(seed + step, size)
        virtual = smote(z, labels)
    slots = smote.bank.filled
    made = 0
    for i, (x, c) in enumerate(zip(z, labels.tolist(), strict=True)):
        others = [e for e in smote.bank.values[c][slots[c]] if not torch.equal(e, x)]
        others.sort(key=lambda e: -cosine(x.tolist(), e.tolist()))
        if others:
            lams = [weight_of(virtual.features[made], x, e) for e in others[:k]]
            assert any(lam is not None and 0 < lam <= 1 + 1e-4 for lam in lams), i
            assert virtual.labels[made] == c
            made += 1
    assert made == len(virtual.labels)


def test_siblings_are_at_most_one_of_the_neighbours():
    smote = SMOTE(K, D, k=5, bank=5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):  # four other steps, each with one object far away
        smote(torch.randn(1, D, generator=generator), torch.tensor([2]))
    old = smote.bank.values[2, :4].clone()
    siblings = torch.ones(500, D) + 1e-3 * torch.randn(500, D, generator=generator)
    virtual = smote(siblings, torch.full((500,), 2))
    from_old = sum(
        any(weight_of(x, z, e) is not None for e in old)
        for x, z in zip(virtual.features, siblings, strict=True)
    )
    assert 350 < from_old < 450  # four of five neighbours


def test_an_embedding_is_not_its_own_neighbour():
    smote, z = SMOTE(K, D), torch.randn(3, D)
    assert len(smote(z, torch.tensor([0, 1, 2])).labels) == 0
    second = smote(z + 1, torch.tensor([0, 3, 2]))  # class 3 is new
    assert second.labels.tolist() == [0, 2]


def test_first_step_finds_a_neighbour_in_the_batch():
    z = torch.randn(2, D)
    virtual = SMOTE(K, D, seed=3)(z, torch.tensor([1, 1]))  # iteration 1: row 1 enters the bank
    assert virtual.labels.tolist() == [1]
    assert 0 < weight_of(virtual.features[0], z[0], z[1]) <= 1


def test_only_constants_come_out():
    smote = SMOTE(K, D)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16):
            virtual = smote(torch.randn(30, D, dtype=dtype).requires_grad_(), batch(0, 30)[1])
    assert virtual.features.dtype == smote.bank.values.dtype == torch.float32
    assert len(virtual.labels) and not virtual.features.requires_grad and not smote.bank.values.requires_grad


def test_bank_fills_during_the_warmup():
    smote = SMOTE(K, D, warmup=2)
    made = [len(smote(*batch(step, 40)).labels) for step in range(3)]
    assert made == [0, 0, 40] and smote.bank.pushed[: K - 1].tolist() == [3] * (K - 1)


def test_empty_batch_and_empty_bank():
    virtual = SMOTE(K, D)(torch.zeros(0, D), torch.zeros(0, dtype=torch.int64))
    assert virtual.features.shape == (0, D) and virtual.labels.shape == virtual.weights.shape == (0,)


def test_resume_from_state_dict_is_exact():
    whole, first, second = (SMOTE(K, D, bank=3, seed=7) for _ in range(3))
    for step in range(5):
        whole(*batch(step)), first(*batch(step))
    second.load_state_dict(first.state_dict())
    for step in range(5, 9):
        before = torch.get_rng_state()
        a, b = whole(*batch(step)), second(*batch(step))
        assert torch.equal(before, torch.get_rng_state())
        assert len(a.labels) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_seeds_and_steps_differ():
    z, labels = batch(0, 40)
    smote, other = SMOTE(K, D, bank=1, seed=0), SMOTE(K, D, bank=1, seed=1)
    first, again, otherwise = smote(z, labels), smote(z, labels), other(z, labels)
    assert not torch.equal(first.features, otherwise.features)
    assert not torch.equal(first.features, again.features)


def test_weights_match_the_interface():
    z, labels = batch(1, 40)
    smote = SMOTE(K, D)
    smote(z, labels)
    virtual = smote(z, labels)
    assert_close(virtual.weights, torch.ones(40))
    assert virtual.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("wrong", [dict(k=0), dict(bank=0)])
def test_refuses_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        SMOTE(K, D, **wrong)
