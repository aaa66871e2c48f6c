import math
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from fasa.errors import UserError
from fasa.experiments import augmenter_metrics, class_means, detector_config, schedulers
from fasa.rows import Row, Schedule

ROOT = Path(__file__).parents[1]


def learning_rates(schedule: Schedule) -> list[float]:
    """The rate that each iteration runs with, through mmengine's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=schedule.lr)
    wrapper = OptimWrapper(optimizer)
    built = [PARAM_SCHEDULERS.build(cfg | dict(optimizer=wrapper)) for cfg in schedulers(schedule)]
    rates = []
    for _ in range(schedule.iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return rates


def test_learning_rate_of_every_iteration():
    rates = learning_rates(Schedule(iterations=30, batch=1, lr=2.0, ramp=10, final=0.1))
    for i in range(9):
        assert rates[i] == pytest.approx(2 * (0.1 + 0.9 * i / 9))
    for i in range(10, 30):
        assert rates[i] == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi * (i - 10) / 20)) / 2, rel=0.02)


def test_without_ramp_and_decay_the_rate_stands():
    assert schedulers(Schedule(iterations=5, batch=1, lr=0.5)) == []


def test_what_the_augmenter_did():
    passes = [dict(iteration=2, group=[0, 0, 1]), dict(iteration=4, group=[0, 2, 1])]
    history = dict(iterations=4, drawn=[3, 0, 5], passes=passes)
    assert augmenter_metrics(history) == dict(fasa_adaptations=2, virtual_per_iteration=2.0, fasa_groups=3)
    assert augmenter_metrics(dict(iterations=4, drawn=[], passes=[])) == {}
    never = augmenter_metrics(dict(iterations=4, drawn=[4], passes=[]))
    assert never == dict(virtual_per_iteration=1.0)


def test_class_means_are_those_of_the_checkpoint(tmp_path):
    moments = "roi_head.bbox_head.augmenter.moments."
    state = {moments + "mean": torch.eye(3), moments + "seen": torch.tensor([True, False, True])}
    torch.save(dict(state_dict=state), tmp_path / "warmup.pth")
    means, seen = class_means(tmp_path / "warmup.pth")
    assert means.tolist() == torch.eye(3).tolist() and seen.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("annotations/train.json", "train.json: no such file; run: dvc repro data"),
        ("train/000003.png", "000003.png: missing, with 0 other images"),
    ],
)
def test_incomplete_data_is_named(lost, message, tiny_glyphs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    root = shutil.copytree(tiny_glyphs, tmp_path / "glyphs")
    (root / lost).unlink()
    with pytest.raises(UserError, match=message):
        detector_config("embedded", Schedule(iterations=1, batch=1, lr=1), Row(), 0, tmp_path, data_root=root)


def test_unknown_profile_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        UserError, match="there is no configs/lvis9/mask_rcnn.py, which profile 'lvis9' and its row ask for"
    ):
        detector_config("lvis9", Schedule(iterations=1, batch=1, lr=1), Row(), 0, tmp_path)
