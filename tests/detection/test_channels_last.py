import pytest
import torch
from mmengine.runner import Runner

from fasa.detection.training import train
from fasa.errors import UserError


def test_training_is_the_same_to_the_last_digits_in_both_layouts(config, tmp_path):
    weights = []
    for name in ("first", "last"):
        cfg = config(iterations=3, work_dir=tmp_path / name)
        assert cfg.custom_hooks.pop(0).type == "ChannelsLastHook"
        if name == "last":
            cfg.custom_hooks.insert(0, dict(type="ChannelsLastHook"))
        model = train(cfg).model
        conv = model.backbone.layer3[0].conv1.weight  # 3 x 3
        assert conv.is_contiguous(memory_format=torch.channels_last) == (name == "last")
        weights.append(model.state_dict())
    start = Runner.from_cfg(cfg).model.state_dict()
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-2, atol=1e-3, msg=key)
    moved = [key for key in start if start[key].dim() == 4 and not torch.equal(start[key], weights[1][key])]
    assert len(moved) > 20


def test_mmcvs_roi_align_is_refused(config):
    cfg = config(iterations=1)
    cfg.model.roi_head.bbox_roi_extractor.type = "SingleRoIExtractor"
    with pytest.raises(UserError, match="mmcv's RoIAlign cannot read such maps; use RowRoIExtractor"):
        train(cfg)
