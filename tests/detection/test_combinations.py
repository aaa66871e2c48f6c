"""Rows whose settings combine: what one adds must leave alone what the others do."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.testing import assert_close

from fasa.detection.adaptation import box_heads, instance_counts
from fasa.detection.experiment import held_out
from fasa.detection.head import AugmentedHead
from fasa.detection.inference import detect, load_model
from fasa.detection.training import save_model
from fasa.errors import UserError

K = 6
FASA = dict(type="FASA", prob_scale=1e6)  # every class that was seen is drawn
SETTINGS = dict(
    rfs=dict(rfs=dict(threshold=0.9, rounding="ceil")),
    nms=dict(nms_resampling=True),
    seesaw=dict(loss="seesaw"),
    normed=dict(classifier="normed"),
)
SETTINGS["all"] = dict(instaboost=True, model="cascade_rcnn") | {
    key: value for settings in SETTINGS.values() for key, value in settings.items()
}


class Record(Hook):
    """Keeps the losses of every step."""

    def __init__(self):
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps.append({name: value.item() for name, value in outputs.items()})


def train(cfg):
    """A trained runner, and the losses of every step."""
    cfg.default_hooks.checkpoint = None
    runner, record = Runner.from_cfg(cfg), Record()
    runner.register_hook(record)
    runner.train()
    return runner, record.steps


def weights(model):
    """All of the state but augmenters'."""
    return {name: value for name, value in model.state_dict().items() if ".augmenter." not in name}


def build(cfg, counts=None):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for head in box_heads(model):
        head.augmenter.initialise(torch.ones(K) if counts is None else counts)
    return model.train()


def losses(model, batch):
    torch.manual_seed(1)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.loss(data["inputs"], data["data_samples"])


def keep_virtual(augmenter):
    """What `virtual` is asked and answers, of every step from now on."""
    kept, virtual = [], augmenter.virtual

    def keep(z, labels, maps, head):
        kept.append((labels, virtual(z, labels, maps, head)))
        return kept[-1][-1]

    augmenter.virtual = keep
    return kept


def reached(model):
    """The parameters with gradient, as ``backbone``, ``neck``, ``rpn_head`` or parts of the RoI heads."""
    names = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    return {name.removeprefix("roi_head.bbox_head.").partition(".")[0] for name in names}


@pytest.mark.parametrize("name", SETTINGS)
def test_fasa_adds_its_loss_to_a_row_and_changes_nothing_else(config, tmp_path, name):
    """Where the loss weighs nothing, losses, weights and the losses' counters are to the bit as without."""
    silent = FASA | dict(loss_weight=0.0)
    with_fasa, ours = train(config(silent, 1, 2, tmp_path / "fasa", **SETTINGS[name]))
    plain, theirs = train(config(None, None, 2, tmp_path / "plain", **SETTINGS[name]))
    heads = box_heads(with_fasa.model)
    for step, without in zip(ours, theirs, strict=True):
        added = step.keys() - without.keys()
        assert len(added) == len(heads) and all(one.endswith("loss_virtual") for one in added)
        assert {key: step[key] for key in without} == without
    for head in heads:
        assert head.augmenter.drawn.sum() > 0 and head.augmenter.adaptations == 2
    ours, theirs = weights(with_fasa.model), weights(plain.model)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_seesaw_counts_the_rois_of_training_and_nothing_else(config, monkeypatch):
    counted = torch.zeros(K + 1)
    loss = AugmentedHead.loss

    def count(head, cls_score, bbox_pred, rois, labels, *args, **kwargs):
        counted.add_(torch.bincount(labels, minlength=K + 1))
        assert cls_score.shape[1] == K + 2
        return loss(head, cls_score, bbox_pred, rois, labels, *args, **kwargs)

    monkeypatch.setattr(AugmentedHead, "loss", count)
    runner, steps = train(config(FASA, 2, 4, loss="seesaw"))
    head = runner.model.roi_head.bbox_head
    assert {"loss_cls_objectness", "loss_cls_classes", "loss_virtual"} <= steps[-1].keys()
    assert head.augmenter.drawn.sum() > 0 and head.augmenter.adaptations == 2
    assert head.loss_cls.cum_samples.tolist() == counted.tolist() and counted[:K].sum() > 0


