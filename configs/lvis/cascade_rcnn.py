"""Cascade Mask R-CNN, ResNet-101 and FPN, as in Table 6."""

_base_ = ["mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py", "../_base_/fasa.py", "../_base_/lvis.py"]

model = dict(backbone=dict(depth=101, init_cfg=None), test_cfg=dict(rcnn={{_base_.detections}}))
