"""Data and test settings at the paper's scale (appendix F): LVIS v1, 800 pixels."""

_base_ = "data.py"

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=False,  # what they draw could not be taken up by a resumed run
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        **_base_.dataset,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            *_base_.load,
            dict(
                type="RandomChoiceResize",
                scales=[(1333, size) for size in range(640, 801, 32)],
                keep_ratio=True,
            ),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ],
    ),
)
held_out_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        **_base_.dataset,
        test_mode=True,
        pipeline=[
            *_base_.load_held_out,
            dict(type="Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="PackDetInputs"),
        ],
    ),
)

optim_wrapper = dict(type="OptimWrapper")
detections = dict(score_thr=1e-4, max_per_img=300)
