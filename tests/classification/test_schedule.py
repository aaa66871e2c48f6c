import pytest

from fasa.classification.job import Schedule
from fasa.classification.schedule import learning_rate


def test_learning_rate_of_every_epoch():
    """LDAM-DRW's, written out: 5 epochs of warm-up, a hundredth after 160, a hundredth of that after 180."""
    expected = [0.02, 0.04, 0.06, 0.08] + [0.1] * 156 + [0.001] * 20 + [0.00001] * 20
    assert [learning_rate(Schedule(epochs=200), epoch) for epoch in range(200)] == pytest.approx(expected)


def test_shorter_schedules_drop_at_the_same_shares():
    rates = [learning_rate(Schedule(epochs=30, lr=1.0, warmup=2), epoch) for epoch in range(30)]
    assert rates == pytest.approx([0.5] + [1.0] * 23 + [1e-2] * 3 + [1e-4] * 3)


def test_without_warmup():
    assert learning_rate(Schedule(epochs=10, warmup=0), 0) == 0.1
