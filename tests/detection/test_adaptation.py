import copy
import json

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.task_modules import MaxIoUAssigner
from mmdet.registry import DATASETS, MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch.testing import assert_close

from fasa.data.lvis import instance_counts as counts_in_file
from fasa.data.lvis import read_annotations
from fasa.detection.adaptation import (
    AdaptationHook,
    box_heads,
    boxes_first,
    class_losses,
    class_precisions,
    held_out_loader,
    instance_counts,
)
from fasa.detection.experiment import held_out
from fasa.detection.training import train
from fasa.errors import UserError
from fasa.evaluation import evaluate, read_ground_truth

FASA = dict(type="FASA", prob_scale=4)


@pytest.fixture
def model(config):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(config(FASA).model)
    model.init_weights()
    return model.train()


@pytest.fixture
def loader(config):
    init_default_scope("mmdet")
    return Runner.build_dataloader(held_out(config(), "adapt"), seed=0)


def slow_class_losses(model, loader):
    """One image and one RoI at a time."""
    model.eval()
    losses = {}
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        for i, sample in enumerate(data["data_samples"]):
            features = model.extract_feat(data["inputs"][i : i + 1])
            proposals = model.rpn_head.predict(features, [sample], rescale=False)[0].bboxes
            objects = sample.gt_instances
            for box in torch.cat([proposals, objects.bboxes]):
                one = InstanceData(priors=box[None])
                assigner = MaxIoUAssigner(pos_iou_thr=0.5, neg_iou_thr=0.5, match_low_quality=False)
                index = assigner.assign(one, objects).gt_inds.item()
                if index > 0:
                    roi = torch.cat([torch.zeros(1), box])[None]
                    scores = model.roi_head.bbox_head(model.roi_head.bbox_roi_extractor(features, roi))[0]
                    label = objects.labels[index - 1]
                    losses.setdefault(label.item(), []).append(F.cross_entropy(scores[0], label).item())
    return losses


def test_class_losses_equal_the_slow_loop(model, loader):
    # The model's assigner also takes an object's best proposal below the threshold; the slow loop cannot.
    model.roi_head.bbox_assigner.match_low_quality = False
    with torch.no_grad():
        slow = slow_class_losses(model, loader)
    (losses,) = class_losses(model, loader)
    assert len(slow) > 3
    for c, loss in enumerate(losses.tolist()):
        if c in slow:
            assert_close(loss, sum(slow[c]) / len(slow[c]), rtol=1e-4, atol=0)
        else:
            assert loss != loss


def test_a_pass_leaves_no_trace(model, loader):
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    (first,) = class_losses(model, loader)
    assert torch.equal(rng, torch.get_rng_state()) and model.training
    for name, value in model.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    torch.manual_seed(99)
    assert_close(class_losses(model, loader)[0], first, rtol=0, atol=0, equal_nan=True)


def test_class_absent_from_the_split_is_nan(model, loader):
    def drop_class_2():
        for batch in loader:
            for sample in batch["data_samples"]:
                sample.gt_instances = sample.gt_instances[sample.gt_instances.labels != 2]
            yield batch

    (losses,) = class_losses(model, drop_class_2())
    assert losses[2].isnan() and losses.isfinite().any()


def test_split_without_any_object_measures_nothing(model, loader):
    def empty():
        for batch in loader:
            for sample in batch["data_samples"]:
                sample.gt_instances = sample.gt_instances[:0]
            yield batch

    assert class_losses(model, empty())[0].isnan().all()


def test_counts_are_those_of_the_annotation_file(config, tiny_glyphs):
    init_default_scope("mmdet")
    cfg = config().train_dataloader.dataset
    expected = counts_in_file(read_annotations(tiny_glyphs / "annotations" / "train.json")).tolist()
    plain = DATASETS.build(cfg)
    assert instance_counts(plain, 6).tolist() == expected
    balanced = DATASETS.build(dict(type="ClassBalancedDataset", oversample_thr=0.5, dataset=cfg))
    assert len(balanced) > len(plain) and instance_counts(balanced, 6).tolist() == expected
    both = DATASETS.build(dict(type="ConcatDataset", datasets=[cfg, cfg]))
    assert instance_counts(both, 6).tolist() == [2 * n for n in expected]


