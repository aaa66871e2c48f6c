"""A toy model, killed anywhere and resumed, in both of mmengine's loops, must end as if nothing had been."""

import contextlib
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from fasa.detection.adaptation import AdaptationHook
from fasa.detection.resume import ExactResumeHook, latest
from fasa.errors import UserError

IMAGES, BATCH, EPOCHS = 11, 2, 3  # 6 batches an epoch, the last of one image
ITERATIONS = 18


class Toy(BaseModel):
    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def forward(self, x, index, mode):
        scores = self.layer(F.dropout(torch.stack(x).repeat(2, 1), training=mode == "loss"))
        return dict(loss=scores.square().mean()) if mode == "loss" else [scores]


class Images(Dataset):
    """Drawn with the generators of Python, NumPy and torch, as transforms do."""

    metainfo = dict(classes=("a",))

    def __len__(self):
        return IMAGES

    def __getitem__(self, i):
        return dict(x=torch.tensor([i + random.random(), np.random.rand(), torch.rand(()).item()]), index=i)


class Killed(Exception):
    pass


class Watch(Hook):
    """Keeps which images an iteration sees; kills the run after some iteration, after all other hooks."""

    priority = "LOWEST"

    def __init__(self, kill):
        self.kill, self.trace, self.loads = kill, {}, {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        seen = (runner.epoch, batch_idx, [int(i) for i in data_batch["index"]], outputs["loss"].item())
        self.trace[runner.iter + 1] = seen
        if runner.iter + 1 == self.kill:
            raise Killed


def train(work, by_epoch, kill=None, every=1, workers=0, hooks=(), accumulate=1, checkpoints=None, **more):
    loop = dict(by_epoch=True, max_epochs=EPOCHS) if by_epoch else dict(by_epoch=False, max_iters=ITERATIONS)
    sampler = dict(type="DefaultSampler" if by_epoch else "InfiniteSampler", shuffle=True)
    torch.manual_seed(0)
    settings = dict(
        train_dataloader=dict(dataset=Images(), batch_size=BATCH, num_workers=workers, sampler=sampler),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9), accumulative_counts=accumulate),
        param_scheduler=dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=10),
        custom_hooks=[dict(type="mmdet.ExactResumeHook", every=every), *hooks],
        default_hooks=dict(checkpoint=checkpoints, logger=None),
        randomness=dict(seed=5),
        log_level="ERROR",
        experiment_name=f"{work.name}-{random.SystemRandom().random()}",
    )
    runner = Runner(Toy(), str(work), **(settings | more))
    watch = Watch(kill)
    runner.register_hook(watch, priority="LOWEST")
    torch.manual_seed(99 if more.get("resume") else 1)  # what a new process has is no help
    with contextlib.suppress(Killed):
        runner.train()
    return runner, watch.trace


def assert_same(whole, parts):
    """The traces of the parts make up the whole's, and the last one ends with its state."""
    trace = {}
    for _, part in parts:
        trace |= part
    assert trace == whole[1]
    ours, theirs = parts[-1][0], whole[0]
    states = [(ours.model.state_dict(), theirs.model.state_dict())]
    states += [
        (a.ema_model.state_dict(), b.ema_model.state_dict())
        for a, b in zip(*map(emas, (ours, theirs)), strict=True)
    ]
    for a, b in states:
        assert a.keys() == b.keys() and [key for key in a if not torch.equal(a[key], b[key])] == []
    assert (ours.iter, ours.epoch) == (theirs.iter, theirs.epoch)
    momenta = [
        [state["momentum_buffer"] for state in one.optim_wrapper.optimizer.state.values()]
        for one in (ours, theirs)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*momenta, strict=True))


def emas(runner):
    return [hook for hook in runner.hooks if hasattr(hook, "ema_model")]


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize("kill", [1, 5, 6, 7, 12, 16, 17])
def test_killed_after_any_iteration(tmp_path, by_epoch, kill):
    whole = train(tmp_path / "whole", by_epoch)
    first = train(tmp_path / "broken", by_epoch, kill=kill)
    rest = train(tmp_path / "broken", by_epoch, resume=True, load_from=str(tmp_path / "broken/last.pth"))
    assert min(rest[1]) == kill + 1 and len(whole[1]) == ITERATIONS
    assert_same(whole, [first, rest])


