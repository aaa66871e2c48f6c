import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fasa.classification.accuracy import measure, shot_accuracy
from fasa.classification.batches import Images
from fasa.classification.resnet32 import ResNet32


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ResNet32(4, in_channels=1)


@pytest.fixture
def held_out(tiny):
    return Images(tiny.adapt, np.full(1, 100.0), np.full(1, 50.0), torch.device("cpu"))


def test_scores_equal_the_slow_loop(model, held_out, monkeypatch):
    monkeypatch.setattr("fasa.classification.accuracy.BATCH", 3)
    scores = measure(model, held_out, 4)
    losses, right = [[] for _ in range(4)], [[] for _ in range(4)]
    model.eval()
    with torch.no_grad():
        for x, label in held_out.in_order(1):
            logits = model(x)
            losses[label].append(F.cross_entropy(logits, label).item())
            right[label].append(logits[0].argmax().item() == label.item())
    assert scores.n.tolist() == [3, 3, 2, 0]
    for k in range(3):
        assert scores.loss[k].item() == pytest.approx(np.mean(losses[k]), rel=1e-5)
        assert scores.accuracy[k].item() == np.mean(right[k])
    assert scores.loss[3].isnan() and scores.accuracy[3].isnan()


def test_a_pass_leaves_no_trace(model, held_out):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    measure(model.train(), held_out, 4)
    assert model.training and torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_shot_groups_by_hand():
    counts = np.array([500, 101, 100, 20, 19, 5])
    per_class = np.array([90.0, 70.0, 60.0, 40.0, 30.0, np.nan])
    assert shot_accuracy(per_class, counts) == dict(many=80.0, medium=50.0, few=30.0)
    groups = shot_accuracy(per_class, counts, shots=(6, 500))
    assert math.isnan(groups["many"]) and groups["medium"] == 58.0 and math.isnan(groups["few"])