def test_boxes_follow_the_resize(config):
    """mmdet's own test pipelines load annotations after it."""
    init_default_scope("mmdet")
    dataset = held_out(config(), "adapt").dataset
    plain = DATASETS.build(dataset)[0]["data_samples"].gt_instances.bboxes.tensor
    image, boxes, _, pack = dataset.pipeline
    dataset.pipeline = [image, dict(type="Resize", scale=(128, 128), keep_ratio=True), boxes, pack]
    late = DATASETS.build(dataset)[0]["data_samples"]
    assert_close(late.gt_instances.bboxes.tensor, plain)  # too small for the image
    dataset.pipeline = boxes_first(dataset.pipeline)
    assert [step.type for step in dataset.pipeline] == [
        "LoadImageFromFile",
        "LoadAnnotations",
        "Resize",
        "PackDetInputs",
    ]
    resized = DATASETS.build(dataset)[0]["data_samples"]
    assert_close(resized.gt_instances.bboxes.tensor, 2 * plain)
    assert resized.img_shape == (128, 128)


def test_hook_adapts_every_so_many_iterations(config, tiny_glyphs):
    cfg = config(FASA, adapt_every=2, iterations=6)
    runner = Runner.from_cfg(cfg)
    runner.train()
    augmenter = box_heads(runner.model)[0].augmenter
    (hook,) = (hook for hook in runner.hooks if hasattr(hook, "history"))
    assert augmenter.adaptations == 3
    assert [record["iteration"] for record in hook.history] == [2, 4, 6]
    assert hook.history[-1]["probability"] == augmenter.probability.tolist()
    counts = counts_in_file(read_annotations(tiny_glyphs / "annotations" / "train.json"))
    start = 4 * (1 / counts) / (1 / counts).sum()
    assert_close(hook.history[0]["probability"], start.clip(max=1).tolist(), rtol=1e-5, atol=0)
    assert hook.history[1]["probability"] != hook.history[0]["probability"]
    json.dumps(hook.history)  # plain data


def test_class_precisions_equal_the_evaluation_of_the_models_predictions(model, loader, tiny_glyphs):
    annotations = tiny_glyphs / "annotations" / "adapt.json"
    model.roi_head.test_cfg.update(score_thr=0.0, max_per_img=-1)
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    precisions = class_precisions(model, loader, read_ground_truth(annotations, "bbox"))
    assert torch.equal(rng, torch.get_rng_state()) and model.training
    for name, value in model.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    results = []
    for batch in loader:
        for sample in model.eval().test_step(batch):
            found = sample.pred_instances
            boxes = found.bboxes.clone()
            boxes[:, 2:] -= boxes[:, :2]
            for label, score, box in zip(found.labels, found.scores, boxes, strict=True):
                ids = dict(image_id=sample.img_id, category_id=label.item() + 1)
                results.append(ids | dict(score=score.item(), bbox=box.tolist()))
    expected = evaluate(annotations, results, iou_type="bbox").per_class / 100
    assert_close(precisions, torch.tensor(expected).float(), rtol=1e-3, atol=1e-5, equal_nan=True)


def test_hook_can_adapt_to_the_metric(config, monkeypatch):
    """A class whose AP rose is drawn more, one whose AP fell less: the loss's signs turned round."""
    cfg = config(FASA | dict(level="class"), adapt_every=2, iterations=6)
    cfg.custom_hooks[0].signal = "metric"
    passes = iter(
        [[0.1, 0.5, 0.3, float("nan"), 0, 0], [0.2, 0.4, 0.3, 0.1, 0, 0], [0.3, 0.3, 0.3, 0.2, 0, 0]]
    )
    monkeypatch.setattr("fasa.detection.adaptation.class_precisions", lambda *_: torch.tensor(next(passes)))
    runner = Runner.from_cfg(cfg)
    runner.train()
    (hook,) = (hook for hook in runner.hooks if hasattr(hook, "history"))
    first, _, last = [torch.tensor(record["probability"]) for record in hook.history]
    factors = torch.tensor([1.1**2, 0.9**2, 1, 1.1, 1, 1])
    assert_close(last, (first * factors).clamp(max=1), rtol=1e-4, atol=0)
    assert hook.history[1]["class_ap"][:2] == pytest.approx([0.2, 0.4])


CASCADE = dict(model="cascade_rcnn")