HOW = {
    "workers": dict(workers=2),
    "EMA": dict(hooks=[dict(type="EMAHook")]),
    "EMA of buffers": dict(hooks=[dict(type="EMAHook", update_buffers=True, momentum=0.1)]),
    "accumulation": dict(accumulate=4),
    "validation": dict(
        val_dataloader=dict(
            dataset=Images(), batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        val_evaluator=dict(type="DumpResults", out_file_path="never.pkl"),
    ),
}


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize("how", HOW)
def test_killed_twice_and_resumed_by_itself(tmp_path, by_epoch, how, monkeypatch):
    """Without `load_from`: mmengine then takes what was written last, an epoch's checkpoint or ours."""
    monkeypatch.setattr("mmengine.evaluator.Evaluator.evaluate", lambda *_: {"a": 1.0})
    more = HOW[how] | dict(
        checkpoints=dict(type="CheckpointHook", interval=1 if by_epoch else 6, by_epoch=by_epoch)
    )
    if how == "validation":
        more["val_cfg"] = dict()
        more["train_cfg"] = (
            dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1)
            if by_epoch
            else dict(by_epoch=False, max_iters=ITERATIONS, val_interval=3)
        )
    whole = train(tmp_path / "whole", by_epoch, **more)
    parts = [train(tmp_path / "broken", by_epoch, kill=8, every=3, **more)]
    parts += [train(tmp_path / "broken", by_epoch, kill=14, every=3, resume=True, **more)]
    parts += [train(tmp_path / "broken", by_epoch, every=5, resume=True, **more)]
    assert [min(trace) for _, trace in parts] == [1, 7, 13]
    assert_same(whole, parts)


@pytest.mark.parametrize("name, start", [("epoch_2.pth", 13), ("iter_10.pth", 11), ("iter_12.pth", 13)])
def test_resumed_from_mmengines_own_checkpoints(tmp_path, name, start):
    by_epoch = name.startswith("epoch")
    checkpoints = dict(type="CheckpointHook", interval=1 if by_epoch else 2, by_epoch=by_epoch)
    whole = train(tmp_path / "whole", True, every=100)
    first = train(tmp_path / "broken", True, every=100, kill=16, checkpoints=checkpoints)
    path = str(tmp_path / "broken" / name)
    rest = train(tmp_path / "broken", True, every=100, checkpoints=checkpoints, resume=True, load_from=path)
    assert min(rest[1]) == start
    assert_same(whole, [first, rest])


def test_every_hook_runs_once_an_epoch(tmp_path):
    """An epoch that was killed after its last iteration still ends: an adaptation may wait for that."""

    class Ends(Hook):
        def __init__(self):
            self.ends = []

        def after_train_epoch(self, runner):
            self.ends.append((runner.epoch, runner.iter))

    train(tmp_path, True, kill=12)
    ends = Ends()
    train(tmp_path, True, resume=True, hooks=[ends])
    assert ends.ends == [(1, 12), (2, 18)]


@pytest.fixture
def warnings(caplog, monkeypatch):
    """What runs warn of; mmengine's loggers do not propagate."""
    found = []
    monkeypatch.setattr(
        "mmengine.logging.MMLogger.warning", lambda self, message, *_: found.append(str(message))
    )
    return found


def test_other_batches_restart_the_epoch_and_say_so(tmp_path, warnings):
    train(tmp_path, True, kill=9)
    loader = dict(dataset=Images(), batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler"))
    runner, trace = train(tmp_path, True, resume=True, train_dataloader=loader)
    assert [epoch for epoch, *_ in trace.values()] == [1] * 3 + [2] * 3  # never another number than its own
    assert (min(trace), runner.iter, runner.epoch) == (4, 9, 3)
    assert any("epoch 2 from its start, of 3 batches, not 6" in one for one in warnings)


def test_what_cannot_be_exact_is_said(tmp_path, warnings):
    train(tmp_path, True, kill=9)
    checkpoint = torch.load(tmp_path / "last.pth", weights_only=True)
    checkpoint.pop("rng")
    torch.save(checkpoint, tmp_path / "last.pth")
    _, trace = train(tmp_path, True, resume=True)
    assert len(trace) == 9
    assert sorted(sum((batch for epoch, _, batch, _ in trace.values() if epoch == 2), [])) == list(
        range(IMAGES)
    )
    assert any("resumed, but not exactly: anew are random states" in one for one in warnings)


def test_an_exact_resume_says_nothing(tmp_path, warnings):
    train(tmp_path, True, kill=9)
    train(tmp_path, True, resume=True)
    assert not any("not exactly" in one for one in warnings)


def test_without_a_seed_the_order_is_taken_up(tmp_path):
    first = train(tmp_path, True, kill=9, randomness=dict(seed=None))
    rest = train(tmp_path, True, resume=True, randomness=dict(seed=None))
    trace = first[1] | rest[1]
    for epoch in range(EPOCHS):
        seen = sum((batch for number, _, batch, _ in trace.values() if number == epoch), [])
        assert sorted(seen) == list(range(IMAGES))


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99, -1])
def test_a_checkpoint_that_was_cut_is_refused_in_one_line(tmp_path, by_epoch, length):
    train(tmp_path, by_epoch, kill=9)
    path = tmp_path / "last.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(length * len(whole)) if isinstance(length, float) else length])
    with pytest.raises(
        UserError,
        match="last.pth: cut off or no checkpoint; name another, or, if a killed run left it, delete it",
    ) as info:
        train(tmp_path, by_epoch, resume=True)
    assert "\n" not in str(info.value)


