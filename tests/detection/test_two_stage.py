"""Detectors of other make than the embedded ones: mmdet's own configs, with a tiny network."""

from pathlib import Path

import mmdet
import numpy as np
import pycocotools.mask
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from fasa.detection.adaptation import class_losses
from fasa.detection.experiment import held_out
from fasa.detection.inference import detect
from fasa.detection.two_stage import augmenters, box_heads
from fasa.errors import UserError

CONFIGS = {
    "HTC": "htc/htc-without-semantic_r50_fpn_1x_coco.py",
    "HTC with semantic segmentation": "htc/htc_r50_fpn_1x_coco.py",
    "Mask Scoring R-CNN": "ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py",
    "PointRend": "point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py",
    "Faster R-CNN": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
}
OTHERS = ["retinanet/retinanet_r50_fpn_1x_coco.py", "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py"]


def build(path, augment=False):
    init_default_scope("mmdet")
    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs" / path).model
    cfg.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    if "style" in cfg.backbone:
        cfg.backbone.style = "pytorch"
    cfg.neck.in_channels = [8, 16, 32, 64]
    if augment:
        heads = cfg.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.update(type="AugmentedShared2FCBBoxHead", num_classes=6, augmenter=dict(type="FASA"))
        masks = cfg.roi_head.get("mask_head", [])
        for head in masks if isinstance(masks, list) else [masks]:
            head.num_classes = 6
        for name in ("mask_iou_head", "point_head"):
            if name in cfg.roi_head:
                cfg.roi_head[name].num_classes = 6
        cfg.test_cfg.rpn.max_per_img = 20
        cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=-1)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_detects_as_mmdet_does_and_measures_each_head(config, name):
    model, masks = build(CONFIGS[name], augment=True), name != "Faster R-CNN"
    val = held_out(config(), "val")
    val.batch_size = 2
    loader = Runner.build_dataloader(val, seed=0)
    loader.dataset.get_subset_(3)
    with torch.no_grad():
        samples = [sample for batch in loader for sample in model.test_step(batch)]
    found = list(detect(model, loader, masks=masks))
    for one, sample in zip(found, samples, strict=True):
        expected = sample.pred_instances
        assert one.category_id.tolist() == (expected.labels + 1).tolist() and len(expected) > 3
        corners = np.concatenate([one.box[:, :2], one.box[:, :2] + one.box[:, 2:]], axis=1)
        np.testing.assert_allclose(corners, expected.bboxes.numpy(), atol=1e-4)
        if masks:
            theirs = np.asfortranarray(expected.masks.numpy().transpose(1, 2, 0), np.uint8)
            assert one.rle == [code["counts"] for code in pycocotools.mask.encode(theirs)]
    losses = class_losses(model, loader)
    assert len(losses) == len(box_heads(model)) == (3 if "HTC" in name else 1) == len(augmenters(model))
    assert all(loss.isfinite().any() for loss in losses)
    if not masks:
        with pytest.raises(UserError, match="FasterRCNN has no mask head; detect with masks=False"):
            next(detect(model, loader))


@pytest.mark.parametrize("path", OTHERS)
def test_one_stage_and_query_based_detectors_are_refused(path, config):
    model = build(path)
    with pytest.raises(
        UserError, match="is not a two-stage detector with a linear classifier on RoIs"
    ) as info:
        box_heads(model)
    assert "\n" not in str(info.value) and type(model).__name__ in str(info.value)
    with pytest.raises(UserError, match="one-stage and query-based detectors cannot be augmented"):
        next(detect(model, held_out(config(), "val")))