def slow_cascade_losses(model, loader):
    """One image and one RoI at a time, for each stage."""
    model.eval()
    heads, losses = model.roi_head.bbox_head, [{} for _ in model.roi_head.bbox_head]
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        for i, sample in enumerate(data["data_samples"]):
            features = model.extract_feat(data["inputs"][i : i + 1])
            proposals = model.rpn_head.predict(features, [sample], rescale=False)[0].bboxes
            objects = sample.gt_instances
            for stage, head in enumerate(heads):
                extract = model.roi_head.bbox_roi_extractor[stage]
                moved = []
                for j, box in enumerate(torch.cat([proposals, objects.bboxes])):
                    assigner = MaxIoUAssigner(*[(0.5, 0.6, 0.7)[stage]] * 2, match_low_quality=False)
                    index = assigner.assign(InstanceData(priors=box[None]), objects).gt_inds.item()
                    scores, deltas = head(extract(features, torch.cat([torch.zeros(1), box])[None]))
                    if index > 0:
                        label = objects.labels[index - 1]
                        loss = F.cross_entropy(scores[0], label).item()
                        losses[stage].setdefault(label.item(), []).append(loss)
                    if j < len(proposals):
                        moved.append(head.bbox_coder.decode(box[None], deltas, max_shape=sample.img_shape)[0])
                proposals = torch.stack(moved)
    return losses


def test_each_stage_of_a_cascade_is_measured_by_itself(config, loader):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(config(FASA, **CASCADE).model)
    model.init_weights()
    with torch.no_grad():
        for head in model.roi_head.bbox_head:
            head.fc_reg.weight.mul_(50)  # or boxes would hardly move
            head.fc_cls.weight.mul_(20)
        slow = slow_cascade_losses(model.train(), loader)
    for stage, losses in enumerate(class_losses(model, loader)):
        assert len(slow[stage]) > 3
        for c, values in slow[stage].items():
            assert_close(losses[c].item(), sum(values) / len(values), rtol=1e-3, atol=0)
        assert losses.isnan().sum() == 6 - len(slow[stage])
    assert slow[0] != slow[1]


def test_stages_of_a_cascade_share_nothing_and_adapt_to_their_own_loss(config):
    cfg = config(FASA | dict(level="class"), adapt_every=2, iterations=6, **CASCADE)
    runner = Runner.from_cfg(cfg)
    runner.train()
    augmenters = [head.augmenter for head in box_heads(runner.model)]
    places = [t.untyped_storage().data_ptr() for a in augmenters for t in a.state_dict().values()]
    assert len(augmenters) == 3 and len(places) == len(set(places))
    (hook,) = (hook for hook in runner.hooks if hasattr(hook, "history"))
    assert [(one["iteration"], one["stage"]) for one in hook.history] == [
        (i, stage) for i in (2, 4, 6) for stage in range(3)
    ]
    compared = 0
    for stage, augmenter in enumerate(augmenters):
        mine = [one for one in hook.history if one["stage"] == stage]
        assert mine[-1]["probability"] == augmenter.probability.tolist()
        for before, after in zip(mine[:-1], mine[1:], strict=True):
            for c in range(6):
                old, new = before["class_loss"][c], after["class_loss"][c]
                if old == old and new == new and before["group"][c] >= 0 and after["group"][c] >= 0:
                    compared += 1
                    factor = 1.1 if new < old else 0.9
                    expected = min(1.0, factor * before["probability"][c])
                    assert after["probability"][c] == pytest.approx(expected)
    assert compared > 0
    assert len({json.dumps(one["class_loss"]) for one in hook.history[:3]}) == 3
    drawn = [augmenter.drawn.tolist() for augmenter in augmenters]
    assert drawn[0] != drawn[1] or drawn[1] != drawn[2]  # from streams of their own


def test_hook_without_an_augmenter_is_refused(config):
    cfg = config(iterations=1)
    cfg.custom_hooks = [dict(type="AdaptationHook")]
    with pytest.raises(UserError, match="no box head has an augmenter"):
        Runner.from_cfg(cfg).train()


