"""Every row at the paper's scale: what its config says, and a step of it with all 1,203 classes."""

import inspect
import math
from pathlib import Path

import pytest
from lvis_scale import CONFIG, long_tailed
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from msgspec.structs import replace

from fasa.data import lvis_v1
from fasa.detection.adaptation import box_heads
from fasa.detection.experiment import training_config
from fasa.job import Schedule, method
from fasa.params import read_params
from fasa.rows import compose

ROOT = Path(__file__).parents[2]
PARAMS = read_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("lvis")
    long_tailed(root / "raw", train=120, val=3)
    lvis_v1.prepare(lvis_v1.Settings(path=str(root / "raw"), complete=False, adapt="val"), root / "data")
    return root / "data"


@pytest.fixture
def job(data, monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda row, **changes: replace(compose(PARAMS, "lvis", row, 0), data=str(data), **changes)


@pytest.mark.parametrize(
    ("row", "depth", "pipeline"),
    [
        ("mask_rcnn", 50, []),
        ("mask_rcnn_rfs_fasa", 50, []),
        ("mask_rcnn_instaboost", 50, ["CompatibleInstaBoost"]),
        ("cascade_rcnn_rfs_fasa", 101, []),
    ],
)
def test_the_paper_s_settings(row, depth, pipeline, job, tmp_path):
    """Appendix F."""
    one = job(row)
    cfg = training_config(one, one.train, tmp_path)
    assert cfg.train_cfg == dict(type="EpochBasedTrainLoop", max_epochs=24)
    assert cfg.train_dataloader.batch_size == 16
    dataset, wrapped = cfg.train_dataloader.dataset, "rfs" in row
    if wrapped:
        assert (dataset.type, dataset.oversample_thr) == ("ClassBalancedDataset", 1e-3)
        dataset = dataset.dataset
    steps = {step["type"]: step for step in dataset.pipeline}
    assert list(steps)[1 : 1 + len(pipeline)] == pipeline
    assert [size for _, size in steps["RandomChoiceResize"]["scales"]] == [640, 672, 704, 736, 768, 800]
    assert steps["RandomFlip"]["prob"] == 0.5 and dataset.type == "PreparedDataset"
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum) == ("SGD", 0.02, 0.9)
    assert optimizer.weight_decay == 1e-4
    ramp, fall = cfg.param_scheduler
    assert ramp["end"] == 500 and fall["milestones"] == [16, 22] and fall["by_epoch"]
    rcnn = cfg.model.test_cfg.rcnn
    assert (rcnn.score_thr, rcnn.max_per_img) == (1e-4, 300)
    backbone = cfg.model.backbone
    assert (backbone.depth, backbone.frozen_stages, backbone.norm_eval) == (depth, 1, True)
    heads = cfg.model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        assert head.num_classes == 1203 and head.fc_out_channels == 1024


@pytest.mark.parametrize("model", ["mask_rcnn", "mask_rcnn_r101", "cascade_rcnn"])
def test_each_model_builds_in_full(model, job, tmp_path):
    one = job("mask_rcnn_fasa", model=model)
    cfg = training_config(one, one.train, tmp_path)
    init_default_scope("mmdet")
    built = MODELS.build(cfg.model)
    assert len(built.backbone.layer3) == (6 if model == "mask_rcnn" else 23)
    assert {head.augmenter.num_classes for head in box_heads(built)} == {1203}
    assert {head.fc_cls.weight.shape for head in box_heads(built)} == {(1204, 1024)}


class Keep(Hook):
    """Keeps every iteration's losses."""

    def __init__(self):
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps.append({name: float(value.detach()) for name, value in outputs.items() if "loss" in name})


def train(cfg):
    runner, kept = Runner.from_cfg(cfg), Keep()
    runner.register_hook(kept)
    runner.train()
    return runner, kept.steps


@pytest.mark.parametrize("row", PARAMS.rows)
def test_every_row_has_a_config(row, job, tmp_path):
    one = job(row)
    cfg = training_config(one, one.train, tmp_path)
    assert cfg.train_cfg.max_epochs == 24 and len(cfg.classes["names"]) == 1203


STEPPED = [  # every method and trait once; other rows are these with other numbers
    "mask_rcnn_rfs",
    "mask_rcnn_nms_fasa",
    "mask_rcnn_fasa_released",
    "mask_rcnn_smote",
    "mask_rcnn_moex",
    "mask_rcnn_instaboost",
    "mask_rcnn_adamw",
    "mask_rcnn_angular",
    "mask_rcnn_cam",
    "mask_rcnn_transfer",
    "cascade_rcnn_rfs_fasa",
    "mask_rcnn_seesaw_fasa",
    "mask_rcnn_normed_fasa",
]


def test_the_rows_that_step_have_every_trait():
    traits = {trait for row in STEPPED for trait in PARAMS.rows[row].traits}
    assert traits == {trait for row in PARAMS.rows.values() for trait in row.traits}


@pytest.mark.parametrize("row", STEPPED)
def test_every_row_steps(row, job, tmp_path):
    one = job(row, config=CONFIG, weights=None, adapt_every=None)
    if one.augmenter:
        takes = inspect.signature(method(one.augmenter)).parameters
        quick = dict(warmup=0, prob_scale=1e6, tail=3, phase=2)
        quick = {name: value for name, value in quick.items() if name in takes}
        one = replace(one, augmenter=one.augmenter | quick)
    cfg = training_config(one, Schedule(iterations=2, batch=2), tmp_path)
    cfg.default_hooks.checkpoint.every = 99
    runner, steps = train(cfg)
    heads = box_heads(runner.model)
    assert len(heads) == (3 if "cascade" in row else 1) and {head.num_classes for head in heads} == {1203}
    assert len(steps) == 2 and all(math.isfinite(value) for step in steps for value in step.values())
    assert any("loss_virtual" in name for name in steps[-1]) == bool(one.augmenter)
    for head in heads:
        if one.augmenter:
            assert head.augmenter.counts.sum() > 1200 and (head.augmenter.counts > 0).all()
            if one.augmenter["type"] in ("FASA", "ReleasedFASA", "MoEx"):  # others need more images
                assert head.augmenter.drawn.sum() > 0
