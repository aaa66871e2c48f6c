"""What every augmenter must keep to, driven through the whole interface as `fasa.detection.head` does."""

import importlib
import inspect
import math
import pkgutil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close

import fasa.baselines
from fasa.algorithm import FASA
from fasa.augmenter import Augmenter, virtual_loss
from fasa.baselines.angular_transfer import AngularTransfer
from fasa.baselines.cam_mixing import CAMMixing
from fasa.baselines.feature_transfer import FeatureTransfer
from fasa.baselines.moex import MoEx
from fasa.baselines.released_fasa import ReleasedFASA
from fasa.baselines.smote import SMOTE

K, D, MAP = 8, 6, (4, 3, 3)
COUNTS = torch.tensor([500, 400, 300, 100, 20, 5, 3, 50])  # four head, four tail classes
UNSEEN = 7  # counted, and in no batch
METHODS = {
    "FASA": (FASA, dict(prob_scale=5.0)),
    "ReleasedFASA": (ReleasedFASA, dict(prob_scale=5.0)),
    "SMOTE": (SMOTE, dict(k=2, bank=3)),
    "MoEx": (MoEx, dict()),
    "MoEx-map": (MoEx, dict(at="map")),
    "CAMMixing": (CAMMixing, dict(map_shape=MAP)),
    "CAMMixing-batch": (CAMMixing, dict(map_shape=MAP, bank=0)),
    "AngularTransfer": (AngularTransfer, dict()),
    "FeatureTransfer": (FeatureTransfer, dict(components=3, refresh=2)),
}
MAKE_NOTHING = {"AngularTransfer"}  # it changes scores alone
STATELESS = {"MoEx", "MoEx-map"}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

every_method = pytest.mark.parametrize("name", METHODS)
on_every_device = pytest.mark.parametrize("device", DEVICES)


