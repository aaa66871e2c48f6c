import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fasa.classification.losses import LDAM, LOSSES, BalancedSoftmax, CrossEntropy

COUNTS = torch.tensor([500, 81, 16, 1])


@pytest.fixture
def batch():
    """Logits and labels; not every class is there."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 4, generator=generator), torch.tensor([0, 0, 0, 1, 2, 1])


def rows(batch):
    """Logits and label of each image, in Python's numbers."""
    return zip(*map(torch.Tensor.tolist, batch), strict=True)


def test_cross_entropy(batch):
    slow = [-math.log(math.exp(x[y]) / sum(map(math.exp, x))) for x, y in rows(batch)]
    assert_close(CrossEntropy(COUNTS)(*batch, 0.0).item(), sum(slow) / 6, rtol=1e-5, atol=0)


def test_balanced_softmax_counts_each_exponential_as_often_as_its_class(batch):
    slow = []
    for x, y in rows(batch):
        terms = [n * math.exp(one) for n, one in zip(COUNTS.tolist(), x, strict=True)]
        slow.append(-math.log(terms[y] / sum(terms)))
    assert_close(BalancedSoftmax(COUNTS)(*batch, 0.0).item(), sum(slow) / 6, rtol=1e-5, atol=0)


def test_class_without_images_is_no_candidate(batch):
    logits, labels = batch
    logits.requires_grad_()
    counts = torch.tensor([5, 4, 3, 0])
    value = BalancedSoftmax(counts)(logits, labels, 0.0)
    assert_close(value, F.cross_entropy(logits[:, :3] + counts[:3].log(), labels))
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all() and (gradient[:, 3] == 0).all()
    assert LDAM(counts)(logits, labels, 1.0).isfinite()


def test_margins_of_ldam(batch):
    """0.5 for one image, half of that for sixteen, a third for 81; added at s = 30 to the label alone."""
    logits, labels = batch
    loss = LDAM(COUNTS)
    assert_close(loss.margins, torch.tensor([0.5 / 500**0.25, 0.5 / 3, 0.25, 0.5]))
    slow = []
    for x, y in rows(batch):
        x[y] -= 30 * loss.margins[y].item()
        slow.append(-math.log(math.exp(x[y]) / sum(map(math.exp, x))))
    assert_close(loss(logits, labels, 0.0).item(), sum(slow) / 6, rtol=1e-5, atol=0)
    assert LDAM(torch.tensor([4, 4])).margins.tolist() == [0.5, 0.5]


def test_deferred_weights_of_ldam(batch):
    logits, labels = batch
    loss = LDAM(COUNTS)
    weights = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS.tolist()]
    weights = [4 * w / sum(weights) for w in weights]
    assert_close(loss.weights, torch.tensor(weights), rtol=1e-5, atol=0)
    assert_close(loss.weights.sum().item(), 4.0)
    each = torch.stack([loss(logits[i : i + 1], labels[i : i + 1], 0.0) for i in range(6)])
    mine = torch.tensor([weights[y] for y in labels])
    assert_close(loss(logits, labels, 159 / 200), each.mean())
    for progress in (160 / 200, 24 / 30, 1.0):
        assert_close(loss(logits, labels, progress), (mine * each).sum() / mine.sum())


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_under_amp_and_have_gradients(name, batch):
    logits, labels = batch
    logits = logits.bfloat16().requires_grad_()
    loss = LOSSES[name](COUNTS)(logits, labels, 0.9)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad.abs().sum() > 0
