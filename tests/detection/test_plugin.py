"""The README's lines in mmdet's own LVIS config, on the tiny data set."""

import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from fasa.data.lvis import instance_counts, read_annotations

ROOT = Path(__file__).parents[2]
BASE = "mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py"


def readme_lines() -> str:
    """What the README tells a borrower to add to a config."""
    return re.search(r"```python\n(custom_imports.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def use_tiny_data(cfg: Config, root: Path) -> None:
    """Put the tiny data set in LVIS's place, at its size; change nothing about FASA but its warm-up."""
    small = dict(type="Resize", scale=(96, 96), keep_ratio=True)
    for loader, dataset, part in (
        (cfg.train_dataloader, cfg.train_dataloader.dataset.dataset, "train"),
        (cfg.val_dataloader, cfg.val_dataloader.dataset, "val"),
    ):
        dataset.update(data_root=str(root), data_prefix=dict(img=""), metainfo=dict(classes=tuple("abcdef")))
        dataset.ann_file = f"annotations/{part}.json"
        dataset.pipeline = [small if "Resize" in step.type else step for step in dataset.pipeline]
        loader.update(num_workers=0, persistent_workers=False)
    cfg.custom_hooks[0].dataloader.dataset.ann_file = "annotations/adapt.json"
    cfg.val_evaluator.ann_file = str(root / "annotations" / "val.json")
    cfg.model.backbone.init_cfg = None
    cfg.model.roi_head.bbox_head.num_classes = cfg.model.roi_head.mask_head.num_classes = 6
    cfg.model.roi_head.bbox_head.augmenter.warmup = 2


def test_the_readmes_lines_add_fasa_to_mmdets_lvis_config(tiny_glyphs, tmp_path):
    torch.set_num_threads(1)
    (tmp_path / "config.py").write_text(f'_base_ = "{BASE}"\n{readme_lines()}')
    cfg = Config.fromfile(tmp_path / "config.py")
    use_tiny_data(cfg, tiny_glyphs)
    cfg.train_cfg.update(max_epochs=2, val_begin=9)
    cfg.update(
        work_dir=str(tmp_path), log_level="ERROR", test_dataloader=None, test_cfg=None, test_evaluator=None
    )
    runner = Runner.from_cfg(cfg)
    runner.train()

    augmenter = runner.model.roi_head.bbox_head.augmenter
    assert augmenter.adaptations == 2  # after every epoch
    assert augmenter.moments.seen.any() and augmenter.drawn.sum() > 0
    # what mmengine's own checkpoint hook saved is plain data, which torch reads without trusting it
    assert "state_dict" in torch.load(tmp_path / "epoch_2.pth", weights_only=True)
    (hook,) = (hook for hook in runner.hooks if hasattr(hook, "history"))
    counts = instance_counts(read_annotations(tiny_glyphs / "annotations" / "train.json"))
    share = (1 / counts) / (1 / counts).sum()  # of the file: mmdet's LVIS config repeats images
    torch.testing.assert_close(hook.history[0]["probability"], share.tolist(), rtol=1e-5, atol=0)
