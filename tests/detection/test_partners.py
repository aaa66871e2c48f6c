import numpy as np
import pytest

from fasa.detection import partners


def test_partners_by_hand():
    # class 0 is the tail; 1 and 2 confuse it; one image holds 0 and 1, one 2, one 3
    images, tail = [[0, 1], [2], [3]], np.array([True, False, False, False])
    confusing = np.zeros((4, 4), dtype=bool)
    confusing[0, [1, 2]] = True
    assert partners.shares(images, tail, confusing, batch=3, batches=5) == (1.0, 1.0)
    some, every = partners.shares(images, tail, confusing, batch=1, batches=50)
    assert (some, every) == (1.0, 0.0)  # whenever the tail is there, class 1 is too
    some, every = partners.shares(images, tail, confusing, batch=2, batches=2000)
    assert some == 1.0 and every == pytest.approx(0.5, abs=0.06)


def test_without_a_tail_class_there_is_no_share():
    nothing = np.zeros((2, 2), dtype=bool)
    shares = partners.shares([[0], [1]], np.array([False, False]), nothing, batch=1, batches=3)
    assert all(np.isnan(shares))
