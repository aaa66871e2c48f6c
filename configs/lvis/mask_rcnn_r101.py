"""Mask R-CNN with a ResNet-101, as in Table 6; its weights lie in data/pretrained/resnet101.pth."""

_base_ = "mask_rcnn.py"

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/resnet101.pth")),
)