class Trainer(nn.Module):
    """Shared FC, augmenter, `fc_cls`, SGD; checks each of its steps and keeps scores and draws in `trace`."""

    def __init__(self, name: str, device: str = "cpu", start: bool = True, **kwargs):
        super().__init__()
        method, arguments = METHODS[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.shared, self.fc = nn.Linear(math.prod(MAP), D), nn.Linear(D, K + 1)
            self.augmenter = method(K, D, **(arguments | kwargs))
        self.to(device)
        if start:
            self.augmenter.initialise(COUNTS)
        self.trace: list[Tensor] = []

    def score(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Class scores of embeddings or maps."""
        z = self.shared(x.flatten(1)).relu() if x.dim() == 4 else x
        encoded = self.augmenter.encode(z)
        assert encoded.shape == (len(x), D)
        scores = self.augmenter.logits(self.fc(encoded), encoded, self.fc.weight, labels)
        assert scores.shape == (len(x), K + 1) and scores.device == x.device
        return scores

    def step(self, maps: Tensor, labels: Tensor) -> None:
        augmenter, random, drawn = self.augmenter, torch.get_rng_state(), self.augmenter.drawn.clone()
        z = self.shared(maps.flatten(1)).relu()
        scores = self.score(z, labels)
        losses = {"loss_cls": F.cross_entropy(scores.float(), labels, reduction="sum") / max(len(labels), 1)}
        losses |= augmenter.losses(z, labels, scores)
        positive = labels < K
        virtual = augmenter(z[positive], labels[positive], maps[positive], self.score)

        m = len(virtual.labels)
        assert virtual.features.shape in ((m, D), (m, *MAP)) and virtual.features.is_floating_point()
        assert virtual.labels.dtype == torch.int64 and virtual.labels.shape == virtual.weights.shape == (m,)
        assert ((virtual.labels >= 0) & (virtual.labels < K)).all()
        assert virtual.weights.is_floating_point() and (virtual.weights >= 0).all()
        assert {x.device for x in virtual} == {maps.device}
        assert torch.equal(augmenter.drawn - drawn, virtual.labels.bincount(minlength=K))

        scored = self.score(virtual.features, virtual.labels)
        losses["loss_virtual"] = augmenter.loss_weight * virtual_loss(scored, virtual)
        self.trace += [*(x.detach().clone() for x in (scores, scored, *virtual))]
        for key, loss in losses.items():
            assert key.startswith("loss_") and loss.shape == () and loss.isfinite(), key
        self.zero_grad()
        sum(losses.values()).backward()
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.grad is not None:
                    assert parameter.grad.isfinite().all()
                    parameter -= 0.05 * parameter.grad
        for key, value in augmenter.named_buffers():
            assert not value.requires_grad and value.grad_fn is None, key
            assert value.device == maps.device and value.dtype in (torch.float32, torch.int64)
            assert value.isfinite().all(), key
        assert torch.equal(random, torch.get_rng_state())


def batch(seed: int, size: int = 48) -> tuple[Tensor, Tensor]:
    """RoI maps and labels, background among them, class `UNSEEN` not."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (size,), generator=generator)
    labels[labels == UNSEEN] = K
    maps = torch.randn(size, *MAP, generator=generator).abs() + torch.sin(labels * 1.7)[:, None, None, None]
    return maps, labels


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def run(name: str, steps: int = 6, **kwargs) -> Trainer:
    trainer = Trainer(name, **kwargs)
    for seed in range(steps):
        trainer.step(*batch(seed))
    return trainer


def test_every_augmenter_is_here():
    modules = [
        importlib.import_module(f"fasa.baselines.{m.name}")
        for m in pkgutil.iter_modules(fasa.baselines.__path__)
    ]
    found = {
        member
        for module in [*modules, importlib.import_module("fasa.algorithm")]
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, Augmenter) and member is not Augmenter
    }
    assert found == {method for method, _ in METHODS.values()}


@every_method
def test_does_something(name):
    trainer = run(name)
    assert (trainer.augmenter.drawn.sum() > 0) == (name not in MAKE_NOTHING)
    assert trainer.augmenter.iteration == 6
    assert trainer.augmenter.drawn[UNSEEN] == 0
    if name in MAKE_NOTHING:
        maps, labels = batch(0)
        assert not torch.allclose(trainer.score(maps, labels), trainer.score(maps))


@every_method
@on_every_device
def test_awkward_batches(name, device):
    trainer, full = Trainer(name, device), batch(0)
    maps, labels = batch(1)
    first = torch.stack([(labels == c).nonzero()[0, 0] for c in range(K) if c != UNSEEN])
    background = labels == K
    awkward = {
        "empty": (maps[:0], labels[:0]),
        "background only": (maps[background], labels[background]),
        "one sample of each class": (maps[first], labels[first]),
        "one sample": (maps[first[-1:]], labels[first[-1:]]),
        "equal samples": (maps[:1].expand(9, -1, -1, -1), labels[:1].expand(9)),
        "dead embeddings": (maps * 0, labels),
        "head only": (maps[labels < 4], labels[labels < 4]),
        "tail only": (maps[(labels >= 4) & (labels < K)], labels[(labels >= 4) & (labels < K)]),
    }
    assert background.any() and len(awkward["tail only"][0])
    for _ in range(2):  # before there is any state, then with some
        for x, y in awkward.values():
            trainer.step(x.to(device), y.to(device))
        trainer.step(full[0].to(device), full[1].to(device))
    assert (trainer.augmenter.drawn.sum() > 0) == (name not in MAKE_NOTHING)
    assert trainer.augmenter.drawn[UNSEEN] == 0


@every_method
@on_every_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(name, device, dtype):
    trainer = Trainer(name, device, warmup=1)  # a step that must give nothing, then some that give something
    for seed in range(5):
        maps, labels = batch(seed)
        with torch.autocast(device, dtype=dtype):
            trainer.step(maps.to(device, dtype), labels.to(device))  # as a backbone under autocast gives them
            assert trainer.shared(maps.to(device).flatten(1)).dtype == dtype
    with torch.autocast(device, dtype=dtype):
        trainer.step(maps[:0].to(device, dtype), labels[:0].to(device))
    assert (trainer.augmenter.drawn.sum() > 0) == (name not in MAKE_NOTHING)


@every_method
def test_state_dict_holds_everything_and_resume_is_exact(name):
    whole, first = run(name), run(name, steps=3)
    state = {key: value.clone() for key, value in first.state_dict().items()}
    assert all(type(value) is Tensor for value in state.values())
    second = Trainer(name, start=False)  # resumed: nobody calls `initialise`
    second.load_state_dict(state, strict=True)
    for seed in range(3, 6):
        torch.manual_seed(seed)  # nothing leans on the global generator
        second.step(*batch(seed))
    assert same(whole.trace[-len(second.trace) :], second.trace)
    for key, value in whole.state_dict().items():
        assert_close(value, second.state_dict()[key], rtol=0, atol=0, equal_nan=True)


def with_bad_rows(maps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The batch with rows in between that overflowed, and which rows these are."""
    maps, labels = (torch.cat([part[:20], part[20:25], part[20:]]) for part in (maps, labels))
    bad = torch.zeros(len(labels), dtype=torch.bool)
    bad[20:25] = True
    maps[20, 0, 0, 0], maps[21, 1, 2, 2], maps[22], maps[23] = math.inf, math.nan, -math.inf, 1e30
    maps[24] = math.nan
    labels[20:25] = torch.tensor([0, 4, 4, 5, 0])
    return maps, labels, bad


@every_method
def test_embeddings_that_are_not_finite_leave_no_trace(name):
    """The steps are those of a twin that never met the rows, in all but the count of them."""
    trainer, twin = run(name, steps=2), run(name, steps=2)
    for seed in range(2, 6):
        maps, labels, bad = with_bad_rows(*batch(seed))
        made = []
        for one, x, y in ((trainer, maps, labels), (twin, maps[~bad], labels[~bad])):
            z = one.shared(x.flatten(1)).relu()
            one.score(z, y)
            made.append(one.augmenter(z, y, x, one.score))
        assert same([x.detach() for x in made[0]], [x.detach() for x in made[1]])
        loss = virtual_loss(trainer.score(made[0].features, made[0].labels), made[0])
        assert loss.isfinite()
    for key, value in trainer.augmenter.named_buffers():
        if key != "skipped":
            assert torch.equal(value, twin.augmenter.get_buffer(key)), key
    assert trainer.augmenter.skipped == 4 and twin.augmenter.skipped == 0
    with pytest.warns(UserWarning, match="not finite in 4 of 6 steps and have been left out"):
        assert trainer.augmenter.record()["skipped"] == 4
    trainer.augmenter.adapt(torch.full((K,), math.inf))
    trainer.augmenter.adapt(torch.rand(K))
    trainer.step(*batch(7))


@every_method
def test_background_has_no_part(name):
    """With background among the rows, or without, the same."""
    one, two = Trainer(name), Trainer(name)
    for seed in range(3):
        maps, labels = batch(seed)
        z, positive = one.shared(maps.flatten(1)).relu().detach(), labels < K
        a = one.augmenter(z, labels, maps, one.score)
        b = two.augmenter(z[positive], labels[positive], maps[positive], two.score)
        assert same([x.detach() for x in a], [x.detach() for x in b])
    for key, value in one.augmenter.named_buffers():
        assert torch.equal(value, two.augmenter.get_buffer(key)), key


@every_method
@pytest.mark.parametrize(
    "settings", [dict(), dict(multi_avg_fn=get_ema_multi_avg_fn(0.9))], ids=["SWA", "EMA"]
)
def test_an_averaged_model_holds_the_averages(name, settings):
    trainer = Trainer(name, start=False)
    averaged = AveragedModel(trainer, use_buffers=True, **settings)
    averaged.update_parameters(trainer)  # before anything is known
    trainer.augmenter.initialise(COUNTS)
    seen = [{key: value.clone() for key, value in trainer.named_buffers()}]
    for seed in range(4):
        trainer.step(*batch(seed))
        trainer.augmenter.adapt(torch.rand(K))
        averaged.update_parameters(trainer)
        seen.append({key: value.clone() for key, value in trainer.named_buffers()})
    start = Trainer(name, start=False)
    for key, value in averaged.module.named_buffers():
        assert value.isfinite().all() and value.dtype != torch.bool, key
        if value.is_floating_point():
            steps = [start.get_buffer(key), *(one[key] for one in seen[1:])]
            weights = [0.9**4, *(0.1 * 0.9**i for i in (3, 2, 1, 0))] if settings else [0.2] * 5
            assert_close(value, sum(w * x for w, x in zip(weights, steps, strict=True)), rtol=1e-4, atol=1e-6)
    averaged.module.step(*batch(9))


OLD_FORMAT = ("counts", "skipped", "measured")  # what older checkpoints lack


@pytest.mark.parametrize(
    "name", ["FASA", "ReleasedFASA", "SMOTE", "MoEx", "AngularTransfer", "FeatureTransfer"]
)
def test_checkpoints_of_the_old_format_load(name):
    whole, first = Trainer(name), Trainer(name)
    signal = torch.rand(K)
    signal[3] = math.nan
    for seed in range(3):
        whole.step(*batch(seed)), first.step(*batch(seed))
    whole.augmenter.adapt(signal), first.augmenter.adapt(signal)
    state = {}
    for key, value in first.state_dict().items():
        last = key.rpartition(".")[2]
        if last in ("seen", "spread"):
            value = value.bool()
        if last == "class_loss":
            value = value.masked_fill(first.augmenter.measured == 0, math.nan)
        if last not in OLD_FORMAT or last == "counts" and name in ("AngularTransfer", "FeatureTransfer"):
            state[key] = value
    second = Trainer(name, start=False)
    second.load_state_dict(state, strict=True)
    for seed in range(3, 6):
        whole.step(*batch(seed)), second.step(*batch(seed))
        whole.augmenter.adapt(signal / seed), second.augmenter.adapt(signal / seed)
    assert same(whole.trace[-len(second.trace) :], second.trace)
    for key, value in whole.augmenter.named_buffers():
        if key != "counts":
            assert torch.equal(value, second.augmenter.get_buffer(key)), key


@every_method
def test_seed_decides_the_draws(name):
    one, again, other = run(name, seed=1), run(name, seed=1), run(name, seed=2)
    assert same(one.trace, again.trace)
    assert not same(one.trace, other.trace)


@every_method
def test_draws_differ_from_step_to_step(name):
    """The same batch and state but for the iteration: a generator seeded alike would repeat itself."""
    trainer, seen = run(name), []
    state = {key: value.clone() for key, value in trainer.state_dict().items()}
    for iteration in (10, 11):
        trainer.load_state_dict(state)
        trainer.augmenter.iteration.fill_(iteration)
        trainer.trace = []
        trainer.step(*batch(99))
        seen.append(trainer.trace)
    assert not same(*seen)


@every_method
def test_nothing_is_drawn_during_warmup_and_state_is_gathered(name):
    trainer, drawn, states = Trainer(name, warmup=3), [], []
    for seed in range(5):
        trainer.step(*batch(seed))
        drawn.append(trainer.augmenter.drawn.sum().item())
        names = [key for key, _ in trainer.augmenter.named_buffers() if key not in ("iteration", "drawn")]
        states.append([trainer.augmenter.get_buffer(key).clone() for key in names])
    assert drawn[:3] == [0, 0, 0] and (drawn[4] > 0) == (name not in MAKE_NOTHING)
    assert trainer.augmenter.iteration == 5
    changed = any(not torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))
    assert changed == (name not in STATELESS)


@every_method
def test_seed_has_no_part_in_the_warmup(name):
    assert same(run(name, warmup=6, seed=1).trace, run(name, warmup=6, seed=2).trace)


@every_method
def test_test_time_leaves_no_trace_and_flag_is_honest(name):
    trainer = run(name).eval()
    before = {key: value.clone() for key, value in trainer.state_dict().items()}
    maps, _ = batch(0)
    with torch.no_grad():
        scores = trainer.score(maps)
        assert torch.equal(scores, trainer.score(maps))
        linear = trainer.fc(trainer.shared(maps.flatten(1)).relu())
    assert torch.equal(scores, linear) == (not trainer.augmenter.changes_scores)
    for key, value in trainer.state_dict().items():
        assert_close(value, before[key], rtol=0, atol=0, equal_nan=True)


@every_method
def test_adapt_takes_a_signal_with_gaps(name):
    trainer, signal = run(name), torch.rand(K)
    signal[2] = math.nan
    trainer.augmenter.adapt(signal)
    trainer.augmenter.adapt(signal / 2)
    if trainer.augmenter.adapts():
        assert trainer.augmenter.adaptations == 2
        assert trainer.augmenter.measured.tolist() == [float(c != 2) for c in range(K)]
    trainer.step(*batch(0))


@every_method
def test_initialise_starts_to_count_anew(name):
    trainer = run(name)
    with pytest.raises(ValueError, match=f"3 counts for {K} classes"):
        trainer.augmenter.initialise(COUNTS[:3])
    trainer.augmenter.initialise(COUNTS)
    assert trainer.augmenter.iteration == 0 and (trainer.augmenter.drawn == 0).all()
    trainer.step(*batch(0))
    trainer.step(*batch(1))
    assert (trainer.augmenter.drawn.sum() > 0) == (name not in MAKE_NOTHING)


@every_method
def test_constructor_begins_and_ends_as_all_do(name):
    parameters = inspect.signature(METHODS[name][0]).parameters
    names = list(parameters)
    assert names[:2] == ["num_classes", "width"] and names[-3:] == ["loss_weight", "warmup", "seed"]
    assert [parameters[key].default for key in names[-3:]] == [0.1, 0, 0]
    assert all(parameters[key].default is not inspect.Parameter.empty for key in names[2:])
