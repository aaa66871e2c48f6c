"""docs/use-in-mmdet.md in mmdet's own LVIS configs, with a tiny network and tiny images at K = 1,203."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pages import block
from torch import nn

import fasa
from fasa.data.lvis import instance_counts, read_annotations
from fasa.detection import augmented
from fasa.detection.two_stage import augmenters, box_heads
from fasa.errors import UserError

ROOT = Path(__file__).parents[2]
PAGE = "docs/use-in-mmdet.md"
LINES = block(PAGE, "from fasa.detection import augmented") + block(PAGE, "custom_hooks += ")
BASES = {
    "mask": "mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py",
    "cascade": "mmdet::seesaw_loss/cascade-mask-rcnn_r101_fpn_seesaw-loss_sample1e-3-ms-2x_lvis-v1.py",
}
CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
K = 1203


@pytest.fixture(scope="module")
def lvis(tiny_glyphs, tmp_path_factory):
    """The tiny data set with 1,203 categories; six of them have objects."""
    root = tmp_path_factory.mktemp("lvis")
    for split in ("train", "adapt", "val"):
        (root / split).symlink_to(tiny_glyphs / split)
        content = json.loads((tiny_glyphs / "annotations" / f"{split}.json").read_text())
        last = content["categories"][-1]
        content["categories"] += [dict(last, id=i, name=f"class {i}") for i in range(7, K + 1)]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


def shrink(cfg: Config, root: Path) -> None:
    """A tiny network on the tiny data set; change nothing about FASA but its warm-up."""
    names = tuple(c["name"] for c in read_annotations(root / "annotations" / "val.json")["categories"])
    small = dict(type="Resize", scale=(96, 96), keep_ratio=True)
    for loader, part in ((cfg.train_dataloader, "train"), (cfg.val_dataloader, "val")):
        dataset = loader.dataset.get("dataset", loader.dataset)
        dataset.update(data_root=str(root), data_prefix=dict(img=""), metainfo=dict(classes=names))
        dataset.ann_file = f"annotations/{part}.json"
        dataset.pipeline = [small if "Resize" in step.type else step for step in dataset.pipeline]
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.oversample_thr = 1e-9  # nothing is repeated: 6 batches an epoch
    cfg.custom_hooks[0].dataloader.dataset.ann_file = "annotations/adapt.json"
    cfg.val_evaluator.ann_file = str(root / "annotations" / "val.json")
    cfg.model.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    heads = cfg.model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.fc_out_channels, head.augmenter.warmup = 32, 2
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    cfg.model.test_cfg.rpn.max_per_img = 20
    cfg.update(log_level="ERROR", test_dataloader=None, test_cfg=None, test_evaluator=None)


@pytest.mark.parametrize("name", BASES)
def test_the_pages_lines_train_and_resume_in_mmdets_lvis_configs(lvis, tmp_path, name):
    torch.set_num_threads(1)
    (tmp_path / "config.py").write_text(f'_base_ = "{BASES[name]}"\n{LINES}')

    def run(work, epochs, **more):
        cfg = Config.fromfile(tmp_path / "config.py")
        shrink(cfg, lvis)
        cfg.custom_hooks[1].every = 4
        cfg.train_cfg.update(max_epochs=epochs, val_begin=9)
        cfg.merge_from_dict(dict(work_dir=str(tmp_path / work), randomness=dict(seed=1)) | more)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    run("broken", 1)
    resumed = run("broken", 2, resume=True)  # from epoch_1.pth
    (hook,) = (hook for hook in resumed.hooks if hasattr(hook, "history"))
    heads = 1 if name == "mask" else 3
    assert [record["iteration"] for record in hook.history] == [6] * heads + [12] * heads
    for augmenter in augmenters(resumed.model):
        assert augmenter.adaptations == 2 and augmenter.iteration == 12  # after every epoch
        assert augmenter.moments.seen.any() and augmenter.drawn.sum() > 0
    # what mmengine's own checkpoint hook saved is plain data, which torch reads without trusting it
    assert "state_dict" in torch.load(tmp_path / "broken" / "epoch_2.pth", weights_only=True)
    counts = torch.from_numpy(instance_counts(read_annotations(lvis / "annotations" / "train.json")))
    share = torch.where(counts > 0, 1 / counts, 0)
    start = torch.tensor(hook.history[0]["probability"])
    torch.testing.assert_close(start, (share / share.sum()).float(), rtol=1e-5, atol=0)


def test_the_pages_commands_train_resume_and_start_ranks(lvis, tmp_path):
    """mmdet's own tool, as it lies in a checkout of mmdet, and ours."""
    (tmp_path / "tools").symlink_to(Path(mmdet.__file__).parent / ".mim" / "tools")
    (tmp_path / "base.py").write_text(f'_base_ = "{BASES["mask"]}"\n{LINES}')
    cfg = Config.fromfile(tmp_path / "base.py")
    shrink(cfg, lvis)
    cfg.custom_hooks[1].every = 4
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | dict(PATH=path, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="")

    def run(text, epochs):
        cfg.train_cfg.update(max_epochs=epochs, val_begin=9)
        cfg.dump(tmp_path / "config.py")
        done = subprocess.run(
            shlex.split(text), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]

    run(block(PAGE, "python tools/train.py config.py\n"), epochs=1)
    run(block(PAGE, "python tools/train.py config.py --resume"), epochs=2)
    whole = torch.load(tmp_path / "work_dirs/config/epoch_2.pth", weights_only=True)
    assert [record["iteration"] for record in whole["adaptation_history"]] == [6, 12]
    run(block(PAGE, "torchrun"), epochs=3)  # goes on from there, on two ranks
    state = torch.load(tmp_path / "model.pth", weights_only=True)["state_dict"]
    assert state["roi_head.bbox_head.augmenter.adaptations"] == 3