def test_other_files_are_refused_in_one_line(tmp_path):
    train(tmp_path, True, kill=9)

    def refusal(content, name="other.pth"):
        if content is not None:
            torch.save(content, tmp_path / name)
        with pytest.raises(UserError) as info:
            train(tmp_path, True, resume=True, load_from=str(tmp_path / name))
        assert "\n" not in str(info.value) and name in str(info.value)
        return str(info.value)

    state = Toy().state_dict()
    assert "No such file" in refusal(None, "missing.pth")
    assert "holds no state_dict" in refusal([1, 2])
    assert "holds weights alone" in refusal(dict(state_dict=state, meta={}))
    assert "holds more than plain data" in refusal(
        dict(state_dict=state, meta=dict(epoch=1, iter=6), a=Toy())
    )
    progress = dict(epoch=1, iter=6)
    wide = refusal(dict(state_dict=Toy(5).state_dict(), meta=progress))
    assert "layer.0.weight is (4, 5) there, (4, 3) here" in wide
    assert "layer.2.bias and 0 more" in refusal(
        dict(state_dict={key: value for key, value in state.items() if key != "layer.2.bias"}, meta=progress)
    )


def test_last_is_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    train(tmp_path, True, kill=9)
    before = (tmp_path / "last.pth").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmengine.fileio.backends.LocalBackend.put", full)
    with pytest.raises(UserError, match="last.pth.*No space left on device; free some space"):
        train(tmp_path, True, resume=True)
    assert (tmp_path / "last.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*last*")) == ["last.pth", "last_checkpoint"]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_loss_scaler_may_overflow_now_and_then(scaled):
    hook = ExactResumeHook()
    bad, fine = dict(loss=torch.tensor(torch.inf)), dict(loss=torch.tensor(1.0))
    hook.unseen = [(1, fine), *((i, bad) for i in range(2, 22)), (22, fine), (23, bad)]
    if not scaled:
        with pytest.raises(UserError, match="loss is inf at iteration 2: lower the learning rate"):
            hook.look(scaled)
        return
    hook.look(scaled)
    assert hook.unseen == [] and hook.overflows == 1
    hook.unseen = [(i, bad) for i in range(24, 50)]
    with pytest.raises(UserError, match="loss is inf at iteration 43"):
        hook.look(scaled)


class Given(BaseMetric):
    """A metric whose values are known beforehand."""

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(AP=next(self.values))


def test_the_best_checkpoint_and_those_to_remove_are_remembered(tmp_path):
    """And checkpoints are plain data where a metric is one of NumPy's, or a data set holds an array."""
    best = dict(type="CheckpointHook", interval=1, save_best="AP", rule="greater", max_keep_ckpts=1)
    scores = [np.float64(score) for score in (0.9, 0.1, 0.2)]
    data = dict(dataset=Images(), batch_size=2, sampler=dict(type="DefaultSampler", shuffle=False))
    plateau = dict(type="ReduceOnPlateauParamScheduler", param_name="lr", monitor="AP", rule="greater")
    more = dict(checkpoints=best, val_dataloader=data, val_cfg=dict(), param_scheduler=plateau)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Images, "metainfo", dict(classes=("a",), relations=np.eye(2)))
        for name, kills in (("whole", [None]), ("broken", [8, None])):
            for n, kill in enumerate(kills):
                metrics = [Given(scores[n:])]
                train(tmp_path / name, True, kill=kill, resume=n > 0, val_evaluator=metrics, **more)
    whole, broken = ({path.name for path in (tmp_path / name).glob("*.pth")} for name in ("whole", "broken"))
    assert whole == broken == {"best_AP_epoch_1.pth", "epoch_3.pth", "last.pth"}
    for name in broken:
        torch.load(tmp_path / "broken" / name, weights_only=True)


@pytest.mark.parametrize("every", [0, -1, 1.5, "6", True])
def test_no_number_of_iterations_is_refused(every):
    for hook in (ExactResumeHook, AdaptationHook):
        with pytest.raises(UserError, match=f"{hook.__name__}: every is .*; it must be a whole number"):
            hook(every=every)


def test_the_checkpoint_written_last_is_found(tmp_path):
    assert latest(tmp_path) is None
    (tmp_path / "last.pth").touch()
    assert latest(tmp_path) == tmp_path / "last.pth"
    (tmp_path / "epoch_2.pth").touch()
    for folder in (tmp_path, tmp_path / "moved"):  # whose new place is not known to what is in it
        (tmp_path / "last_checkpoint").write_text(str(folder / "epoch_2.pth"))
        assert latest(tmp_path) == tmp_path / "epoch_2.pth"
    (tmp_path / "epoch_2.pth").unlink()
    assert latest(tmp_path) == tmp_path / "last.pth"
