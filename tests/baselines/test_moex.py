from statistics import fmean, variance

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fasa.augmenter import virtual_loss
from fasa.baselines.moex import MoEx, exchange_moments

K, D = 9, 6


def batch(seed=0, size=K):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, D, generator=generator) * 3 + 1, torch.randperm(K, generator=generator)[:size]


def slow_exchange(x, partner, eps):
    """One sample at a time, in Python floats."""
    moments = [(fmean(row), (variance(row) + eps) ** 0.5) for row in x]
    return [
        [(value - moments[i][0]) / moments[i][1] * moments[j][1] + moments[j][0] for value in x[i]]
        for i, j in enumerate(partner)
    ]


def test_exchange_by_hand():
    # means 2 and 20, variances 1 and 100
    x = torch.tensor([[1.0, 2, 3], [10, 20, 30]], dtype=torch.float64)
    swapped = exchange_moments(x, torch.tensor([1, 0]), eps=1e-12)
    assert_close(swapped, x.flip(0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from([1e-5, 0.5]))
def test_exchange_equals_slow_twin(seed, size, eps):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, D, generator=generator, dtype=torch.float64)
    partner = torch.randperm(size, generator=generator)
    expected = torch.tensor(slow_exchange(x.tolist(), partner.tolist(), eps), dtype=torch.float64)
    assert_close(exchange_moments(x, partner, eps), expected)


def test_map_moments_are_those_of_each_position():
    generator = torch.Generator().manual_seed(0)
    x, partner = torch.randn(4, D, 2, 3, generator=generator), torch.tensor([2, 0, 3, 1])
    swapped = exchange_moments(x, partner)
    for h in range(2):
        for w in range(3):
            assert_close(swapped[:, :, h, w], exchange_moments(x[:, :, h, w], partner))


def test_constant_embedding_has_a_finite_gradient():
    x = torch.ones(2, D).requires_grad_()
    exchange_moments(x, torch.tensor([1, 0])).pow(2).sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()


@pytest.mark.parametrize("at", ["embedding", "map"])
def test_loss_is_the_authors(at):
    z, labels = batch()
    maps = torch.randn(K, D, 2, 2, generator=torch.Generator().manual_seed(1))
    fc = torch.nn.Linear(D if at == "embedding" else 4 * D, K + 1)
    moex = MoEx(K, D, at=at, lam=0.7)
    assert moex.needs_maps == (at == "map")
    virtual = moex(z, labels, maps)
    index = {c: i for i, c in enumerate(labels.tolist())}  # every class once: labels tell the partners
    partner = torch.tensor([index[c] for c in virtual.labels[K:].tolist()])
    assert sorted(partner.tolist()) == list(range(K)) and partner.tolist() != list(range(K))
    mixed = exchange_moments(z if at == "embedding" else maps, partner)
    scores = fc(mixed.flatten(1))
    expected = 0.7 * F.cross_entropy(scores, labels) + 0.3 * F.cross_entropy(scores, labels[partner])
    assert_close(virtual_loss(fc(virtual.features.flatten(1)), virtual), expected)
    assert moex.drawn.tolist() == [2] * K


def test_gradient_reaches_the_features_through_the_moments():
    z, labels = batch(size=2)
    z.requires_grad_()
    moex = MoEx(K, D, seed=next(s for s in range(20) if swaps(s)))
    first = moex(z, labels).features[0]
    (gradient,) = torch.autograd.grad(first @ torch.arange(1.0, D + 1), z)
    # What sample 0 becomes depends on sample 1 only through its two moments.
    assert gradient[0].any() and gradient[1].any()
    basis = torch.stack([torch.ones(D), z[1].detach()], 1)
    residual = gradient[1] - basis @ torch.linalg.lstsq(basis, gradient[1][:, None]).solution[:, 0]
    assert residual.abs().max() < 1e-4 * gradient[1].abs().max()


def swaps(seed):
    return MoEx(K, D, seed=seed)(*batch(size=2)).labels[2] == batch(size=2)[1][1]


def test_probability_is_of_whole_steps():
    moex = MoEx(K, D, p=0.3)
    sizes = [len(moex(*batch()).labels) for _ in range(1000)]
    assert set(sizes) == {0, 2 * K}
    assert abs(sizes.count(0) / 1000 - 0.7) < 4 * (0.21 / 1000) ** 0.5
    assert len(MoEx(K, D, p=0)(*batch()).labels) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_are_float32_whatever_comes_in(dtype):
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).mul(300).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        swapped = exchange_moments(x, torch.tensor([1, 2, 3, 0]))  # squares beyond 65504
    assert swapped.dtype == torch.float32
    assert_close(swapped, exchange_moments(x.float(), torch.tensor([1, 2, 3, 0])))


@pytest.mark.filterwarnings("error")  # the variance of nothing
@pytest.mark.parametrize("at", ["embedding", "map"])
def test_empty_batch_and_a_single_positive(at):
    moex = MoEx(K, D, at=at)
    virtual = moex(torch.zeros(0, D), torch.zeros(0, dtype=torch.int64), torch.zeros(0, D, 2, 2))
    assert len(virtual.features) == len(virtual.labels) == len(virtual.weights) == 0
    z, maps = torch.randn(1, D), torch.randn(1, D, 2, 2)
    alone = moex(z, torch.tensor([4]), maps)
    assert_close(alone.features, torch.cat([maps, maps] if at == "map" else [z, z]))
    assert alone.labels.tolist() == [4, 4]
    assert_close(alone.weights, torch.tensor([0.9, 0.1]))


def test_resume_from_state_dict_is_exact():
    whole, first, second = (MoEx(K, D, p=0.5, seed=7) for _ in range(3))
    for step in range(5):
        whole(*batch(step)), first(*batch(step))
    second.load_state_dict(first.state_dict())
    for step in range(5, 15):
        before = torch.get_rng_state()
        a, b = whole(*batch(step)), second(*batch(step))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(whole.drawn, second.drawn) and whole.drawn.any()


@pytest.mark.parametrize("wrong", [dict(p=1.5), dict(lam=-0.1), dict(eps=0), dict(at="stem")])
def test_refuses_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="MoEx: "):
        MoEx(K, D, **wrong)
