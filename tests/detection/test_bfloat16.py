import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from torch import nn

from fasa.detection.bfloat16 import as_float32, heads
from fasa.detection.inference import load_model
from fasa.detection.training import save_model, train
from fasa.detection.two_stage import box_heads

FASA = dict(type="FASA", prob_scale=1e6)
CAM = dict(type="CAMMixing", bank=2)


@HOOKS.register_module(force=True)
class Types(Hook):
    """Keeps what layers hand out and take, and the losses of every step."""

    def __init__(self):
        self.layers, self.parts, self.losses = set(), set(), []

    def before_train(self, runner):
        model = runner.model
        scoring = [head.fc_cls for head in box_heads(model)]  # virtual samples, too: those in float32
        for part in model.modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and part not in scoring:
                part.register_forward_hook(lambda part, inputs, output: self.layers.add(output.dtype))
        for part in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
            for one in part if isinstance(part, nn.ModuleList) else [part]:
                one.register_forward_hook(lambda part, inputs, output: self.parts.add(output.dtype))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: value.item() for name, value in outputs.items()})


def steps(cfg):
    """A trained model and what was seen on the way."""
    cfg.custom_hooks.append(dict(type="Types"))
    runner = train(cfg)
    return runner.model, next(hook for hook in runner.hooks if isinstance(hook, Types))


@pytest.mark.parametrize(
    "settings",
    [
        dict(augmenter=FASA, adapt_every=1),
        dict(augmenter=FASA, adapt_every=1, model="cascade_rcnn"),
        dict(augmenter=CAM),
        dict(augmenter=dict(type="AngularTransfer", margin=0.1)),
    ],
    ids=["fasa", "cascade", "cam", "angular"],
)
def test_layers_compute_in_bfloat16_and_all_else_in_float32(config, tmp_path, settings):
    exact, before = steps(config(iterations=2, work_dir=tmp_path / "float32", **settings))
    cfg = config(iterations=2, work_dir=tmp_path / "bfloat16", **settings)
    cfg.custom_hooks.append(dict(type="BFloat16Hook"))
    model, after = steps(cfg)
    assert before.layers == {torch.float32} and after.layers == {torch.bfloat16}
    assert before.parts == after.parts == {torch.float32}
    for name, value in model.state_dict().items():
        assert value.dtype == exact.state_dict()[name].dtype, name
    first = {
        name: value for name, value in before.losses[0].items() if "loss" in name and "virtual" not in name
    }
    assert after.losses[0] != before.losses[0]
    for name, value in first.items():
        assert after.losses[0][name] == pytest.approx(value, rel=0.05, abs=0.02), name


def test_a_model_that_was_trained_so_computes_in_float32_elsewhere(config, tmp_path):
    cfg = config(iterations=1)
    cfg.custom_hooks.append(dict(type="BFloat16Hook"))
    model, _ = steps(cfg)
    save_model(model, cfg.classes["names"], tmp_path / "model.pth")
    loaded = load_model(cfg, tmp_path / "model.pth")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        exact, coarse = loaded.extract_feat(image)[0], model.eval().extract_feat(image)[0]
    assert exact.dtype == coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)
    torch.testing.assert_close(coarse, exact, rtol=0.1, atol=0.05)


def test_heads_of_every_stage_are_found(config):
    init_default_scope("mmdet")
    assert len(heads(MODELS.build(config().model))) == 3
    assert len(heads(MODELS.build(config(model="cascade_rcnn").model))) == 7


def test_nested_values_keep_their_shape():
    low, high = torch.ones(2, dtype=torch.bfloat16), torch.ones(1, dtype=torch.int64)
    (one, (two, three)), four = as_float32(([low, (high, None)], low))
    assert one.dtype == four.dtype == torch.float32 and two is high and three is None
