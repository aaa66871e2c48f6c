"""Data and test settings at the paper's scale (appendix F): LVIS v1, 800 pixels."""

load = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
]
dataset = dict(type="LVISV1Dataset")  # where it lies is filled in

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        **dataset,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            *load,
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
        **dataset,
        test_mode=True,
        pipeline=[
            load[0],
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="PackDetInputs"),
        ],
    ),
)

optim_wrapper = dict(type="OptimWrapper")
model = dict(test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)))
