import copy

import pytest
import torch
import torch.nn.functional as F
from mmdet.models import Shared2FCBBoxHead
from mmdet.models.layers import ExpMomentumEMA
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn
from torch.testing import assert_close

from fasa import FASA as Fasa
from fasa.detection.head import augmented
from fasa.detection.two_stage import class_scores
from fasa.errors import UserError

FASA = dict(type="FASA", prob_scale=1e6, seed=3)  # every class that was seen is drawn


def build(cfg, kind=None, seed=0):
    init_default_scope("mmdet")
    model = copy.deepcopy(cfg.model)
    if kind:
        model.roi_head.bbox_head.type = kind
        model.roi_head.bbox_head.pop("augmenter")
    torch.manual_seed(seed)
    detector = MODELS.build(model)
    detector.init_weights()
    for augmenter in (module for module in detector.modules() if hasattr(module, "initialise")):
        augmenter.initialise(torch.ones(augmenter.num_classes))
    return detector.train()


def losses(model, batch):
    torch.manual_seed(1)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.loss(data["inputs"], data["data_samples"])


def flat(losses):
    return {k: torch.stack([x.sum() for x in v]) if isinstance(v, list) else v for k, v in losses.items()}


def without_objects(batch):
    batch = copy.deepcopy(batch)
    for sample in batch["data_samples"]:
        sample.gt_instances = sample.gt_instances[:0]
    return batch


def test_off_it_is_the_unchanged_head(config, batch):
    ours, stock = build(config()), build(config(), kind="Shared2FCBBoxHead")
    assert ours.state_dict().keys() == stock.state_dict().keys()
    a, b = flat(losses(ours, batch)), flat(losses(stock, batch))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_on_it_adds_one_loss_and_leaves_the_others(config, batch):
    ours, stock = build(config(FASA)), build(config(), kind="Shared2FCBBoxHead")
    a, b = flat(losses(ours, batch)), flat(losses(stock, batch))
    assert a.keys() - b.keys() == {"loss_virtual"}
    assert all(torch.equal(a[k], b[k]) for k in b)
    assert a["loss_virtual"] > 0


def test_the_other_registered_head_adds_it_too(config, batch):
    cfg = config(FASA)
    cfg.model.roi_head.bbox_head.update(type="AugmentedShared4Conv1FCBBoxHead", conv_out_channels=8)
    assert losses(build(cfg), batch)["loss_virtual"] > 0


def test_virtual_loss_is_the_weighted_cross_entropy_of_what_was_drawn(config, batch):
    model = build(config(FASA))
    head = model.roi_head.bbox_head
    drawn = []
    virtual = head.augmenter.virtual

    def keep(z, labels, maps, head):
        drawn.append((z, labels, virtual(z, labels)))
        return drawn[-1][-1]

    head.augmenter.virtual = keep
    loss = losses(model, batch)["loss_virtual"]
    z, labels, (features, classes, _) = drawn[0]
    assert sorted(classes.tolist()) == labels.unique().tolist() and len(z) == len(labels)
    logits = features @ head.fc_cls.weight.T + head.fc_cls.bias
    assert_close(loss, 0.1 * F.cross_entropy(logits, classes))


def test_embeddings_are_the_input_of_fc_cls_at_the_positives(config, batch):
    model = build(config(FASA))
    head = model.roi_head.bbox_head
    seen = []
    head.fc_cls.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    head.augmenter.moments.update = lambda z, labels: seen.append((z, labels))
    losses(model, batch)
    embeddings, (z, labels) = seen[0], seen[1]
    assert 0 < len(z) < len(embeddings)
    assert {tuple(row) for row in z.tolist()} <= {tuple(row) for row in embeddings.tolist()}
    assert labels.max() < head.num_classes


def test_only_fc_cls_gets_gradient(config, batch):
    model = build(config(FASA))
    losses(model, batch)["loss_virtual"].backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_cls.bias"}


def test_backward_without_any_object(config, batch):
    model = build(config(FASA))
    result = losses(model, without_objects(batch))
    assert result["loss_virtual"] == 0
    loss, _ = model.parse_losses(result)
    loss.backward()
    assert torch.isfinite(loss)
    assert not model.roi_head.bbox_head.augmenter.moments.seen.any()


def head_losses(head, features):
    """The losses of RoI features (8, 64, 7, 7): two objects of class 0, one each of 1 and 2, background."""
    scores, boxes = head(features)
    labels = torch.tensor([0, 0, 1, 2, 6, 6, 6, 6])
    targets = torch.full((8, 4), 0.1)
    weights = (labels < 6).float()[:, None].expand(8, 4)
    return head.loss(scores, boxes, torch.zeros(8, 5), labels, torch.ones(8), targets, weights)


