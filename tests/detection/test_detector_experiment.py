import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from jobs import job
from mmdet.models.dense_heads import RPNHead
from mmdet.models.layers import NormedLinear
from mmdet.registry import MODELS
from mmengine.dataset import InfiniteSampler
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from msgspec.structs import replace

from fasa.data import coco, compact
from fasa.data.repeat_factors import repeat_factors
from fasa.detection.adaptation import box_heads
from fasa.detection.evaluate import Detected, detect_part
from fasa.detection.experiment import (
    augmenter_metrics,
    model_config,
    schedulers,
    train_row,
    training_config,
)
from fasa.detection.resume import read_checkpoint
from fasa.errors import UserError
from fasa.job import Optimizer, Schedule
from fasa.params import read_params
from fasa.rows import compose

ROOT = Path(__file__).parents[2]


def learning_rates(schedule: Schedule, lr: float) -> list[float]:
    """The rate that each iteration runs with, through mmengine's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
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
    rates = learning_rates(Schedule(iterations=30, batch=1, ramp=10, final=0.1), 2.0)
    for i in range(9):
        assert rates[i] == pytest.approx(2 * (0.1 + 0.9 * i / 9))
    for i in range(10, 30):
        assert rates[i] == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi * (i - 10) / 20)) / 2, rel=0.02)


def test_without_ramp_and_decay_the_rate_stands():
    assert schedulers(Schedule(iterations=5, batch=1)) == []


def test_the_papers_rate_falls_at_epochs_16_and_22():
    ramp, fall = schedulers(Schedule(epochs=24, batch=16, ramp=500, steps=[16, 22]))
    assert (ramp["end"], ramp["by_epoch"]) == (500, False)
    assert fall == dict(type="MultiStepLR", milestones=[16, 22], gamma=0.1, by_epoch=True)


def test_steps_in_iterations_fall_to_a_tenth():
    rates = learning_rates(Schedule(iterations=6, batch=1, steps=[2, 4]), 1.0)
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_what_the_augmenter_did():
    passes = [dict(iteration=2, group=[0, 0, 1]), dict(iteration=4, group=[0, 2, 1])]
    history = dict(iterations=4, drawn=[3, 0, 5], passes=passes)
    assert augmenter_metrics(history) == dict(fasa_adaptations=2, virtual_per_iteration=2.0, fasa_groups=3)
    assert augmenter_metrics(dict(iterations=4, drawn=[], passes=[])) == {}
    never = augmenter_metrics(dict(iterations=4, drawn=[4], passes=[]))
    assert never == dict(virtual_per_iteration=1.0)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("annotations/train.json", "train.json: no such file; run: dvc repro -fs data@NAME"),
        ("annotations/train.lines", "train.lines: No such file or directory"),
        ("train/000003.png", "000003.png: missing, with 0 other images"),
    ],
)
def test_incomplete_data_is_named(lost, message, tiny_glyphs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    root = shutil.copytree(tiny_glyphs, tmp_path / "glyphs")
    (root / lost).unlink()
    with pytest.raises(UserError, match=message):
        model_config(job(root))


def test_a_model_that_is_not_there_is_named(tiny_glyphs, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        UserError, match="there is no configs/embedded/yolo.py, which profile 'small' and row 'row'"
    ):
        model_config(job(tiny_glyphs, model="yolo"))


PARAMS = read_params(ROOT / "params.yaml")
SGD = Optimizer(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4)


@pytest.fixture(scope="module")
def letters(tiny_glyphs, tmp_path_factory):
    """The tiny data set with classes of every frequency, and these."""
    root = shutil.copytree(tiny_glyphs, tmp_path_factory.mktemp("letters") / "glyphs")
    train = root / "annotations" / "train.json"
    annotations, frequencies = json.loads(train.read_text()), list("rcffcr")
    for category, frequency in zip(annotations["categories"], frequencies, strict=True):
        category["frequency"] = frequency
    train.write_text(json.dumps(annotations))
    compact.write(train)
    return root, frequencies


@pytest.fixture
def row_config(letters, tmp_path, monkeypatch):
    """Make the job and the config of a row of the committed params.yaml, on the tiny data set."""
    monkeypatch.chdir(ROOT)

    def make(name):
        one = replace(compose(PARAMS, "embedded", name, 7), data=str(letters[0]), optimizer=SGD)
        return one, training_config(one, Schedule(iterations=3, batch=2), tmp_path / "work")

    return make


@pytest.mark.parametrize("name", PARAMS.rows)
def test_every_row_of_the_committed_params_is_what_it_says(name, row_config, letters):
    said = PARAMS.rows[name].traits
    one, cfg = row_config(name)
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)

    data = cfg.train_dataloader
    pipeline = ["LoadImageFromFile", "LoadAnnotations", "PackDetInputs"]
    if "instaboost" in said:
        pipeline.insert(1, "CompatibleInstaBoost")
    if "nms" in said:
        pipeline.append("KeepLabels")
    assert [step["type"] for step in data.dataset.pipeline] == pipeline
    assert "CompatibleInstaBoost" not in str(cfg.held_out_dataloader)
    sampler = Runner.build_dataloader(data, seed=0).sampler
    if "rfs" in said:
        assert type(sampler).__name__ == "RepeatFactorSampler"
        images = [sampler.dataset.get_cat_ids(i) for i in range(len(sampler.dataset))]
        threshold = PARAMS.sections["embedded"].traits["rfs"]["threshold"]
        assert sampler.factors.tolist() == repeat_factors(images, 6, threshold).tolist()
        assert sampler.rounding == "ceil"
    else:
        assert type(sampler) is InfiniteSampler

    if "nms" in said:
        assert type(model.rpn_head).__name__ == "NMSResamplingRPNHead"
        assert model.rpn_head.frequencies == letters[1]
        assert model.rpn_head.thresholds == dict(r=0.9, c=0.8, f=0.7)
    else:
        assert type(model.rpn_head) is RPNHead
    cascade = name.startswith("cascade")
    assert type(model).__name__ == ("CascadeRCNN" if cascade else "MaskRCNN")

    heads, hooks = box_heads(model), {hook["type"]: hook for hook in cfg.get("custom_hooks", [])}
    assert len(heads) == (3 if cascade else 1)
    augmenter = one.augmenter
    for stage, head in enumerate(heads):
        assert isinstance(head.fc_cls, NormedLinear) == ("normed" in said)
        if isinstance(head.fc_cls, NormedLinear):
            assert head.fc_cls.tempearture == 20
        seesaw = "seesaw" in said
        assert type(head.loss_cls).__name__ == ("SeesawLoss" if seesaw else "CrossEntropyLoss")
        assert head.num_classes == 6 and head.fc_cls.out_features == (8 if seesaw else 7)
        if seesaw:
            assert (head.loss_cls.p, head.loss_cls.q, len(head.loss_cls.cum_samples)) == (0.8, 2.0, 7)
        if augmenter is None:
            assert head.augmenter is None
            continue
        assert type(head.augmenter).__name__ == augmenter["type"]
        assert (head.augmenter.num_classes, head.augmenter.width) == (6, 256)
        assert head.augmenter.seed == 7 + 1_000_000 * stage
        for key, value in augmenter.items():
            if key not in ("type", "groups", "bank", "initial"):
                assert getattr(head.augmenter, key) == value, key
        if "bank" in augmenter:
            assert head.augmenter.bank.size == augmenter["bank"]
    if augmenter:
        adapts, changes = augmenter["type"].endswith("FASA"), augmenter["type"].endswith("Transfer")
        hook = hooks["AdaptationHook"]
        assert (hook["every"], hook["signal"]) == (100 if adapts else None, "loss")
        assert adapts == (hook["dataloader"] is not None)
        if adapts:
            assert hook["dataloader"].dataset.ann_file == "annotations/adapt.json"
        assert cfg.find_unused_parameters == changes
        apart = changes or cascade or not {"seesaw", "normed", "adamw"}.isdisjoint(said)
        assert one.own_warmup == (apart or augmenter["type"] == "ReleasedFASA")
    assert cfg.optim_wrapper.optimizer.type == ("AdamW" if "adamw" in said else "SGD")
    wanted = dict(AdaptationHook=augmenter is not None, PhasesHook="phase" in (augmenter or {}))
    assert hooks.keys() == {"ChannelsLastHook", *(hook for hook, there in wanted.items() if there)}


def test_rows_of_the_committed_params_differ_in_their_configs(row_config):
    """Or a key of one does nothing."""
    configs = [row_config(name)[1].to_dict() for name in PARAMS.rows]
    assert not [one for i, one in enumerate(configs) if one in configs[:i]]


def test_data_without_masks_train_a_detector_of_boxes(tiny_glyphs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = {part: str(tiny_glyphs / "annotations" / f"{part}.json") for part in ("train", "val", "adapt")}
    coco.prepare(coco.Settings(**files, images=str(tiny_glyphs), masks=False), tmp_path / "boxes")
    one = job(tmp_path / "boxes", augmenter=dict(type="FASA", prob_scale=4), adapt_every=1, iterations=2)
    train_row(
        replace(one, warmup=None), None, tmp_path / "work", tmp_path / "a.pth", tmp_path / "history.json"
    )
    assert not any("mask_head" in name for name in read_checkpoint(tmp_path / "a.pth")["state_dict"])
    detect_part(one, tmp_path / "a.pth", "val", tmp_path / "out")
    assert list(Detected.load(tmp_path / "out", one, "val").matches) == ["bbox"]
    with pytest.raises(UserError, match="InstaBoost moves objects by their masks, and the data have none"):
        training_config(replace(one, traits=dict(instaboost={})), one.train, tmp_path / "no")
