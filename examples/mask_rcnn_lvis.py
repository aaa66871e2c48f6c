"""Mask R-CNN with FASA on LVIS v1: mmdet's own config, FASA's lines, and this package's metric.

    python -m fasa.detection.train examples/mask_rcnn_lvis.py

It wants LVIS in data/lvis_v1 as mmdet does, and beside its annotations a file adapt.json of images that
are neither trained nor reported on. For a Cascade name another config as `_base_`; the rest stays.
"""

_base_ = "mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py"

from fasa.detection import augmented  # noqa: E402

model = augmented(_base_.model, dict(type="FASA", warmup=6000))
custom_hooks = [dict(type="AdaptationHook", dataloader=dict(dataset=dict(ann_file="annotations/adapt.json")))]
custom_hooks += [dict(type="ExactResumeHook", every=1000)]
val_evaluator = dict(
    type="FASALVISMetric",
    ann_file="data/lvis_v1/annotations/lvis_v1_val.json",
    tide="lvis",
)
test_evaluator = val_evaluator
