import math
from statistics import mean, variance

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fasa.baselines.angular_transfer import AngularTransfer

K, D = 6, 5
COUNTS = [500, 300, 40, 3, 100, 0]  # head: 0, 1 and 4


def new_transfer(counts=None, **kwargs) -> AngularTransfer:
    transfer = AngularTransfer(K, D, **kwargs).double()
    transfer.initialise(torch.tensor(COUNTS if counts is None else counts))
    return transfer


def random_batch(generator, size=40):
    """Class 5 is never seen, and head classes, 0 and 1 above all, are spread more than the rest."""
    labels = torch.tensor([0, 1, 2, 3, 4, K])[torch.randint(0, 6, (size,), generator=generator)]
    spread = torch.tensor([3.0, 2, 0.3, 0.2, 0.5, 1, 1]).double()[labels][:, None]
    z = spread * torch.randn(size, D, generator=generator, dtype=torch.float64) + 1 + labels[:, None]
    return z, labels, torch.randn(K + 1, D, generator=generator, dtype=torch.float64)


def no_scores(z):
    return torch.full((len(z), K + 1), torch.nan)  # whoever looks at the linear scores is found out


def step(transfer, z, labels, weight):
    logits = transfer.logits(no_scores(z), z, weight, labels)
    foreground = labels < transfer.num_classes
    assert len(transfer(z[foreground], labels[foreground]).labels) == 0
    return logits


class SlowTransfer:
    """One embedding at a time, in Python floats."""

    def __init__(self, scale=20.0, margin=0.1, momentum=0.1):
        self.scale, self.margin, self.momentum = scale, margin, momentum
        self.mean, self.var = {}, {}

    def logits(self, z, labels, weight, eps):
        angles = [[self.angle(x, w) for w in weight] for x in z]
        for c in set(labels) - {K}:
            mine = [row[c] for row, label in zip(angles, labels, strict=True) if label == c]
            self.blend(self.mean, c, mean(mine))
            if len(mine) > 1:
                self.blend(self.var, c, variance(mine))
        lenders = [self.var[c] for c in range(K) if COUNTS[c] >= 100 and c in self.var]
        var_head = mean(lenders) if lenders else 0.0
        out = []
        for row, y, e in zip(angles, labels, eps, strict=True):
            tail = y != K and COUNTS[y] < 100
            alpha = max(var_head - self.var.get(y, 0.0), 0) ** 0.5 * e if tail else 0.0
            angle = [theta + alpha + self.margin * (j == y) for j, theta in enumerate(row)]
            out.append([self.scale * math.cos(min(max(a, 0), math.pi)) for a in angle])
        return out

    def blend(self, running, c, value):
        m = self.momentum
        running[c] = (1 - m) * running[c] + m * value if c in running else value

    @staticmethod
    def angle(x, w):
        dot = sum(a * b for a, b in zip(x, w, strict=True))
        return math.acos(dot / (sum(a * a for a in x) * sum(b * b for b in w)) ** 0.5)


def test_equals_slow_twin_over_many_steps():
    generator = torch.Generator().manual_seed(0)
    transfer, slow, moved = new_transfer(seed=3), SlowTransfer(), 0
    for size in [1, 2, 40, 3, 0, 40, 40, 7] * 3:
        z, labels, weight = random_batch(generator, size)
        eps = torch.randn(size, dtype=torch.float64, generator=transfer.generator()).tolist()
        expected = slow.logits(z.tolist(), labels.tolist(), weight.tolist(), eps)
        logits = step(transfer, z, labels, weight)
        assert_close(logits, torch.tensor(expected, dtype=torch.float64).view(size, K + 1))
        plain = transfer.logits(no_scores(z), z, weight)
        other = F.one_hot(labels, K + 1) == 0
        moved += ((logits - plain).where(other, 0).abs().amax(1) > 0.1).sum().item()
    assert moved > 50  # tail labels did get extra angles
    assert transfer.angles.seen.tolist() == [c in slow.mean for c in range(K)]
    for c in slow.var:
        assert_close(transfer.angles.mean[c].item(), slow.mean[c])
        assert_close(transfer.angles.var[c].item(), slow.var[c])


def test_equation_2_by_hand():
    """Angles of 30 and 60 degrees to the two rows, alpha fixed: Eq. 2 with its sum written out."""
    transfer = AngularTransfer(1, 2)  # one class and background
    transfer._alpha = lambda labels: torch.tensor([0.2, 0.0])
    z = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]]).repeat(2, 1) * 7
    weight, labels = torch.tensor([[3.0, 0], [0, 0.5]]), torch.tensor([0, 1])
    loss = F.cross_entropy(transfer.logits(no_scores(z), z, weight, labels), labels)
    label = [20 * math.cos(math.pi / 6 + 0.2 + 0.1), 20 * math.cos(math.pi / 3 + 0.1)]
    rest = [20 * math.cos(math.pi / 3 + 0.2), 20 * math.cos(math.pi / 6)]
    each = [math.log(math.exp(a) / (math.exp(a) + math.exp(b))) for a, b in zip(label, rest, strict=True)]
    assert_close(loss.item(), -mean(each), rtol=1e-5, atol=0)


def test_without_margin_and_extra_angle_it_is_a_plain_cosine_softmax():
    transfer = new_transfer(margin=0.0, warmup=1)
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    cosine = F.cosine_similarity(z[:, None], weight, dim=2)
    assert_close(transfer.logits(no_scores(z), z, weight, labels), 20 * cosine)
    assert_close(transfer.logits(no_scores(z), z, weight), 20 * cosine)


