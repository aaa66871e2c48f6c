"""The lvis profile cut down to what a test can run: 1,203 classes, small images, a small network."""

from pathlib import Path

from lvis_folder import categories, write_lvis

from fasa.sections import merged

# What `lvis.config` may say; images of 64 pixels at most, loaded by the run's own process.
LOADER = dict(num_workers=0, persistent_workers=False)
CONFIG = dict(
    model=dict(
        backbone=dict(depth=18, base_channels=16, stem_channels=16, frozen_stages=-1, norm_eval=False),
        neck=dict(in_channels=[16, 32, 64, 128]),
        roi_head=dict(
            mask_head=dict(num_convs=1, conv_out_channels=16),
            # as many samples as a region has pixels take most of an iteration on a CPU
            bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=1)),
            mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=1)),
        ),
        train_cfg=dict(rpn_proposal=dict(max_per_img=6)),
        test_cfg=dict(rpn=dict(max_per_img=8)),
    ),
    train_dataloader=LOADER | dict(dataset=dict(pipeline={"2": dict(scales=[[48, 36], [64, 48]])})),
    held_out_dataloader=LOADER | dict(dataset=dict(pipeline={"2": dict(scale=[64, 48])})),
)


def small(section: dict, folder: Path, **more) -> dict:
    """A profile's section at that size, on the LVIS in a folder; a box has one mask, not 1,203."""
    data = section["data"] | dict(path=str(folder), complete=False)
    config = merged(CONFIG, dict(model=dict(roi_head=dict(mask_head=dict(class_agnostic=True)))))
    return section | dict(data=data, config=config, weights=None) | more


def long_tailed(folder: Path, **sizes: int) -> Path:
    """A folder laid out as LVIS v1, its classes drawn the more often the more of them LVIS has.

    Steeper than that: of so few images some must hold frequent classes alone, or none could be held out.
    """
    return write_lvis(folder, weights=[one["instance_count"] ** 1.5 for one in categories()], **sizes)
