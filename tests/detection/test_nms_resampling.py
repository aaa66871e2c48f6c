from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch.testing import assert_close

from fasa.detection.nms_resampling import THRESHOLDS, resample
from fasa.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "embedded"
FREQUENCIES = ["f", "c", "r", "f"]
SIZE = 128
PROPOSALS = ConfigDict(nms_pre=200, max_per_img=60, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmdet")


def rpn(kind="NMSResamplingRPNHead", **options):
    """A head of random weights, wide enough to say something else of each place, with anchors that crowd."""
    if kind != "RPNHead":
        options = dict(frequencies=FREQUENCIES) | options
    cfg = Config.fromfile(CONFIGS / "mask_rcnn.py").model
    cfg.rpn_head.anchor_generator.scales = [5]
    torch.manual_seed(0)
    settings = dict(train_cfg=cfg.train_cfg.rpn, test_cfg=cfg.test_cfg.rpn)
    head = MODELS.build(cfg.rpn_head | settings | dict(type=kind, num_classes=1, **options))
    for weight in (head.rpn_conv.weight, head.rpn_cls.weight, head.rpn_reg.weight):
        torch.nn.init.normal_(weight, std=0.05)
    return head.train()


def features(batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 64, SIZE // s, SIZE // s, generator=generator) for s in (8, 16, 32)]


def sample(classes, seed=0, keep=True):
    """An image's objects after `PackDetInputs`, in training as the RPN gets them: labels zeroed."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(len(classes), 2, generator=generator) * 80
    side = 25 + torch.rand(len(classes), 2, generator=generator) * 20
    objects = InstanceData(
        bboxes=torch.cat([corner, corner + side], 1), labels=torch.tensor(classes, dtype=torch.int64)
    )
    meta = dict(
        img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE), scale_factor=(1, 1)
    )
    one = DetDataSample(metainfo=meta, gt_instances=objects)
    if keep:
        TRANSFORMS.build(dict(type="KeepLabels"))(dict(data_samples=one))
    objects.labels = torch.zeros_like(objects.labels)
    return one


def step(head, samples):
    torch.manual_seed(5)  # the losses sample anchors
    cfg = ConfigDict(PROPOSALS, max_per_img=150)
    return head.loss_and_predict(features(len(samples)), samples, proposal_cfg=cfg)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(area) - width * height)


def slow_nms(boxes, scores, levels, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(levels[i] != levels[j] or iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def slow_resample(boxes, scores, levels, objects, min_iou=0.3, thresholds=THRESHOLDS):
    """The slow, obvious twin: one box at a time, each group's survivors as a list of indices."""
    kept = {group: slow_nms(boxes, scores, levels, thresholds[group]) for group in "rcf"}

    def near(box, group):
        return any(iou(box, one) >= min_iou for one in objects[group])

    chosen = []
    for i, box in enumerate(boxes):
        groups = [group for group in "rc" if near(box, group)] or ["f"]
        if any(i in kept[group] for group in groups):
            chosen.append(i)
    return chosen


def crowd(seed, n=150):
    """Boxes that crowd around a few places, on two levels, and some objects there."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[20.0, 20], [60, 30], [40, 80], [100, 100]])
    side = 24 + 4 * torch.rand(n, 2, generator=generator)
    corner = centres[torch.randint(4, (n,), generator=generator)] + 6 * torch.rand(n, 2, generator=generator)
    boxes, scores = torch.cat([corner, corner + side], 1), torch.rand(n, generator=generator)
    levels = torch.randint(2, (n,), generator=generator)
    places = torch.cat([centres, centres + 28], 1)
    return boxes, scores, levels, places


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rare, common", [([0], [1]), ([0], [0]), ([], [2, 3]), ([1, 2], []), ([], [])])
def test_proposals_are_those_of_the_slow_twin(rare, common, seed):
    boxes, scores, levels, places = crowd(seed)
    objects = dict(r=places[rare], c=places[common] + 2)
    chosen = resample(boxes, scores, levels, objects, PROPOSALS.nms).nonzero().flatten().tolist()
    slow = [x.double().tolist() for x in (boxes, scores)]
    slow = slow_resample(*slow, levels.tolist(), {g: b.double().tolist() for g, b in objects.items()})
    assert chosen == slow


def test_thresholds_and_min_iou_are_arguments():
    boxes, scores, levels, places = crowd(0)
    objects = dict(r=places[:1], c=places[1:2])
    thresholds = dict(r=0.95, c=0.6, f=0.5)
    chosen = resample(boxes, scores, levels, objects, PROPOSALS.nms, thresholds, 0.6)
    slow = [x.double().tolist() for x in (boxes, scores)]
    slow = slow_resample(*slow, levels.tolist(), {g: b.tolist() for g, b in objects.items()}, 0.6, thresholds)
    assert chosen.nonzero().flatten().tolist() == slow


def test_head_gives_the_slow_twins_proposals_sorted_and_capped():
    """From the boxes before NMS, which the stock head gives without one."""
    samples, x = [sample([2, 1, 0], 0), sample([3, 2], 1)], features()
    cfg = ConfigDict(PROPOSALS, max_per_img=150, min_bbox_size=-1)
    _, found = rpn().loss_and_predict(x, samples, proposal_cfg=cfg)
    levels = {}
    everything = rpn("RPNHead")
    keep = everything._bbox_post_process

    def with_levels(results, cfg, **kwargs):
        levels[len(levels)] = results.level_ids[results.scores.sort(descending=True)[1]]
        return keep(results, cfg, **kwargs)

    everything._bbox_post_process = with_levels
    _, before = everything.loss_and_predict(
        x, samples, proposal_cfg=ConfigDict(cfg, nms=None, max_per_img=10**6)
    )
    for i, (one, boxes, proposals) in enumerate(zip(samples, before, found, strict=True)):
        objects = one.gt_instances
        groups = {
            group: [
                box
                for box, label in zip(objects.bboxes.tolist(), objects.class_ids.tolist(), strict=True)
                if FREQUENCIES[label] == group
            ]
            for group in "rc"
        }
        assert len(boxes) == len(levels[i])
        chosen = slow_resample(boxes.bboxes.tolist(), boxes.scores.tolist(), levels[i].tolist(), groups)
        assert len(chosen) > cfg.max_per_img == len(proposals)
        assert (proposals.scores.diff() <= 0).all()
        assert len(proposals.bboxes.unique(dim=0)) == len(proposals)
        chosen = torch.tensor(chosen[: cfg.max_per_img])  # the list is in order of scores
        assert_close(proposals.bboxes, boxes.bboxes[chosen])
        assert_close(proposals.scores, boxes.scores[chosen])
        assert proposals.labels.unique().tolist() == [0] and "level_ids" not in proposals


@pytest.mark.parametrize("classes", [[], [0], [0, 3, 3]])
def test_without_rare_and_common_objects_it_is_the_stock_head(classes):
    """Frequent objects, or none: losses and proposals, bit for bit."""
    samples = [sample(classes, 0), sample(classes, 1)]
    losses, proposals = step(rpn("RPNHead"), samples)
    mine, found = step(rpn(), samples)
    assert_close(mine, losses, rtol=0, atol=0)
    for a, b in zip(found, proposals, strict=True):
        assert_close(dict(a.items()), dict(b.items()), rtol=0, atol=0)


def test_losses_are_the_stock_heads_and_neighbours_in_a_batch_do_not_matter():
    samples = [sample([2, 2, 1], 0), sample([0], 1)]
    losses, proposals = step(rpn("RPNHead"), samples)
    mine, found = step(rpn(), samples)
    assert_close(mine, losses, rtol=0, atol=0)
    assert not torch.equal(found[0].bboxes, proposals[0].bboxes)
    assert torch.equal(found[1].bboxes, proposals[1].bboxes)


def test_rare_objects_get_more_proposals():
    cfg = ConfigDict(PROPOSALS, max_per_img=10**6)
    samples = [sample([2, 2, 1, 0], seed) for seed in range(4)]
    x = features(4)

    def near(proposals, label):
        return sum(
            iou(box, one) >= 0.3
            for found, image in zip(proposals, samples, strict=True)
            for box in found.bboxes.tolist()
            for one in image.gt_instances.bboxes[image.gt_instances.class_ids == label].tolist()
        )

    _, stock = rpn("RPNHead").loss_and_predict(x, samples, proposal_cfg=cfg)
    _, mine = rpn().loss_and_predict(x, samples, proposal_cfg=cfg)
    _, none = rpn(thresholds=dict(r=0.7, c=0.7, f=0.7)).loss_and_predict(x, samples, proposal_cfg=cfg)
    assert near(mine, 2) > near(stock, 2) > 0
    assert near(mine, 1) > near(stock, 1) > 0
    for a, b in zip(none, stock, strict=True):  # three equal thresholds are one
        assert torch.equal(a.bboxes, b.bboxes)


@pytest.mark.parametrize("smallest", [-1, 0, 30, 10**4])
def test_small_boxes_are_left_out_before_nms(smallest):
    cfg = ConfigDict(PROPOSALS, min_bbox_size=smallest)
    samples = [sample([2, 1], 0)]
    equal = dict(r=0.7, c=0.7, f=0.7)
    (stock,) = rpn("RPNHead").loss_and_predict(features(1), samples, proposal_cfg=cfg)[1]
    (mine,) = rpn(thresholds=equal).loss_and_predict(features(1), samples, proposal_cfg=cfg)[1]
    assert torch.equal(mine.bboxes, stock.bboxes) and len(stock) == (0 if smallest == 10**4 else len(mine))


def test_at_test_time_it_is_the_stock_head():
    """Also on samples that training has seen, and without class ids; and weights are exchangeable."""
    head, stock, x, samples = rpn(), rpn("RPNHead"), features(), [sample([2, 1]), sample([2], keep=False)]
    head.load_state_dict(stock.state_dict(), strict=True)
    assert head.state_dict().keys() == stock.state_dict().keys()
    head.loss_and_predict([level[:1] for level in x], samples[:1], proposal_cfg=PROPOSALS)
    for a, b in zip(head.eval().predict(x, samples), stock.eval().predict(x, samples), strict=True):
        assert_close(dict(a.items()), dict(b.items()), rtol=0, atol=0)


def test_does_not_change_the_config_or_the_samples():
    cfg, one = ConfigDict(PROPOSALS), sample([2, 0])
    meta = dict(one.metainfo)
    rpn(thresholds=dict(r=0.95, c=0.9, f=0.5)).loss_and_predict(features(1), [one], proposal_cfg=cfg)
    assert cfg == PROPOSALS and one.metainfo == meta


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_rcnn"])
def test_two_stage_detectors_train_with_it(name):
    """mmdet zeroes the labels on the way to the RPN; the class ids arrive."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py").model
    cfg.rpn_head.update(type="NMSResamplingRPNHead", frequencies=["f", "r"] * 40)
    detector = MODELS.build(cfg).train()
    one = sample([1, 0])
    one.gt_instances.labels = one.gt_instances.class_ids.clone()
    if detector.with_mask:
        from mmdet.structures.mask import BitmapMasks

        one.gt_instances.masks = BitmapMasks.random(2, height=SIZE, width=SIZE)
    seen = []
    post_process = detector.rpn_head._bbox_post_process
    detector.rpn_head._bbox_post_process = lambda **kwargs: seen.append(kwargs) or post_process(**kwargs)
    losses = detector.loss(torch.randn(1, 3, SIZE, SIZE), [one])
    assert all(torch.stack(list(v) if isinstance(v, list) else [v]).isfinite().all() for v in losses.values())
    (kwargs,) = seen
    found = kwargs["img_meta"]["objects_by_frequency"]
    assert torch.equal(found["r"], one.gt_instances.bboxes[:1]) and len(found["c"]) == 0
    assert one.gt_instances.labels.tolist() == [1, 0]


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match=r"without class_ids; add dict\(type='KeepLabels'\) after PackDetIn"):
        rpn().loss_and_predict(features(1), [sample([2], keep=False)], proposal_cfg=PROPOSALS)
    with pytest.raises(UserError, match="an object of class 4, but 4 frequencies; give one letter for each"):
        rpn().loss_and_predict(features(1), [sample([2, 4])], proposal_cfg=PROPOSALS)
    with pytest.raises(UserError, match="letters r, c and f; got .'rare'. and .'c', 'f', 'r'."):
        rpn(frequencies=["rare"])
    with pytest.raises(UserError, match="letters r, c and f; got .* and .'r'."):
        rpn(thresholds=dict(r=0.9))
    with pytest.raises(UserError, match="put it after PackDetInputs"):
        TRANSFORMS.build(dict(type="KeepLabels"))(dict(img=None))
