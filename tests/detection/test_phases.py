"""Training in two stages: what is frozen does not move at all, and the rest does."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fasa.detection.adaptation import box_heads
from fasa.detection.training import train
from fasa.errors import UserError

# Iteration 1 freezes nothing, 2 and 3 the features, 4 and 5 the classifier.
TRANSFER = dict(type="FeatureTransfer", warmup=1, phase=2, tail=9)
ITERATIONS = 5
FEATURES = ("backbone.", "neck.", "shared_fcs.")


class States(Hook):
    """Keeps the model's state before the first step and after every one."""

    priority = "LOWEST"

    def __init__(self):
        self.after = []

    def keep(self, runner):
        self.after.append({name: value.clone() for name, value in runner.model.state_dict().items()})

    def before_train(self, runner):
        self.keep(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.keep(runner)


def part(name: str) -> str:
    """The part of a detector that a parameter or a statistic belongs to, heads' parts without the head."""
    if ".bbox_head." not in name:
        return name.partition(".")[0] + "."
    inner = name.partition(".bbox_head.")[2].split(".")
    inner = inner[1:] if inner[0].isdigit() else inner  # a stage of a cascade
    return ".".join(inner[:2] if inner[0] == "augmenter" else inner[:1]) + "."


@pytest.mark.parametrize("model", ["mask_rcnn", "cascade_rcnn"])
def test_each_stage_trains_its_part_alone(config, model):
    cfg = config(TRANSFER, iterations=ITERATIONS, model=model)
    cfg.default_hooks.checkpoint = None
    runner, states = Runner.from_cfg(cfg), States()
    runner.register_hook(states)
    runner.train()
    names = {name for name, _ in runner.model.named_parameters()}
    statistics = {name for name in states.after[0] if name.endswith(("running_mean", "running_var"))}
    assert statistics and all(part(name) == "backbone." for name in statistics)
    for step in range(1, ITERATIONS + 1):
        before, after = states.after[step - 1], states.after[step]
        moved = {name for name in names | statistics if not torch.equal(before[name], after[name])}
        stays = {1: (), 2: FEATURES, 3: FEATURES, 4: ("fc_cls.",), 5: ("fc_cls.",)}[step]
        assert {part(name) for name in moved & names} == {part(name) for name in names} - set(stays)
        assert moved & statistics == (set() if stays == FEATURES else statistics)
        for head in range(len(box_heads(runner.model))):  # of each stage of a cascade
            mine = f"bbox_head.{head}." if model == "cascade_rcnn" else "bbox_head."
            for frozen in ("fc_cls.", "shared_fcs."):
                assert any(mine + frozen in name for name in moved) == (frozen not in stays)


def test_a_resumed_run_is_in_the_phase_of_its_iteration(config, tmp_path):
    def run(name, iterations, save=100):
        cfg = config(TRANSFER, iterations=iterations, work_dir=tmp_path / name)
        cfg.default_hooks.checkpoint.every = save
        return train(cfg).model.state_dict()

    whole = run("whole", ITERATIONS)
    for stop in (2, 4):  # within each stage
        run(f"broken{stop}", stop, save=stop)
        resumed = run(f"broken{stop}", ITERATIONS)
        assert resumed.keys() == whole.keys()
        assert [name for name in whole if not torch.equal(resumed[name], whole[name])] == []
    assert whole["roi_head.bbox_head.augmenter.iteration"] == ITERATIONS


def test_what_the_config_froze_stays_frozen(config):
    cfg = config(TRANSFER, iterations=ITERATIONS)
    cfg.default_hooks.checkpoint = None
    cfg.model.backbone.frozen_stages = 1
    runner, states = Runner.from_cfg(cfg), States()
    frozen = {name for name, parameter in runner.model.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith("backbone.") for name in frozen)
    runner.register_hook(states)
    runner.train()
    first, last = states.after[0], states.after[-1]
    assert all(torch.equal(first[name], last[name]) for name in frozen)
    assert {name for name, one in runner.model.named_parameters() if not one.requires_grad} >= frozen


def test_stages_without_an_augmenter_that_has_them_are_refused(config):
    cfg = config(TRANSFER | dict(phase=0), iterations=1)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type="PhasesHook")]
    with pytest.raises(UserError, match="no augmenter has stages; give a FeatureTransfer its `phase`"):
        Runner.from_cfg(cfg).train()
