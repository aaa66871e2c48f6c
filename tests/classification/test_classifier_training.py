import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fasa.classification.accuracy import ClassScores
from fasa.classification.batches import Images, channel_moments, epoch_generator
from fasa.classification.job import Row, Schedule
from fasa.classification.learner import Learner, build_augmenter
from fasa.classification.progress import Progress
from fasa.classification.training import adapt, train
from fasa.errors import UserError

SHORT = Schedule(epochs=5, batch=8, lr=0.05, warmup=2, crop=1)  # three iterations an epoch
FASA = dict(type="FASA", prob_scale=4)
NAN = float("nan")
pytestmark = pytest.mark.filterwarnings("ignore:all 4 classes fell into one group")


def run(data, work_dir, row=None, schedule=SHORT, seed=0, **options):
    return train(data, schedule, row or Row(), seed, threads=1, work_dir=work_dir, device="cpu", **options)


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_outcome(tiny, tmp_path):
    rng = torch.get_rng_state()
    out = run(tiny, tmp_path, Row(augmenter=FASA, adapt_every=2), shots=(3, 5))
    assert torch.equal(rng, torch.get_rng_state())
    assert [set(one) for one in out.curve] == [{"lr", "loss", "loss_virtual"}] * 5
    assert [one["lr"] for one in out.curve] == pytest.approx([0.025, 0.05, 0.05, 0.05, 0.0005])
    assert out.per_class.shape == (4,) and out.accuracy == pytest.approx(out.per_class.mean())
    assert out.shots == pytest.approx(
        dict(many=out.per_class[0], medium=out.per_class[1:3].mean(), few=out.per_class[3])
    )
    assert [one["iteration"] for one in out.history] == [6, 12]
    assert np.isnan(out.history[0]["class_loss"]).tolist() == [False, False, False, True]
    assert len(out.drawn) == 4 and sum(out.drawn) > 0 and out.images_per_second > 0
    json.dumps(out.curve + out.history)  # plain data


def test_accuracy_is_over_images_and_in_percent(tiny, tmp_path):
    labels = np.array([0] * 8 + [1] * 6 + [2] * 2)  # no image of the last class
    out = run(tiny._replace(test=tiny.test._replace(labels=labels)), tmp_path)
    assert out.accuracy == pytest.approx(np.nansum(out.per_class * [8, 6, 2, 0]) / 16)
    assert 0 <= out.accuracy <= 100 and np.isnan(out.per_class[3])
    assert out.history == out.drawn == []


def test_learner_that_never_draws_is_plain_training(tiny, tmp_path):
    """Bit for bit, adaptation passes and all."""
    plain = run(tiny, tmp_path / "plain")
    idle = run(tiny, tmp_path / "idle", Row(augmenter=FASA | dict(warmup=5)))
    drawing = run(tiny, tmp_path / "drawing", Row(augmenter=FASA))
    assert same(plain.state_dict, idle.state_dict) and sum(idle.drawn) == 0 and len(idle.history) == 5
    assert not same(plain.state_dict, drawing.state_dict)


