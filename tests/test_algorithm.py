import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_fasa import SlowFASA
from torch.testing import assert_close

from fasa import FASA
from fasa.algorithm import UNGROUPED, group_mean, inverse_frequency, uniform

K, D = 12, 5


def new_fasa(counts=None, **kwargs) -> FASA:
    fasa = FASA(K, D, **kwargs).double()
    fasa.initialise(torch.arange(K) if counts is None else counts)
    return fasa


def random_batch(generator, size=None):
    size = torch.randint(0, 30, (), generator=generator).item() if size is None else size
    labels = torch.randint(0, K - 1, (size,), generator=generator)  # class K - 1 is never seen
    z = (
        torch.randn(size, D, generator=generator, dtype=torch.float64) * (1 + labels[:, None])
        + labels[:, None]
    )
    return z, labels


@pytest.mark.parametrize("level", ["group", "class"])
def test_equals_slow_twin_over_many_steps(level):
    generator = torch.Generator().manual_seed(0)
    counts = torch.arange(K)  # class 0 has no instance
    fasa, slow = new_fasa(counts, prob_scale=4, level=level), SlowFASA(counts.tolist(), prob_scale=4)
    for step in range(120):
        z, labels = random_batch(generator)
        fasa(z, labels)
        slow.update(z.tolist(), labels.tolist())
        if step % 5 == 4:
            signal = torch.rand(K, generator=generator, dtype=torch.float64)
            signal[torch.rand(K, generator=generator) < 0.2] = math.nan
            fasa.adapt(signal)
            ids = fasa.groups.tolist()
            groups = [[c for c in range(K) if ids[c] == g] for g in set(ids) - {UNGROUPED}]
            if level == "class":
                groups = [[c] for c in range(K) if ids[c] != UNGROUPED]
            slow.adapt(signal.tolist(), groups)
            assert_close(fasa.probability.tolist(), slow.p, rtol=1e-6, atol=0)
    assert fasa.adaptations == 24
    assert fasa.moments.seen.tolist() == [c in slow.mean for c in range(K)]
    for c in slow.mean:
        assert_close(fasa.moments.mean[c].tolist(), slow.mean[c])
    for c in slow.var:
        assert_close(fasa.moments.var[c].tolist(), slow.var[c])


def test_inverse_frequency_by_hand():
    # 1/1 + 1/2 + 1/4 = 7/4: shares 4/7, 2/7, 1/7
    p = inverse_frequency(torch.tensor([1, 2, 4, 0]))
    assert_close(p, torch.tensor([4 / 7, 2 / 7, 1 / 7, 0]))
    assert_close(inverse_frequency(torch.tensor([1, 2, 4, 0]), scale=2.0)[0].item(), 1.0)
    assert_close(inverse_frequency(torch.tensor([1, 2, 4, 0]), power=2.0)[1].item(), 4 / 49)


def test_uniform_by_hand():
    assert uniform(torch.tensor([1, 9, 0, 3]), scale=2.0).tolist() == [0.5] * 4


@given(
    counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any),
    scale=st.floats(1e-3, 1e3),
    power=st.floats(0, 3),
)
def test_probabilities_are_probabilities(counts, scale, power):
    counts = torch.tensor(counts)
    p = inverse_frequency(counts, scale, power)
    assert ((p >= 0) & (p <= 1)).all() and (p[counts == 0] == 0).all() and (p[counts > 0] > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, math.nan]), min_size=K, max_size=K), st.integers(0, 99))
def test_adapted_probabilities_stay_in_range(signal, seed):
    fasa = new_fasa(prob_scale=100)
    fasa(*random_batch(torch.Generator().manual_seed(seed), 40))
    for factor in (1.0, 0.5, 0.25, 0.3):
        fasa.adapt(torch.tensor(signal) * factor)
        assert ((fasa.probability >= 0) & (fasa.probability <= 1)).all()


def test_group_mean_leaves_out_invalid_and_ungrouped():
    x = torch.tensor([1.0, 3.0, 7.0, 100.0, 5.0])
    groups = torch.tensor([0, 0, 1, UNGROUPED, 0])
    valid = torch.tensor([True, True, False, True, False])
    assert_close(group_mean(x, groups, valid), torch.tensor([2, 2, math.nan, math.nan, 2.0]), equal_nan=True)