def test_test_time_has_neither_margin_nor_extra_angle_and_leaves_no_trace():
    transfer = new_transfer(scale=5.0, margin=1.0)
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    step(transfer, z, labels, weight)
    before = {name: value.clone() for name, value in transfer.state_dict().items()}
    assert_close(transfer.logits(no_scores(z), z, weight), 5 * F.cosine_similarity(z[:, None], weight, dim=2))
    z, labels, weight = random_batch(torch.Generator().manual_seed(1))
    transfer.eval().logits(no_scores(z), z, weight, labels)  # nor does a loss in eval mode leave one
    assert all(torch.equal(before[name], value) for name, value in transfer.state_dict().items())


@pytest.mark.parametrize("background_margin", [True, False])
def test_margin_lowers_the_label_alone_and_background_on_demand(background_margin):
    transfer = new_transfer(background_margin=background_margin, warmup=1)
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    change = transfer.logits(no_scores(z), z, weight, labels) - transfer.logits(no_scores(z), z, weight)
    own = change.gather(1, labels[:, None])[:, 0]
    assert (own[labels < K] < 0).all() and (labels == K).any()
    assert (own[labels == K] < -1e-3).all() if background_margin else (own[labels == K].abs() < 1e-5).all()
    assert_close(change.scatter(1, labels[:, None], 0), torch.zeros_like(change), rtol=0, atol=1e-5)


def test_extra_angle_has_the_missing_variance():
    transfer = new_transfer()
    transfer.angles.var.copy_(torch.tensor([0.05, 0.03, 0.01, 0.09, 0.01, 0])[:, None])
    transfer.angles.spread.copy_(torch.tensor([True, True, True, True, False, False]))  # 4 lends nothing
    labels = torch.arange(K + 1).repeat(20_000)
    alpha = transfer._alpha(labels).view(-1, K + 1)
    # head, head, tail, tail with more than the heads, head, tail without a variance, background
    assert_close(alpha.var(0), torch.tensor([0, 0, 0.03, 0, 0, 0.04, 0]).double(), rtol=0.05, atol=0)
    assert_close(alpha.mean(0), torch.zeros(K + 1).double(), rtol=0, atol=4 * (0.04 / 20_000) ** 0.5)


def test_no_head_class_has_nothing_to_lend():
    transfer = new_transfer(counts=[5] * K)
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    step(transfer, z, labels, weight)
    assert transfer.angles.spread.any() and (transfer._alpha(labels) == 0).all()


def test_transfer_begins_after_the_warmup_with_the_step_that_may_draw():
    transfer = new_transfer(warmup=3)
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    extra = []
    for _ in range(5):
        extra.append(transfer._alpha(labels).abs().max().item() > 0)
        step(transfer, z, labels, weight)
    assert extra == [False, False, False, True, True]
    assert transfer.angles.seen.any()


def test_angles_are_clamped_and_gradients_stay_finite_where_acos_has_none():
    transfer = AngularTransfer(2, 2, margin=0.5, warmup=1)
    z = torch.tensor([[1.0, 0], [-1, 0], [math.cos(3.0), math.sin(3.0)], [0, 0]], requires_grad=True)
    weight = torch.tensor([[2.0, 0], [0, 1], [1, 1]], requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1])
    logits = transfer.logits(z, z, weight, labels)
    expected = torch.tensor([math.cos(0.5), -1.0, -1.0, math.cos(math.pi / 2 + 0.5)]) * 20
    assert_close(logits[torch.arange(4), labels], expected, rtol=0, atol=0.03)  # acos of 1 - 1e-6 is 0.0014
    F.cross_entropy(logits, labels).backward()
    assert z.grad.isfinite().all() and weight.grad.isfinite().all() and weight.grad.any()
    assert z.grad.abs().max() < 1e6  # at 0, where the direction has no derivative


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_angles_are_float32_under_autocast(dtype):
    transfer = AngularTransfer(K, D, warmup=1)
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    z, weight = z.to(dtype), weight.float()
    expected = transfer.logits(no_scores(z), z, weight, labels)
    with torch.autocast("cpu", dtype=dtype):
        logits = transfer.logits(no_scores(z), z, weight, labels)
    assert logits.dtype == transfer.angles.var.dtype == torch.float32 and torch.equal(logits, expected)


def test_resume_from_state_dict_is_exact():
    generator = torch.Generator().manual_seed(3)
    batches = [random_batch(generator) for _ in range(6)]
    whole, first = new_transfer(seed=7), new_transfer(seed=7)
    for batch in batches[:3]:
        step(whole, *batch), step(first, *batch)
    second = AngularTransfer(K, D, seed=7).double()
    second.load_state_dict(first.state_dict(), strict=True)
    for batch in batches[3:]:
        assert torch.equal(step(whole, *batch), step(second, *batch))
    other = new_transfer(seed=8)
    other.load_state_dict(first.state_dict())
    assert not torch.equal(step(other, *batches[3]), step(first, *batches[3]))


def test_initialise_keeps_the_angular_moments():
    transfer = new_transfer()
    step(transfer, *random_batch(torch.Generator().manual_seed(0)))
    var = transfer.angles.var.clone()
    transfer.initialise(torch.arange(K))
    assert transfer.iteration == 0 and transfer.counts.tolist() == list(range(K))
    assert var.any() and torch.equal(transfer.angles.var, var)


def test_refuses_to_transfer_without_counts():
    z, labels, weight = random_batch(torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="call initialise"):
        AngularTransfer(K, D).logits(no_scores(z), z, weight, labels)


@pytest.mark.parametrize(
    "wrong", [dict(scale=0.0), dict(margin=-0.1), dict(margin=4.0), dict(momentum=0.0), dict(tail=-1)]
)
def test_refuses_wrong_arguments(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}") as error:
        AngularTransfer(K, D, **wrong)
    assert "\n" not in str(error.value)
