import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Runner
from msgspec.structs import replace

from fasa.detection.classifier_apart import ClassifierApart, Together
from fasa.detection.experiment import training_config
from fasa.detection.two_stage import box_heads
from fasa.errors import UserError
from fasa.job import Optimizer, Schedule
from fasa.params import read_params
from fasa.rows import compose

SGD = Optimizer(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4)
APART = Optimizer(type="AdamW", lr=1e-3, weight_decay=0.05, classifier=SGD)
PARAMS = read_params("params.yaml")


@pytest.mark.parametrize(
    "row",
    [
        "mask_rcnn",
        "mask_rcnn_rfs_fasa",
        "cascade_rcnn_rfs_fasa",
        "mask_rcnn_normed",
        "mask_rcnn_seesaw",
        "mask_rcnn_angular",
        "mask_rcnn_transfer",
    ],
)
def test_the_classifiers_of_all_heads_and_nothing_else_are_apart(row, tiny_glyphs, tmp_path):
    job = replace(compose(PARAMS, "embedded", row, 0), data=str(tiny_glyphs), optimizer=APART)
    runner = Runner.from_cfg(training_config(job, Schedule(iterations=3, batch=2), tmp_path))
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    rest, apart = wrapper.optimizer.param_groups
    assert (rest["lr"], rest["weight_decay"], apart["lr"], apart["momentum"]) == (1e-3, 0.05, 0.02, 0.9)
    names = {id(parameter): name for name, parameter in runner.model.named_parameters()}
    assert len(rest["params"]) + len(apart["params"]) == len(names)
    found = {names[id(parameter)] for parameter in apart["params"]}
    assert found == {name for name in names.values() if ".fc_cls." in name}
    assert found and len({id(one) for group in (rest, apart) for one in group["params"]}) == len(names)
    assert len({name.partition(".fc_cls")[0] for name in found}) == len(box_heads(runner.model))


def test_adamw_as_a_trait_is_of_all_parameters(tiny_glyphs, tmp_path):
    job = replace(compose(PARAMS, "embedded", "mask_rcnn_adamw", 0), data=str(tiny_glyphs), optimizer=APART)
    assert job.own_warmup
    runner = Runner.from_cfg(training_config(job, Schedule(iterations=3, batch=2), tmp_path))
    optimizer = runner.build_optim_wrapper(runner.optim_wrapper).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert len(optimizer.param_groups[0]["params"]) == len(list(runner.model.parameters()))


def weights():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, generator=generator, requires_grad=True) for _ in range(4)]


def optimizers(a, b, c, d):
    return torch.optim.AdamW([a, b], lr=0.1, fused=True), torch.optim.SGD([c, d], lr=0.5, momentum=0.9)


def move(parameters, steppers, steps):
    for i in steps:
        loss = sum(((one - i) ** 2 * (1 + one.detach())).sum() for one in parameters)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()


def test_both_move_as_each_does_alone_and_take_up_a_checkpoint():
    alone, together, resumed = weights(), weights(), weights()
    parts = optimizers(*alone)
    move(alone, parts, range(10))

    both = Together(*optimizers(*together))
    move(together, [both], range(6))
    checkpoint = copy.deepcopy(both.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(resumed, together, strict=True):
            mine.copy_(theirs)
    move(together, [both], range(6, 10))
    taken_up = Together(*optimizers(*resumed))
    taken_up.load_state_dict(checkpoint)
    move(resumed, [taken_up], range(6, 10))
    for start, one, two, three in zip(weights(), alone, together, resumed, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three) and not torch.equal(one, start)


def test_a_schedule_scales_both_in_proportion(config):
    cfg = config(optimizer=APART, iterations=6)
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=3),
        dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=False, begin=3, T_max=3),
    ]
    rates = []
    runner = Runner.from_cfg(cfg)
    step = OptimWrapper.step

    def note(wrapper, **settings):
        rates.append([group["lr"] for group in wrapper.optimizer.param_groups])
        step(wrapper, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptimWrapper, "step", note)
        runner.train()
    assert len(rates) == 6 and rates[0] == pytest.approx([1e-4, 2e-3]) and rates[-1][0] < 5e-4
    assert [apart / rest for rest, apart in rates] == pytest.approx([20] * 6)
    assert max(rate for rate, _ in rates) == pytest.approx(1e-3)


def test_settings_of_single_parameters_are_refused():
    cfg = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1.0, classifier=dict(type="SGD", lr=1.0)))
    known = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type="ClassifierApart", optim_wrapper_cfg=Config(cfg)))
    assert isinstance(known, ClassifierApart)
    with pytest.raises(UserError, match="takes no paramwise_cfg"):
        ClassifierApart(cfg, dict(norm_decay_mult=0))