def test_draw_follows_probability_and_moments():
    fasa = FASA(4, 2)
    fasa.initialise(torch.ones(4))
    fasa.probability.copy_(torch.tensor([0.0, 0.3, 1.0, 1.0]))
    fasa.moments.mean.copy_(torch.tensor([[9, 9], [9, 9], [-2.0, 5.0], [9, 9]]))
    fasa.moments.var.copy_(torch.tensor([[1, 1], [1, 1], [4.0, 0.25], [1, 1]]))
    fasa.moments.seen.copy_(torch.tensor([True, True, True, False]))
    none = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)
    draws = [fasa(*none) for _ in range(4000)]
    labels = torch.cat([draw.labels for draw in draws])
    assert labels.bincount(minlength=4).tolist() == fasa.drawn.tolist()
    assert fasa.drawn[0] == 0 and fasa.drawn[2] == 4000 and fasa.drawn[3] == 0
    assert abs(fasa.drawn[1].item() / 4000 - 0.3) < 4 * (0.21 / 4000) ** 0.5
    mine = torch.cat([draw.features for draw in draws])[labels == 2]
    assert_close(mine.mean(0), torch.tensor([-2.0, 5.0]), rtol=0, atol=4 * 2 / 4000**0.5)
    assert_close(mine.var(0), torch.tensor([4.0, 0.25]), rtol=0.1, atol=0)


def test_nothing_is_drawn_during_warmup_and_moments_are_gathered():
    fasa = new_fasa(prob_scale=1e6, warmup=3)
    z, labels = random_batch(torch.Generator().manual_seed(0), 50)
    sizes = [len(fasa(z, labels).labels) for _ in range(5)]
    assert sizes[:3] == [0, 0, 0] and sizes[3] > 0
    assert fasa.moments.seen.sum() == len(labels.unique())


def test_first_pass_only_records():
    fasa = new_fasa()
    fasa(*random_batch(torch.Generator().manual_seed(0), 50))
    before = fasa.probability.clone()
    fasa.adapt(torch.rand(K))
    assert torch.equal(fasa.probability, before)
    fasa.adapt(fasa.class_loss - 0.1)
    grouped = fasa.groups != UNGROUPED
    assert_close(fasa.probability[grouped], (before[grouped] * 1.1).clamp(max=1))
    assert torch.equal(fasa.probability[~grouped], before[~grouped])


def test_passes_during_the_warmup_only_record():
    fasa = new_fasa(warmup=2)
    before = fasa.probability.clone()
    for loss in (3.0, 2.0, 1.0):  # the third pass is the first after a draw
        fasa(*random_batch(torch.Generator().manual_seed(0), 50))
        assert torch.equal(fasa.probability, before)
        fasa.adapt(torch.full((K,), loss))
    grouped = fasa.groups != UNGROUPED
    assert_close(fasa.probability[grouped], (before[grouped] * 1.1).clamp(max=1))


def test_resume_from_state_dict_is_exact():
    generator = torch.Generator().manual_seed(3)
    batches = [random_batch(generator, 40) for _ in range(6)]
    whole, first = new_fasa(prob_scale=20, seed=7), new_fasa(prob_scale=20, seed=7)
    for z, labels in batches[:3]:
        whole(z, labels), first(z, labels)
    second = FASA(K, D, prob_scale=20, seed=7).double()
    second.load_state_dict(first.state_dict(), strict=True)
    for z, labels in batches[3:]:
        torch.manual_seed(0)  # the draws do not lean on the global generator
        a, b = whole(z, labels), second(z, labels)
        assert torch.equal(a.features, b.features) and torch.equal(a.labels, b.labels)
        signal = torch.rand(K)
        whole.adapt(signal), second.adapt(signal)
    for name, value in whole.state_dict().items():
        assert_close(value, second.state_dict()[name], rtol=0, atol=0, equal_nan=True)


def test_draws_leave_the_global_generator_alone():
    fasa = new_fasa(prob_scale=100)
    before = torch.get_rng_state()
    fasa(*random_batch(torch.Generator().manual_seed(0), 40))
    assert torch.equal(before, torch.get_rng_state())


def test_initialise_keeps_moments_and_forgets_the_rest():
    fasa = new_fasa(prob_scale=100)
    for _ in range(3):
        fasa(*random_batch(torch.Generator().manual_seed(0), 40))
        fasa.adapt(torch.rand(K))
    fresh, moments = new_fasa(prob_scale=100), fasa.moments.mean.clone()
    fasa.initialise(torch.arange(K))
    for name, value in fresh.state_dict().items():
        if not name.startswith("moments"):
            assert_close(fasa.state_dict()[name], value, equal_nan=True)
    assert torch.equal(fasa.moments.mean, moments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_are_float32_whatever_comes_in(dtype):
    fasa = FASA(K, D, prob_scale=1e6)
    fasa.initialise(torch.ones(K))
    z, labels = random_batch(torch.Generator().manual_seed(0), 40)
    z = z.to(dtype).requires_grad_()
    virtual = fasa(z, labels)
    assert virtual.features.dtype == fasa.moments.mean.dtype == torch.float32
    assert len(virtual.labels) and not virtual.features.requires_grad


def test_refuses_to_draw_without_counts():
    with pytest.raises(RuntimeError, match="call initialise"):
        FASA(K, D)(torch.zeros(0, D), torch.zeros(0, dtype=torch.int64))


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="3 counts for 12 classes"):
        FASA(K, D).initialise(torch.ones(3))
    with pytest.raises(ValueError, match="initial='invers'"):
        FASA(K, D, initial="invers")
