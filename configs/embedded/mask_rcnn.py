"""Mask R-CNN at the embedded scale: glyphs of 128 pixels, two CPU cores.

From mmdet's own Mask R-CNN, and smaller: ResNet-18 with half the channels, an FPN of 64 channels that
starts at stride 8, one mask convolution. The backbone starts from what the profile's `pretrain` makes,
all else from random weights: so nothing is frozen and the norms are trained.
"""

_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "../_base_/fasa.py", "../_base_/data.py"]

custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "fasa.detection.channels_last",
        "fasa.detection.roi_align",
    ]
)
custom_hooks = [dict(type="ChannelsLastHook")]  # of an iteration's time a fifth less
strides = [8, 16, 32]
width = 64
roi_layer = dict(type="RoIAlign", output_size=7, sampling_ratio=1)

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        out_indices=(1, 2, 3),
        init_cfg=None,
    ),
    neck=dict(in_channels=[64, 128, 256], out_channels=width, num_outs=3),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[4], ratios=[1.0], strides=strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            type="RowRoIExtractor",  # mmcv's RoIAlign takes 40% of an iteration on a CPU
            roi_layer=roi_layer,
            out_channels=width,
            featmap_strides=strides,
            finest_scale=28,
        ),
        bbox_head=dict(
            in_channels=width,
            fc_out_channels=256,
            reg_class_agnostic=True,
        ),
        mask_roi_extractor=dict(
            type="RowRoIExtractor",
            roi_layer=roi_layer | dict(output_size=14),
            out_channels=width,
            featmap_strides=strides,
            finest_scale=28,
        ),
        mask_head=dict(
            num_convs=1,
            in_channels=width,
            conv_out_channels=width,
            class_agnostic=True,
            upsample_cfg=dict(type="bilinear", scale_factor=2),  # a deconvolution takes most of a test's time
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=40, pos_fraction=0.4)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(score_thr=1e-4, max_per_img=300),
    ),
)

# No flip: b is not d. No resize: scenes have one size.
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        **_base_.dataset,
        pipeline=[*_base_.load, dict(type="PackDetInputs")],
    ),
)
held_out_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        **_base_.dataset,
        test_mode=True,
        pipeline=[
            *_base_.load_held_out,
            dict(type="Resize", scale_factor=1.0),  # names the scale, which mask pasting asks for
            dict(type="PackDetInputs"),
        ],
    ),
)

optim_wrapper = dict(clip_grad=dict(max_norm=35))
