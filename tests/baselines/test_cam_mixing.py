import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from fasa.augmenter import virtual_loss
from fasa.baselines.cam_mixing import CAMMixing, grad_cam

K, D, SHAPE = 6, 4, (3, 2, 4)
COUNTS = torch.tensor([500, 200, 150, 100, 99, 3])  # 0 to 3 are head classes, 4 and 5 tail classes


class Head(nn.Sequential):
    """Two layers and background, as a box head has them; float64 in tests of values."""

    def __init__(self, seed=0):
        super().__init__(nn.Flatten(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, K + 1))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.double()


def batch(seed, labels=None, size=20):
    generator = torch.Generator().manual_seed(seed)
    if labels is None:
        labels = torch.randint(0, K, (size,), generator=generator)
    labels = torch.as_tensor(labels, dtype=torch.int64)
    maps = torch.randn(len(labels), *SHAPE, generator=generator, dtype=torch.float64)
    return torch.zeros(len(labels), D, dtype=torch.float64), labels, maps


def new(**kwargs):
    method = CAMMixing(K, D, map_shape=SHAPE, **kwargs).double()
    method.initialise(COUNTS)
    return method


def slow_cam(x, label, head):
    """Grad-CAM of one map, (C, H, W), its gradient by the chain rule on paper."""
    w1, b1, w2 = (p.detach().numpy() for p in (head[1].weight, head[1].bias, head[3].weight))
    gradient = ((w2[label] * (w1 @ x.ravel() + b1 > 0)) @ w1).reshape(x.shape)
    cam = np.zeros(x.shape[1:])
    for channel, grad in zip(x, gradient, strict=True):
        cam += grad.mean() * channel
    cam = np.maximum(cam, 0)
    span = cam.max() - cam.min()
    return (cam - cam.min()) / span if span else np.zeros_like(cam)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_grad_cam_equals_the_chain_rule_on_paper(seed):
    head, (_, labels, maps) = Head(seed), batch(seed, size=5)
    cam = grad_cam(maps, labels, head)
    expected = [slow_cam(x.numpy(), label, head) for x, label in zip(maps, labels.tolist(), strict=True)]
    assert_close(cam, torch.tensor(np.array(expected)))


def test_grad_cam_by_hand():
    # Score 0 is sum(A_0) - sum(A_1), score 1 sum(A_1): gradients, and so channel weights, of 1, -1 and 0, 1.
    def head(maps):
        total = maps.sum((2, 3))
        return torch.stack([total[:, 0] - total[:, 1], total[:, 1]], 1)

    maps = torch.tensor([[[[5.0, 1, 2]], [[1, 1, 4]]]])  # differences 4, 0, -2
    assert grad_cam(maps, torch.tensor([0]), head).tolist() == [[[1.0, 0.0, 0.0]]]
    assert_close(grad_cam(maps, torch.tensor([1]), head), torch.tensor([[[0.0, 0.0, 1.0]]]))
    assert grad_cam(-maps, torch.tensor([1]), head).tolist() == [[[0.0, 0.0, 0.0]]]  # nothing: no 0 / 0


def test_grad_cam_leaves_the_training_graph_alone():
    head, (_, labels, maps) = Head(), batch(0)
    maps.requires_grad_()
    loss = head(maps).logsumexp(1).sum()
    with torch.no_grad():
        cam = grad_cam(maps, labels, head)
    assert not cam.requires_grad and maps.grad is None and all(p.grad is None for p in head.parameters())
    loss.backward()
    alone = maps.detach().clone().requires_grad_()
    head(alone).logsumexp(1).sum().backward()
    assert torch.equal(maps.grad, alone.grad)


def test_confusion_is_the_running_mean_softmax():
    method, head, slow = new(momentum=0.25), Head(), {}
    for step in range(8):
        z, labels, maps = batch(step, size=7)
        method(z, labels, maps, head)
        softmax = head(maps)[:, :K].detach().exp().numpy()
        softmax /= softmax.sum(1, keepdims=True)
        for c in set(labels.tolist()):
            mean = softmax[labels.numpy() == c].mean(0)
            slow[c] = 0.75 * slow[c] + 0.25 * mean if c in slow else mean
    assert method.seen.tolist() == [c in slow for c in range(K)] and len(slow) > 3
    for c, row in slow.items():
        assert_close(method.confusion[c], torch.tensor(row))