def test_a_saved_config_builds_where_nothing_has_registered_fasa(tmp_path):
    """As in a work folder: of the import nothing is left but the names of classes."""
    (tmp_path / "config.py").write_text(f'_base_ = "{BASES["cascade"]}"\n{LINES}')
    Config.fromfile(tmp_path / "config.py").dump(tmp_path / "saved.py")
    assert "import" not in (tmp_path / "saved.py").read_text()
    build = """
from mmdet.registry import HOOKS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
register_all_modules()
cfg = Config.fromfile("saved.py")
cfg.model.backbone.init_cfg = None
heads = MODELS.build(cfg.model).roi_head.bbox_head
hooks = [HOOKS.build(one) for one in cfg.custom_hooks]
print(*(type(one).__name__ for one in [*heads, *hooks]))
"""
    environment = os.environ | dict(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    built = done.stdout.splitlines()[-1].split()
    assert built == ["AugmentedShared2FCBBoxHead"] * 3 + ["AdaptationHook", "ExactResumeHook"]


def test_the_pages_loop_in_plain_pytorch():
    torch.manual_seed(0)
    num_classes, width, epochs = 4, 8, 3
    model = nn.Module()
    model.features, model.classifier = nn.Linear(5, width), nn.Linear(width, num_classes)
    counts = torch.tensor([40, 10, 4, 2])
    labels = torch.arange(num_classes).repeat_interleave(counts)
    x = torch.randn(len(labels), 5) + labels[:, None]
    loader = [(x[i::7], labels[i::7]) for i in range(7)]
    measured = []

    def class_losses(model, held_out):
        losses = F.cross_entropy(model.classifier(model.features(x)), labels, reduction="none")
        measured.append(torch.stack([losses[labels == k].mean() for k in range(num_classes)]).detach())
        return measured[-1]

    optimizer, held_out = torch.optim.SGD(model.parameters(), lr=0.1), None
    names = dict(locals(), fasa=fasa, F=F)
    exec(block(PAGE, "augmenter = fasa.FASA"), names)
    augmenter = names["augmenter"]
    assert len(measured) == epochs == augmenter.adaptations and measured[-1].mean() < measured[0].mean()
    assert augmenter.drawn.sum() > 0 and augmenter.warmup == len(loader)


def test_the_example_and_the_readme_have_the_pages_lines():
    example = (ROOT / "examples" / "mask_rcnn_lvis.py").read_text().replace("  # noqa: E402", "")
    lines = block("README.md", "from fasa.detection import augmented")
    assert sum(map(bool, lines.splitlines())) == 3
    assert LINES.startswith(lines)
    assert LINES in example and block("docs/judge-detections.md", "val_evaluator") in example
    cfg = Config.fromfile(ROOT / "examples" / "mask_rcnn_lvis.py")
    assert (
        cfg.model.roi_head.bbox_head.augmenter.type == "FASA" and cfg.test_evaluator.type == "FASALVISMetric"
    )


@pytest.mark.parametrize(
    "path, kind, heads",
    [
        ("double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py", "AugmentedDoubleConvFCBBoxHead", 1),
        ("gn/mask-rcnn_r50_fpn_gn-all_2x_coco.py", "AugmentedShared4Conv1FCBBoxHead", 1),
        ("htc/htc_r50_fpn_1x_coco.py", "AugmentedShared2FCBBoxHead", 3),
    ],
)
def test_every_box_head_gets_an_augmenter_of_its_own(path, kind, heads):
    init_default_scope("mmdet")
    plain = Config.fromfile(CONFIGS / path).model
    before = plain.to_dict()
    cfg = augmented(plain, dict(type="FASA", seed=4))
    assert plain.to_dict() == before
    model = MODELS.build(cfg)
    assert [type(head).__name__ for head in box_heads(model)] == [kind] * heads
    assert [one.seed for one in augmenters(model)] == [4 + 1_000_000 * stage for stage in range(heads)]


@pytest.mark.parametrize("augmenter", [dict(type="FASA", prob_scale=1e6), dict(type="MoEx", at="map")])
def test_a_double_heads_classifier_is_augmented(augmenter):
    """It takes the RoIs twice: once to classify them, once for their boxes."""
    init_default_scope("mmdet")
    cfg = augmented(
        Config.fromfile(CONFIGS / "double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py").model, augmenter
    )
    head = cfg.roi_head.bbox_head
    head.update(num_classes=6, in_channels=16, conv_out_channels=16, fc_out_channels=8, num_convs=1)
    torch.manual_seed(0)
    head = MODELS.build(head)
    head.augmenter.initialise(torch.ones(6))
    features = torch.randn(8, 16, 7, 7)
    labels, weights = torch.tensor([0, 0, 1, 2, 6, 6, 6, 6]), torch.ones(8)
    scores, boxes = head(features, features + 1)
    targets = torch.zeros(8, 4)
    losses = head.loss(scores, boxes, torch.zeros(8, 5), labels, weights, targets, torch.zeros(8, 4))
    losses["loss_virtual"].backward()
    assert losses["loss_virtual"] > 0 and head.fc_cls.weight.grad.abs().sum() > 0
    shared = sum(one.grad is not None and bool(one.grad.any()) for one in head.fc_branch.parameters())
    assert (shared > 0) == (augmenter["type"] == "MoEx")
    assert all(one.grad is None for one in head.conv_branch.parameters()) or augmenter["type"] == "MoEx"


@pytest.mark.parametrize(
    "model, message",
    [
        (dict(type="RetinaNet", bbox_head=dict(type="RetinaHead")), "RetinaNet: no roi_head.bbox_head"),
        (
            dict(roi_head=dict(bbox_head=[dict(type="DIIHead")])),
            "no augmented DIIHead; known: ConvFCBBoxHead",
        ),
    ],
)
def test_what_cannot_be_augmented_is_refused(model, message):
    with pytest.raises(UserError, match=message):
        augmented(Config(model), dict(type="FASA"))