@pytest.mark.parametrize("name", ["seesaw", "normed"])
def test_virtual_loss_is_the_cross_entropy_that_a_real_sample_would_have(config, batch, name):
    model = build(config(FASA, **SETTINGS[name]))
    head = model.roi_head.bbox_head
    with torch.no_grad():
        head.fc_cls.bias.copy_(torch.randn(len(head.fc_cls.bias)))  # 0 at first, and no part would be seen
    kept = keep_virtual(head.augmenter)
    loss = losses(model, batch)["loss_virtual"]
    ((labels, (features, classes, _)),) = kept
    assert sorted(classes.tolist()) == labels.unique().tolist()
    if name == "seesaw":
        scores = (features @ head.fc_cls.weight.T + head.fc_cls.bias)[:, :K]
    else:
        cosine = F.cosine_similarity(features[:, None], head.fc_cls.weight[None], dim=2)
        scores = 20 * cosine + head.fc_cls.bias
        assert scores.shape[1] == K + 1
    assert_close(loss, 0.1 * F.cross_entropy(scores, classes), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("augmenter", "changes", "message"),
    [
        (
            "FASA",
            dict(loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True)),
            "FASA: its loss is of a softmax, CrossEntropyLoss is of sigmoids; use CrossEntropyLoss",
        ),
        (
            "MoEx",
            dict(loss_cls=dict(type="FocalCustomLoss", use_sigmoid=True, num_classes=K)),
            "MoEx: its loss is of a softmax, FocalCustomLoss is of sigmoids; use CrossEntropyLoss",
        ),
        (
            "AngularTransfer",
            dict(loss_cls=dict(type="SeesawLoss", num_classes=K)),
            "AngularTransfer makes scores of its own and SeesawLoss too; use CrossEntropyLoss",
        ),
        (
            "AngularTransfer",
            dict(cls_predictor_cfg=dict(type="NormedLinear")),
            "AngularTransfer makes scores of its own and NormedLinear too; leave cls_predictor_cfg out",
        ),
        (
            "FeatureTransfer",
            dict(cls_predictor_cfg=dict(type="NormedLinear")),
            "FeatureTransfer makes scores of its own and NormedLinear too; leave cls_predictor_cfg out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_when_built(config, augmenter, changes, message):
    cfg = config(dict(type=augmenter))
    cfg.model.roi_head.bbox_head.update(changes)
    with pytest.raises(UserError) as info:
        build(cfg)
    assert message in str(info.value) and "\n" not in str(info.value)


def embeddings(head, maps):
    z = maps.flatten(1)
    for layer in head.shared_fcs:
        z = layer(z).relu()
    return z


def test_at_test_time_angular_transfer_scores_by_cosine(config):
    head = build(config(dict(type="AngularTransfer", margin=0.5))).roi_head.bbox_head.eval()
    with torch.no_grad():
        head.fc_cls.bias.copy_(torch.randn(K + 1))  # has no part
        maps = torch.randn(5, 64, 7, 7)
        expected = 20 * F.cosine_similarity(embeddings(head, maps)[:, None], head.fc_cls.weight[None], dim=2)
        assert_close(head(maps)[0], expected, rtol=1e-4, atol=1e-5)


def test_at_test_time_feature_transfer_classifies_what_its_encoder_gives(config):
    head = build(config(dict(type="FeatureTransfer"))).roi_head.bbox_head.eval()
    into, _, out = head.augmenter.encoder.layers
    with torch.no_grad():
        for parameter in (out.weight, out.bias, head.fc_cls.bias):
            parameter.copy_(torch.randn(parameter.shape) / 10)
        maps = torch.randn(5, 64, 7, 7)
        z = embeddings(head, maps)
        encoded = z + (z @ into.weight.T + into.bias).relu() @ out.weight.T + out.bias
        scores, boxes = head(maps)
        assert_close(scores, encoded @ head.fc_cls.weight.T + head.fc_cls.bias, rtol=1e-4, atol=1e-5)
        assert_close(boxes, head.fc_reg(z), rtol=0, atol=0)  # of clean embeddings


@pytest.mark.parametrize("name", ["AngularTransfer", "FeatureTransfer"])
def test_a_checkpoint_detects_what_the_trained_model_does(config, tmp_path, name):
    cfg = config(dict(type=name, tail=9), iterations=3)
    model = train(cfg)[0].model.eval()
    save_model(model, cfg.classes["names"], tmp_path / "model.pth")
    dataloader = Runner.build_dataloader(held_out(cfg, "val"), seed=0)

    def scores(detector):
        return [found.score for found in detect(detector, dataloader, masks=False)]

    expected = scores(model)
    assert min(map(len, expected)) > 0
    for one, other in zip(scores(load_model(cfg, tmp_path / "model.pth")), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # its maps are laid out otherwise
    model.roi_head.bbox_head.augmenter = None  # its part in the scores is not nothing
    model.roi_head.bbox_head.fc_cls._forward_hooks.clear()
    model.roi_head.bbox_head.fc_cls._forward_pre_hooks.clear()
    for one, other in zip(scores(model), expected, strict=True):
        assert one.shape != other.shape or abs(one - other).max() > 1e-3


@pytest.fixture
def tailed(config):
    """The instance counts, and a bound that makes two classes head and the others tail."""
    init_default_scope("mmdet")
    counts = instance_counts(Runner.build_dataloader(config().train_dataloader, seed=0).dataset, K)
    tail = counts.sort(descending=True).values[1].item()
    assert (counts < tail).sum() == K - 2
    return counts, tail


def test_virtual_maps_of_cam_mixing_train_the_shared_layers_and_the_classifier(config, tailed):
    counts, tail = tailed
    model = build(config(dict(type="CAMMixing", tail=tail)), counts)
    head = model.roi_head.bbox_head
    assert head.augmenter.bank.values.shape == (K, 2, 64, 7, 7)  # channels and size are the config's
    with torch.no_grad():
        head.fc_cls.weight.mul_(10)
    labels = torch.arange(K + 1).repeat_interleave(3)
    maps = torch.randn(len(labels), 64, 7, 7, requires_grad=True)
    kept = keep_virtual(head.augmenter)
    cls_score, bbox_pred = head(maps)
    boxes = torch.zeros(len(labels), 4)
    rois, weight = F.pad(boxes, (1, 0)), torch.ones(len(labels))
    loss = head.loss(cls_score, bbox_pred, rois, labels, weight, boxes, boxes)["loss_virtual"]
    ((_, (features, classes, _)),) = kept
    assert len(features) > 0 and (counts[classes] < tail).all() and features.shape[1:] == (64, 7, 7)
    expected = F.cross_entropy(embeddings(head, features) @ head.fc_cls.weight.T + head.fc_cls.bias, classes)
    assert_close(loss, 0.1 * expected, rtol=1e-4, atol=0)
    loss.backward()
    assert maps.grad is None and reached(model) == {"shared_fcs", "fc_cls"}


@pytest.mark.parametrize("loss", ["cross_entropy", "seesaw"])
def test_cam_mixing_mixes_in_training(config, tailed, loss):
    counts, tail = tailed
    runner, steps = train(config(dict(type="CAMMixing", tail=tail), iterations=10, loss=loss, seed=1))
    augmenter = runner.model.roi_head.bbox_head.augmenter
    assert augmenter.counts.tolist() == counts.tolist()
    assert augmenter.found > 0 and augmenter.drawn[counts < tail].sum() > 0
    assert augmenter.drawn[counts >= tail].sum() == 0 and max(step["loss_virtual"] for step in steps) > 0


@pytest.mark.parametrize("at", ["embedding", "map"])
def test_moex_trains_the_backbone_too(config, batch, at):
    model = build(config(dict(type="MoEx", at=at)))
    losses(model, batch)["loss_virtual"].backward()
    assert reached(model) == {"backbone", "neck", "shared_fcs", "fc_cls"}
