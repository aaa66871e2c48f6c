"""Mask R-CNN with a ResNet-101, as in Table 6."""

_base_ = "mask_rcnn.py"

model = dict(backbone=dict(depth=101))