def test_golden_losses(config):
    """Recorded from this code: a change of any loss shows here first."""
    head = build(config(FASA)).roi_head.bbox_head
    features = torch.randn(8, 64, 7, 7, generator=torch.Generator().manual_seed(0))
    head_losses(head, features)
    second = flat(head_losses(head, features))
    golden = dict(loss_cls=1.935590, loss_bbox=0.210212, loss_virtual=0.197662)
    assert_close({k: second[k].item() for k in golden}, golden, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_statistics_stay_float32(config, dtype):
    head = build(config(FASA)).roi_head.bbox_head
    features = torch.randn(8, 64, 7, 7)
    labels = torch.tensor([0, 0, 1, 2, 6, 6, 6, 6])  # 6 is background
    with torch.autocast("cpu", dtype=dtype):
        scores, boxes = head(features)
        weights = torch.ones(8)
        loss = head.loss(
            scores, boxes, torch.zeros(8, 5), labels, weights, torch.zeros(8, 4), torch.zeros(8, 4)
        )
    assert head.augmenter.moments.mean.dtype == torch.float32
    assert head.augmenter.moments.seen.tolist() == [True] * 3 + [False] * 3
    assert torch.isfinite(loss["loss_virtual"]) and loss["loss_virtual"] > 0


def test_nothing_is_kept_between_steps(config, batch):
    model = build(config(FASA))
    losses(model, batch)
    assert model.roi_head.bbox_head._step is None
    for sample in batch["data_samples"]:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    model.eval()
    model.test_step(batch)
    assert model.roi_head.bbox_head._step is None


def test_mmdets_average_of_a_model_takes_its_buffers():
    """Classes seen after the average began are seen in it; what was not measured leaves no NaN."""
    model = nn.ModuleDict(dict(augmenter=Fasa(4, 3)))
    average = ExpMomentumEMA(model, momentum=0.1, update_buffers=True)
    average.update_parameters(model)
    augmenter, mine = model["augmenter"], average.module["augmenter"]
    augmenter.initialise(torch.tensor([9, 5, 2, 1]))
    for step in range(3):
        augmenter(torch.randn(6, 3), torch.tensor([0, 0, 1, 1, step, step]))
        augmenter.adapt(torch.tensor([0.5, torch.nan, 0.2, 0.1]))
        average.update_parameters(model)
    assert all(value.isfinite().all() for value in average.buffers())
    assert ((mine.moments.seen > 0) == (augmenter.moments.seen > 0)).all()
    assert (mine.measured > 0).tolist() == [True, False, True, True]


def test_a_sampler_that_mines_hard_regions_leaves_no_trace(config, batch):
    cfg = config(FASA)
    cfg.model.train_cfg.rcnn.sampler.type = "OHEMSampler"
    model = build(cfg)
    augmenter = model.roi_head.bbox_head.augmenter
    found = losses(model, batch)
    assert augmenter.iteration == 1 and found["loss_virtual"] > 0


def test_an_augmenter_that_is_not_there_is_named(config):
    with pytest.raises(UserError, match="augmenter: there is no 'Fasa'; known: .*FASA.*, SMOTE"):
        cfg = config(FASA)
        cfg.model.roi_head.bbox_head.augmenter.type = "Fasa"
        build(cfg)


def test_heads_are_augmented_by_class_too():
    head = dict(type=Shared2FCBBoxHead, num_classes=2)
    model = augmented(dict(type="FasterRCNN", roi_head=dict(bbox_head=head)), dict(type="FASA"))
    assert model["roi_head"]["bbox_head"]["type"] == "fasa.detection.AugmentedShared2FCBBoxHead"


def test_in_eval_mode_its_losses_are_the_unchanged_heads(config, batch):
    with_it, without = build(config(FASA)).eval(), build(config()).eval()
    without.load_state_dict(with_it.state_dict(), strict=False)
    assert_close(flat(losses(with_it, batch)), flat(losses(without, batch)))


def test_an_augmenter_may_be_given_as_a_class(config, batch):
    cfg = config(FASA)
    cfg.model.roi_head.bbox_head.augmenter.type = Fasa
    assert_close(
        losses(build(cfg), batch)["loss_virtual"], losses(build(config(FASA)), batch)["loss_virtual"]
    )


def test_a_custom_loss_with_one_background_is_scored_like_any(config):
    heads = []
    for loss in ("CrossEntropyLoss", "CrossEntropyCustomLoss"):
        cfg = config(FASA)
        more = dict(num_classes=6) if "Custom" in loss else {}
        cfg.model.roi_head.bbox_head.loss_cls = dict(type=loss, loss_weight=1.0, **more)
        heads.append(build(cfg).roi_head.bbox_head)
    scores = torch.randn(5, 7)
    assert [class_scores(head, scores).shape for head in heads] == [(5, 7), (5, 7)]


@pytest.mark.parametrize(
    ("model", "augmenter", "message"),
    [
        (None, dict(type="FASA"), "not None"),
        (dict(type="FasterRCNN"), "FASA", "not 'FASA'"),
        (dict(type="FasterRCNN"), dict(warmup=3), "not {'warmup': 3}"),
        (dict(type="FasterRCNN"), dict(type="FASA", seed="1"), "seed is '1', not a whole number"),
    ],
)
def test_what_is_no_config_is_refused(model, augmenter, message):
    with pytest.raises(UserError, match=message):
        augmented(model, augmenter)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(warmupp=1), "augmenter.warmupp is unknown; known: .*prob_scale"),
        (dict(prob_scale="x"), "augmenter.prob_scale is 'x', not a number"),
        (dict(warmup=float("inf")), "augmenter.warmup is inf, not a whole number"),
        (dict(groups=dict(quantile=9)), "groups.quantile is 9; it must be above 0"),
        (dict(up=0.5), "FASA: up is 0.5; it must be"),
    ],
)
def test_arguments_that_cannot_be_are_one_line(config, arguments, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(config(dict(type="FASA") | arguments).model)