WRAPPERS = {
    "plain": lambda dataset: dataset,
    "RepeatDataset": lambda dataset: dict(type="RepeatDataset", times=3, dataset=dataset),
    "ClassBalancedDataset": lambda dataset: dict(
        type="ClassBalancedDataset", oversample_thr=0.9, dataset=dict(dataset, test_mode=False)
    ),
    "ConcatDataset": lambda dataset: dict(type="ConcatDataset", datasets=[dataset, dataset]),
    "MultiImageMixDataset": lambda dataset: dict(type="MultiImageMixDataset", dataset=dataset, pipeline=[]),
    "wrappers of wrappers": lambda dataset: dict(
        type="RepeatDataset", times=2, dataset=dict(type="ConcatDataset", datasets=[dataset])
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_pass_sees_each_image_once_whatever_wraps_the_validation_set(config, name):
    init_default_scope("mmdet")
    val = held_out(config(), "val")
    val.dataset = WRAPPERS[name](val.dataset)
    overrides = dict(dataset=dict(ann_file="annotations/adapt.json"))
    cfg = held_out_loader(val, overrides)
    loader = Runner.build_dataloader(cfg, seed=0)
    expected = DATASETS.build(held_out(config(), "adapt").dataset)
    found = [(one.img_path, len(one.gt_instances)) for batch in loader for one in batch["data_samples"]]
    assert [path for path, _ in found] == [expected.get_data_info(i)["img_path"] for i in range(6)]
    assert all(n > 0 for _, n in found)
    assert overrides == dict(dataset=dict(ann_file="annotations/adapt.json"))


def test_a_data_set_of_another_type_stands_for_itself(config):
    init_default_scope("mmdet")
    val = held_out(config(), "val")
    parts = [dict(dict(val.dataset), ann_file=f"annotations/{name}.json") for name in ("val", "adapt")]
    parts[0].pop("pipeline")  # the validation set's then
    both = dict(type="ConcatDataset", datasets=parts)
    for base in (val, None):
        overrides = dict(dataset=dict(type="RepeatDataset", times=2, dataset=both))
        if base is None:
            with pytest.raises(UserError, match="no val_dataloader to take the data set and its pipeline"):
                held_out_loader(base, overrides)
            parts[0]["pipeline"] = val.dataset.pipeline
        loader = Runner.build_dataloader(held_out_loader(base, overrides), seed=0)
        assert sum(len(batch["data_samples"]) for batch in loader) == 12


def test_nothing_to_adapt_on_is_refused(config):
    cfg = config(FASA, iterations=1)
    cfg.custom_hooks = [dict(type="AdaptationHook", dataloader=dict(dataset=dict(ann_file="a.json")))]
    with pytest.raises(UserError, match="AdaptationHook: no val_dataloader to take") as info:
        Runner.from_cfg(cfg).train()
    assert "\n" not in str(info.value)


def test_a_label_beyond_the_heads_classes_is_refused(config):
    init_default_scope("mmdet")
    with pytest.raises(UserError, match="PreparedDataset: label 5, but the head has 4 classes"):
        instance_counts(DATASETS.build(config().train_dataloader.dataset), 4)
    with pytest.raises(UserError, match="list tells no instances"):
        instance_counts([1, 2], 4)


def test_a_metric_of_several_files_is_refused(config):
    cfg = config(FASA, adapt_every=1, iterations=1)
    hook = cfg.custom_hooks[0]
    hook.signal, dataset = "metric", dict(hook.dataloader.dataset)
    hook.dataloader.dataset = dict(type="ConcatDataset", datasets=[dataset, dataset])
    with pytest.raises(
        UserError, match='signal="metric" takes a data set of one ann_file, not a ConcatDataset'
    ):
        Runner.from_cfg(cfg).train()


def test_unknown_signal_is_refused():
    with pytest.raises(UserError, match="signal is 'ap'; known: loss, metric"):
        AdaptationHook(signal="ap")
    with pytest.raises(UserError, match=r"signal is \['loss'\]"):
        AdaptationHook(signal=["loss"])


@pytest.mark.parametrize(
    "dataloader", ["x", 5, [], {}, dict(dataset=None), dict(dataset={}), dict(dataset="x")]
)
def test_what_is_held_out_must_be_said(dataloader):
    """An empty dict would have adapted on the images that are reported, without a word."""
    with pytest.raises(UserError, match=r"AdaptationHook: dataloader.* is "):
        AdaptationHook(dataloader)


def test_a_loop_without_epochs_adapts_after_as_many_images_as_there_are(config):
    cfg = config(FASA, adapt_every=0, iterations=13)  # 12 images, 2 in a batch
    assert cfg.custom_hooks[0].every is None
    (hook,) = (hook for hook in train(cfg).hooks if isinstance(hook, AdaptationHook))
    assert [record["iteration"] for record in hook.history] == [6, 12]


def test_a_warmup_as_long_as_the_training_is_told(config, tmp_path):
    Runner.from_cfg(config(FASA | dict(warmup=2), adapt_every=1, iterations=2)).train()
    (log,) = tmp_path.glob("work/*/*.log")
    assert "FASA draws nothing: its warmup is 2 iterations, the training 2" in log.read_text()


def test_a_run_that_had_no_augmenter_is_resumed_with_one(config, tmp_path):
    cfg = config(iterations=2)
    cfg.default_hooks.checkpoint.every = 1
    train(cfg)
    cfg = config(FASA, adapt_every=1, iterations=4)
    augmenter = box_heads(train(cfg).model)[0].augmenter
    assert augmenter.counts.min() >= 0 and augmenter.drawn.sum() > 0 and augmenter.iteration == 2


def test_an_image_of_many_channels_stays_before_its_boxes():
    steps = [dict(type="LoadMultiChannelImageFromFiles"), dict(type="Resize"), dict(type="LoadAnnotations")]
    assert [step["type"] for step in boxes_first(steps)] == [
        "LoadMultiChannelImageFromFiles",
        "LoadAnnotations",
        "Resize",
    ]


def adapting(config, tiny_glyphs, tmp_path, change, **dataset):
    """A training of one iteration whose images to adapt on are of a file that was changed."""
    content = json.loads((tiny_glyphs / "annotations/adapt.json").read_text())
    change(content)
    (tmp_path / "adapt.json").write_text(json.dumps(content))
    cfg = config(FASA, adapt_every=1, iterations=1)
    held_out = cfg.custom_hooks[0].dataloader
    held_out.dataset = dict(held_out.dataset, type="LVISV1Dataset", ann_file=str(tmp_path / "adapt.json"))
    held_out.dataset.update(dataset)
    return cfg


def test_the_same_classes_under_other_ids_are_adapted_on(config, tiny_glyphs, tmp_path):
    def renumber(content):
        for category in content["categories"]:
            category["id"] += 100
        for thing in content["annotations"]:
            thing["category_id"] += 100

    runs = [adapting(config, tiny_glyphs, tmp_path, change) for change in (lambda content: None, renumber)]
    found = []
    for n, cfg in enumerate(runs):
        cfg.work_dir = str(tmp_path / f"work-{n}")
        hooks = train(cfg).hooks
        found += [hook.history for hook in hooks if isinstance(hook, AdaptationHook)]
    assert repr(found[0]) == repr(found[1]) and found[0]


def drop_a_class(content):
    gone = content["categories"].pop(0)["id"]
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] != gone]


