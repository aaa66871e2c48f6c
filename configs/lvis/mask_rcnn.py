"""Mask R-CNN, ResNet-50 and FPN, at the paper's scale: mask AP 19.3 there (22.6 with FASA), after 24 epochs.

mmdet has no such config: its own of LVIS v1 take 12 epochs, and repeat images. `weights` in params.yaml says
what the backbone starts from.
"""

_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "../_base_/fasa.py", "../_base_/lvis.py"]

model = dict(backbone=dict(init_cfg=None), test_cfg=dict(rcnn={{_base_.detections}}))
