"""Cascade Mask R-CNN at the embedded scale: mask_rcnn.py with three box and mask heads.

Each has the RoIs that the one before it has refined.
"""

_base_ = "mask_rcnn.py"

# As in mmdet's Cascade Mask R-CNN: what a stage calls an object, and how far it expects to move a box.
overlaps = [0.5, 0.6, 0.7]
reaches = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]

model = dict(
    type="CascadeRCNN",
    roi_head=dict(
        _delete_=True,
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_roi_extractor={{_base_.model.roi_head.bbox_roi_extractor}},
        bbox_head=[
            dict(
                type="Shared2FCBBoxHead",
                in_channels={{_base_.width}},
                fc_out_channels=256,
                roi_feat_size=7,
                reg_class_agnostic=True,
                bbox_coder=dict(
                    type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=reach
                ),
                loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
            )
            for reach in reaches
        ],
        mask_roi_extractor={{_base_.model.roi_head.mask_roi_extractor}},
        mask_head={{_base_.model.roi_head.mask_head}},
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type="MaxIoUAssigner",
                    pos_iou_thr=overlap,
                    neg_iou_thr=overlap,
                    min_pos_iou=overlap,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler={{_base_.model.train_cfg.rcnn.sampler}},
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for overlap in overlaps
        ]
    ),
)