def explain(x, own, partners, head):
    """The partner, (map, label), of a virtual map made of `own`; and who gave where both could."""
    own_map, label = own
    specific = slow_cam(own_map.numpy(), label, head) > 0.3
    for partner, partner_label in partners:
        generic = slow_cam(partner.numpy(), partner_label, head) < 0.6
        theirs, mine = (x == partner).all(0).numpy(), (x == own_map).all(0).numpy()
        if (theirs | mine).all() and (theirs == generic)[~(specific & generic)].all():
            return partner, theirs[specific & generic]
    return None, None


@pytest.mark.parametrize("bank", [0, 2])
def test_every_vector_comes_from_where_the_cams_say(bank):
    head, both, made = Head(3), [], 0
    method = new(bank=bank, confusing=2, samples=2)
    for step in range(25):
        z, labels, maps = batch(step)
        virtual = method(z, labels, maps, head)
        confusing = {c: method.confusion[c, :4].argsort(descending=True)[:2].tolist() for c in (4, 5)}
        if bank:
            pool = [(x, c) for c in range(K) for x in method.bank.values[c][method.bank.filled[c]]]
        else:
            pool = list(zip(maps, labels.tolist(), strict=True))
        rows = iter(zip(virtual.features, virtual.labels.tolist(), strict=True))
        for own, label in zip(maps, labels.tolist(), strict=True):
            if label < 4 or not slow_cam(own.numpy(), label, head).any():
                continue
            partners = [(x, c) for x, c in pool if c in confusing[label]]
            chosen = []
            for _ in range(min(2, len(partners))):
                x, virtual_label = next(rows)
                partner, theirs = explain(x, (own, label), partners, head)
                assert virtual_label == label and partner is not None
                assert not any(partner is other for other in chosen)  # drawn without replacement
                chosen.append(partner)
                both.extend(theirs)
                made += 1
        assert next(rows, None) is None
    assert made > 100 and abs(np.mean(both) - 0.5) < 4 / (2 * len(both) ** 0.5)  # a fair coin


def test_all_partners_of_a_pool_are_drawn():
    method, head = new(bank=0, confusing=1, samples=1), Head()
    z, labels, maps = batch(0, [0, 1, 2, 3] * 2 + [4] * 60)
    maps[8:] = batch(1, [4])[2]  # one tail RoI sixty times: only partners and coins differ
    virtual = method(z, labels, maps, head)
    most = method.confusion[4, :4].argmax().item()
    partners = [(maps[i], most) for i in (most, most + 4)]
    hits = [
        explain(x, (maps[8], 4), [partner], head)[0] is not None
        for x in virtual.features
        for partner in partners
    ]
    assert len(virtual.labels) == 60 and 15 < sum(hits[::2]) < 45 and 15 < sum(hits[1::2]) < 45


def test_batch_only_mode_misses_what_the_bank_remembers():
    head, steps = Head(), [[0, 1, 2, 3], [4, 4, 4], [0, 1, 2, 3, 4], [4, 5], [5, 0]]
    counters = {}
    for bank in (0, 1):
        method = new(bank=bank, confusing=4)
        for step, labels in enumerate(steps):
            method(*batch(step, labels), head)
        counters[bank] = method.attempts.item(), method.found.item()
    assert counters == {0: (7, 2), 1: (7, 7)}


def test_tail_is_what_the_counts_say():
    head, data = Head(), batch(0, list(range(K)) * 4)
    assert set(new(confusing=6)(*data, head).labels.tolist()) == {4, 5}
    assert set(new(confusing=6, tail=3)(*data, head).labels.tolist()) == set()
    assert set(new(confusing=6, tail=200)(*data, head).labels.tolist()) == {2, 3, 4, 5}
    nobody = new(confusing=6, tail=1000)  # no head class: no class-generic part
    assert len(nobody(*data, head).labels) == 0 and (nobody.attempts, nobody.found) == (24, 0)