def test_plain_training_is_the_loop_anyone_would_write(tiny, tmp_path):
    schedule = Schedule(epochs=2, batch=8, lr=0.01, warmup=2, crop=1)  # longer, and rounding would grow
    model = Learner(torch.tensor(tiny.counts), 1, schedule, Row(), seed=0).model
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    images = Images(tiny.train, *channel_moments(tiny.train.images), torch.device("cpu"))
    for epoch, lr in enumerate([0.005, 0.01]):
        for x, labels in images.shuffled(8, 1, False, epoch_generator(0, epoch)):
            loss = torch.nn.functional.cross_entropy(model(x), labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
                    velocity[name] = 0.9 * velocity[name] + (gradient + 2e-4 * p)
                    p -= lr * velocity[name]
    out = run(tiny, tmp_path, schedule=schedule).state_dict
    for name, value in model.state_dict().items():
        assert_close(out[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "ldam_drw"])
def test_virtual_features_move_the_classifier_alone(tiny, loss):
    """One step with and without them, from the same weights."""
    after = []
    for augmenter in (None, FASA | dict(prob_scale=100)):
        row = Row(loss=loss, augmenter=augmenter)
        learner = Learner(torch.tensor(tiny.counts), 1, SHORT, row, seed=0)
        images = Images(tiny.train, np.zeros(1), np.ones(1), torch.device("cpu"))
        losses = [learner.step(*batch, 0.0) for batch in images.in_order(19)]
        after.append(learner.model.state_dict())
    assert losses[0]["loss_virtual"] > 0
    changed = {name for name in after[0] if not torch.equal(after[0][name], after[1][name])}
    assert changed == {name for name in after[0] if name.startswith("classifier.")}


def test_warmup_is_in_epochs_and_counts_are_known():
    counts = torch.tensor([8, 4])
    augmenter = build_augmenter(Row(augmenter=FASA | dict(warmup=2)), counts, iterations=10, seed=7)
    assert augmenter.warmup == 20 and augmenter.seed == 7
    assert_close(augmenter.probability, torch.tensor([1.0, 1.0]))  # 4 * 1/3 and 4 * 2/3, clamped
    assert build_augmenter(Row(), counts, 10, 7) is None


def passes(tiny, signal, values, level="group"):
    """Records of adaptation passes with given values, after one step."""
    row = Row(augmenter=dict(type="FASA", prob_scale=1, level=level), signal=signal)
    learner = Learner(torch.tensor(tiny.counts), 1, SHORT, row, seed=0)
    learner.augmenter.iteration += 1
    learner.augmenter.moments.seen.fill_(True)
    learner.augmenter.moments.mean.copy_(torch.eye(64)[[0, 0, 1, 1]])  # two pairs of classes
    learner.augmenter.group = lambda means: np.array([0, 0, 1, 1])
    records = []
    for one in values:
        one = torch.tensor(one, dtype=torch.float64)
        records.append(
            adapt(learner, ClassScores(torch.ones(4), one, one, one > 0), signal, len(records) + 1)
        )
    return records


@pytest.mark.parametrize(
    ("signal", "level", "factors"),
    [
        ("loss", "class", [1.1, 0.9, 1.0, 1.0]),
        ("loss", "group", [1.1, 1.1, 0.9, 0.9]),
        ("metric", "class", [0.9, 1.1, 1.0, 1.0]),
        ("metric", "group", [0.9, 0.9, 1.1, 1.1]),
    ],
)
def test_signals_and_levels(tiny, signal, level, factors):
    """Class 0 falls more than class 1 rises; of the other pair, one stands and one is measured only once."""
    values = [[0.9, 0.3, 0.5, NAN], [0.5, 0.4, 0.5, 0.8]]
    if level == "group":
        values[1][2] = 0.6
    first, second = passes(tiny, signal, values, level)
    key = dict(loss="class_loss", metric="class_accuracy")[signal]
    assert first[key][:3] == [0.9, 0.3, 0.5] and second[key][3] == 0.8
    assert (first["iteration"], second["iteration"]) == (3, 6) and second["group"] == [0, 0, 1, 1]
    assert second["probability"] == pytest.approx(np.multiply(first["probability"], factors))


def test_paper_protocol_adapts_to_the_test_split(tiny, tmp_path):
    row = dict(augmenter=FASA, signal="metric")
    leaky = run(tiny, tmp_path / "leaky", Row(**row, adapt_split="test"))
    assert leaky.history[-1]["class_accuracy"] == pytest.approx(leaky.per_class / 100)
    fair = run(tiny, tmp_path / "fair", Row(**row))
    assert np.isnan(fair.history[-1]["class_accuracy"][3])


@pytest.mark.parametrize("loss", ["cross_entropy", "balanced_softmax", "ldam_drw"])
def test_twenty_images_are_learnt_by_heart(tiny, tmp_path, loss):
    schedule = Schedule(epochs=25, batch=10, lr=0.05, warmup=2, crop=0)
    out = run(tiny._replace(test=tiny.train), tmp_path, Row(loss=loss, augmenter=FASA), schedule)
    assert out.accuracy == 100


def test_amp_keeps_statistics_in_float32(tiny, tmp_path):
    row = Row(augmenter=FASA)
    learner = Learner(torch.tensor(tiny.counts), 1, SHORT, row, seed=0, amp=True)
    images = Images(tiny.train, np.zeros(1), np.full(1, 99.0), torch.device("cpu"))
    losses = [learner.step(*batch, 0.0) for batch in images.in_order(8)]
    assert all(loss.dtype == torch.float32 for one in losses for loss in one.values())
    floats = [v for v in learner.augmenter.state_dict().values() if v.is_floating_point()]
    assert all(v.dtype == torch.float32 for v in floats)
    assert not same(run(tiny, tmp_path / "amp", amp=True).state_dict, run(tiny, tmp_path / "not").state_dict)


def test_loss_that_is_not_a_number_stops_with_one_line(tiny, tmp_path):
    schedule = Schedule(epochs=20, batch=8, lr=1e30, warmup=0, crop=0)
    with pytest.raises(UserError, match=r"^loss is (nan|inf) in epoch \d+: lower the learning rate") as info:
        run(tiny, tmp_path, Row(augmenter=FASA), schedule)
    assert "\n" not in str(info.value)


def test_progress_says_what_is_left(monkeypatch, capsys):
    now = iter([0.0, 2.0, 8.0, 9.0, 200.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    progress = Progress(first=2, epochs=4, images=100)
    for epoch, seen in ((2, 10), (2, 50), (2, 100), (3, 100)):
        progress(epoch, seen, dict(loss=torch.tensor(1.25)))
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3/4  6 images/s  0:00:24 left  loss 1.250",
        "epoch 4/4  1 images/s  0:00:00 left  loss 1.250",
    ]


@pytest.mark.parametrize("signal", ["loss", "metric"])
def test_nothing_to_adapt_on_is_refused(tiny, tmp_path, signal):
    empty = tiny._replace(adapt=type(tiny.adapt)(*(column[:0] for column in tiny.adapt)))
    with pytest.raises(UserError, match="adapt: has no image to adapt on"):
        run(empty, tmp_path, Row(augmenter=FASA, signal=signal))
    run(empty, tmp_path, schedule=SHORT)  # a row that does not adapt needs none