@pytest.mark.parametrize(
    "change, dataset, message",
    [
        (drop_a_class, dict(), "labels mean other classes in .*adapt.json than in .*train.json"),
        (lambda content: content["categories"].reverse(), dict(), "labels mean other classes"),
        (lambda content: content.update(annotations=[]), dict(), "adapt.json has no object to adapt on"),
        (lambda content: None, dict(data_prefix=dict(img="nowhere")), "No such file or directory"),
    ],
)
def test_images_that_cannot_be_adapted_on_are_refused_at_once(
    config, tiny_glyphs, tmp_path, change, dataset, message
):
    cfg = adapting(config, tiny_glyphs, tmp_path, change, **dataset)
    with pytest.raises(UserError, match=message) as info:
        Runner.from_cfg(cfg).train()
    assert "\n" not in str(info.value) and not list(tmp_path.glob("work/*.pth"))


def test_a_metric_of_a_part_of_the_file_is_refused(config):
    cfg = config(FASA, adapt_every=1, iterations=1)
    cfg.custom_hooks[0].signal = "metric"
    cfg.custom_hooks[0].dataloader.dataset.indices = 3
    with pytest.raises(UserError, match="judges by all 6 images of .*, of which the data set has 3"):
        Runner.from_cfg(cfg).train()


def test_a_phase_that_nothing_keeps_is_refused(config):
    cfg = config(dict(type="FeatureTransfer", phase=2, tail=9), iterations=1)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != "PhasesHook"]
    with pytest.raises(UserError, match='FeatureTransfer: a phase is given, .* add dict\\(type="PhasesHook"'):
        Runner.from_cfg(cfg).train()


def test_fasa_begins_anew_in_a_run_of_another_method(config):
    cfg = config(dict(type="SMOTE"), iterations=2)
    cfg.default_hooks.checkpoint.every = 1
    train(cfg)
    augmenter = box_heads(train(config(FASA, adapt_every=1, iterations=4)).model)[0].augmenter
    assert augmenter.probability.min() > 0 and augmenter.drawn.sum() > 0