def test_a_tail_roi_without_a_specific_position_gives_nothing():
    z, labels, maps = batch(0, [0, 1, 2, 3, 4, 5])
    maps[4] = 0  # its CAM is 0 everywhere
    method = new()
    virtual = method(z, labels, maps, Head())
    assert 4 not in virtual.labels.tolist() and method.attempts == method.found == 2
    assert virtual.labels.tolist().count(5) == 3


def test_grad_cam_is_float32_under_autocast():
    head, (_, labels, maps) = Head().float(), batch(0)
    maps = maps.float()
    inside, outside = new().float(), new().float()
    with torch.autocast("cpu", torch.bfloat16):
        cam = grad_cam(maps, labels, head)
        inside(maps[:, 0, 0], labels, maps, head)
    outside(maps[:, 0, 0], labels, maps, head)
    assert torch.equal(cam, grad_cam(maps, labels, head))
    assert torch.equal(inside.confusion, outside.confusion)


@pytest.mark.parametrize("autocast", [False, True])
def test_head_gets_gradient_from_the_virtual_loss_alone(autocast):
    head, method = Head().float(), new().float()
    z, labels, maps = batch(0, [0, 1, 2, 3, 4, 5])
    maps = maps.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        virtual = method(z, labels, maps.bfloat16() if autocast else maps, head)
        assert all(p.grad is None for p in head.parameters()) and not virtual.features.requires_grad
        # In one autocast region, which may keep weights cast under no_grad.
        virtual_loss(head(virtual.features), virtual).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters()) and maps.grad is None
    state = (virtual.features, method.confusion, method.bank.values)
    assert all(x.dtype == torch.float32 and not x.requires_grad for x in state)


@pytest.mark.parametrize("bank", [0, 2])
@pytest.mark.parametrize("labels", [[], [0], [4], [0, 1], [4, 5]])
def test_small_batches(labels, bank):
    def head(maps):
        assert len(maps)  # not every head takes an empty batch
        return Head()(maps)

    method = new(bank=bank)
    virtual = method(*batch(0, labels), head)
    assert len(virtual.features) == len(virtual.labels) == len(virtual.weights) == 0
    assert method.seen.nonzero().flatten().tolist() == labels and method.found == 0


def test_bank_and_confusion_are_gathered_during_the_warmup():
    method, head = new(warmup=2, confusing=4), Head()
    for step in range(2):
        assert len(method(*batch(step), head).labels) == 0
    assert method.bank.pushed.sum() >= K and method.seen.all() and method.attempts == 0
    assert set(method(*batch(2, [4, 5]), head).labels.tolist()) == {4, 5}


def test_initialise_keeps_what_was_gathered_and_forgets_the_counters():
    method = new()
    for step in range(3):
        method(*batch(step), Head())
    assert method.found > 0
    kept = method.confusion.clone(), method.bank.values.clone()
    method.initialise(COUNTS.flip(0))
    assert method.attempts == method.found == method.iteration == method.drawn.sum() == 0
    assert torch.equal(method.confusion, kept[0]) and torch.equal(method.bank.values, kept[1])
    assert method.counts.tolist() == COUNTS.tolist()[::-1]


@pytest.mark.parametrize("bank", [0, 2])
def test_resume_from_state_dict_is_exact(bank):
    whole, first, head = new(bank=bank, seed=7), new(bank=bank, seed=7), Head()
    for step in range(4):
        whole(*batch(step), head), first(*batch(step), head)
    second = CAMMixing(K, D, map_shape=SHAPE, bank=bank, seed=7).double()
    second.load_state_dict(first.state_dict())
    made = 0
    for step in range(4, 8):
        before = torch.get_rng_state()
        a, b = whole(*batch(step), head), second(*batch(step), head)
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        made += len(a.labels)
    assert made
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_refuses_to_mix_without_counts():
    with pytest.raises(RuntimeError, match="call initialise"):
        CAMMixing(K, D, map_shape=SHAPE).double()(*batch(0), Head())


@pytest.mark.parametrize(
    "wrong",
    [dict(confusing=0), dict(samples=0), dict(bank=-1), dict(momentum=0)]
    + [dict(threshold_specific=1.0), dict(threshold_generic=0.0)],
)
def test_refuses_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) + "="):
        CAMMixing(K, D, **wrong)
