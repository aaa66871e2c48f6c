import gzip
import json

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS, MODELS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pages import block
from pycocotools import mask as mask_utils

from fasa.detection.experiment import held_out
from fasa.errors import UserError
from fasa.evaluation import PROTOCOLS, instruments


@pytest.fixture
def model(config):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = config().model
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=-1)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


def test_says_what_the_evaluator_says_of_the_same_predictions(model, config, tiny_glyphs):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    loader = Runner.build_dataloader(held_out(config(), "val"), seed=0)
    metric = METRICS.build(
        dict(type="FASALVISMetric", ann_file=annotations, protocols=list(PROTOCOLS), tide="lvis")
    )
    metric.dataset_meta = loader.dataset.metainfo
    objects = json.loads((tiny_glyphs / "annotations/val.json").read_text())["annotations"]
    results = []
    for batch in loader:
        with torch.no_grad():
            samples = model.test_step(batch)
        for sample in samples:  # as if it had been trained: some boxes and masks on objects
            found = sample.pred_instances
            for i, a in enumerate(a for a in objects if a["image_id"] == sample.img_id):
                x, y, w, h = a["bbox"]
                found.bboxes[i] = torch.tensor([x, y, x + w, y + h])
                found.masks[i] = torch.from_numpy(mask_utils.decode(a["segmentation"])).bool()
                found.labels[i], found.scores[i] = a["category_id"] - 1, 0.9 - 0.2 * i
        metric.process(batch, [sample.to_dict() for sample in samples])
        for sample in samples:
            found = sample.pred_instances
            masks = [mask_utils.encode(np.asfortranarray(mask, np.uint8)) for mask in found.masks.numpy()]
            columns = (found.labels.tolist(), found.scores.tolist(), found.bboxes.tolist(), masks)
            for label, score, (x1, y1, x2, y2), mask in zip(*columns, strict=True):
                shapes = dict(bbox=[x1, y1, x2 - x1, y2 - y1], segmentation=mask)
                results.append(dict(image_id=sample.img_id, category_id=label + 1, score=score) | shapes)
    values = metric.evaluate(size=len(loader.dataset))
    for kind in ("bbox", "segm"):
        for instrument, expected in instruments(annotations, results, kind).items():
            prefix = f"lvis/{kind}" if instrument == "old" else f"lvis/{kind}_{instrument}"
            for name, value in expected.items():
                if np.isnan(value):
                    assert f"{prefix}_{name}" not in values
                else:
                    assert values[f"{prefix}_{name}"] == pytest.approx(value, abs=1e-9), name
        assert values[f"lvis/{kind}_AP"] > 1


def test_labels_count_the_categories_as_the_file_has_them(tiny_glyphs, tmp_path):
    content = json.loads((tiny_glyphs / "annotations" / "val.json").read_text())
    content["categories"].reverse()
    (tmp_path / "val.json").write_text(json.dumps(content))
    metric = METRICS.build(dict(type="FASALVISMetric", ann_file=str(tmp_path / "val.json"), iou_types="bbox"))
    metric.dataset_meta = dict(classes=[category["name"] for category in content["categories"]])
    place = {category["id"]: i for i, category in enumerate(content["categories"])}
    for image in content["images"]:
        objects = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        x, y, w, h = torch.tensor([a["bbox"] for a in objects]).T
        found = dict(
            bboxes=torch.stack([x, y, x + w, y + h], dim=1),
            labels=torch.tensor([place[a["category_id"]] for a in objects]),
            scores=torch.ones(len(objects)),
        )
        metric.process(None, [dict(img_id=image["id"], pred_instances=found)])
    assert metric.evaluate(size=len(content["images"]))["lvis/bbox_AP"] == pytest.approx(100)


def test_no_predictions_give_0(tiny_glyphs):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations))
    assert metric.compute_metrics([])["segm_AP"] == 0


def test_wrong_settings_are_refused(tiny_glyphs):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    with pytest.raises(UserError, match="no protocol 'new'; known: old, fixed, pool"):
        METRICS.build(dict(type="FASALVISMetric", ann_file=annotations, protocols=["new"]))
    metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations))
    metric.dataset_meta = dict(classes=("one",))
    with pytest.raises(UserError, match="val.json: 6 categories for 1 classes"):
        metric.process(None, [])


def predictions(**changes):
    """Two boxes in image 1, without masks."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 8, 8]])
    found = dict(bboxes=boxes, scores=torch.tensor([0.5, 0.4]), labels=torch.tensor([0, 1]))
    return [dict(img_id=changes.pop("img_id", 1), pred_instances=found | changes)]


def names(tiny_glyphs):
    content = json.loads((tiny_glyphs / "annotations" / "val.json").read_text())
    return [category["name"] for category in content["categories"]]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(), 'no masks in the predictions; set iou_types="bbox"'),
        (dict(labels=torch.tensor([0, 7])), "val.json: label 7, but 6 categories; num_classes of the head"),
        (dict(labels=torch.tensor([0, -1])), "label -1, but 6 categories"),
        (dict(labels=torch.tensor([0.0, 1.0])), "labels of image 1 are torch.float32"),
        (dict(bboxes=torch.full((2, 4), 2e9)), "bboxes of image 1 are not finite, or far outside of it"),
        (dict(scores=torch.tensor([0.5, torch.nan])), "scores of image 1 are not finite"),
        (dict(bboxes=torch.full((2, 4), torch.inf)), "bboxes of image 1 are not finite"),
        (dict(img_id=99), "val.json: no image 99; ann_file must be that of the data set"),
        (dict(masks=torch.zeros(2, 9, 8)), r"masks of image 1 are \[9, 8\], in .*val.json it is \[64, 64\]"),
        (dict(masks=[dict(size=[9, 8], counts=b"")] * 2), r"masks of image 1 are \[9, 8\]"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_with_the_first_batch(tiny_glyphs, changes, message):
    metric = METRICS.build(dict(type="FASALVISMetric", ann_file=str(tiny_glyphs / "annotations/val.json")))
    metric.dataset_meta = dict(classes=tuple("abcdef"))
    with pytest.raises(UserError, match=message) as info:
        metric.process(None, predictions(**changes))
    assert "\n" not in str(info.value)


def test_files_and_masks_are_taken_as_on_the_command_line(tiny_glyphs, tmp_path):
    """Compressed, with a mark of byte order, or with NaN where nobody reads; run-lengths as text."""
    content = json.loads((tiny_glyphs / "annotations/val.json").read_text())
    text = json.dumps(content | dict(info=float("nan")))
    for name, data in (("a.gz", gzip.compress(text.encode())), ("b.json", text.encode("utf-8-sig"))):
        (tmp_path / name).write_bytes(data)
        metric = METRICS.build(dict(type="FASALVISMetric", ann_file=str(tmp_path / name)))
        assert metric.names == names(tiny_glyphs)
    mask = mask_utils.encode(np.asfortranarray(np.eye(64, dtype=np.uint8)))
    results = []
    for counts in (mask["counts"], mask["counts"].decode()):
        metric.process(None, predictions(masks=[dict(size=[64, 64], counts=counts)] * 2))
        results.append(metric.evaluate(size=1))
    assert results[0] == results[1]


def test_a_model_without_masks_is_judged_by_its_boxes(tiny_glyphs):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    for settings in (dict(iou_types="bbox"), dict(metric="bbox"), dict(iou_types=["bbox"], metric=["segm"])):
        metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations) | settings)
        metric.process(None, predictions())  # nobody said what the classes are
        assert {key.partition("_")[0] for key in metric.evaluate(size=1)} == {"lvis/bbox"}


def test_classes_in_another_order_are_refused(tiny_glyphs):
    annotations, classes = str(tiny_glyphs / "annotations" / "val.json"), names(tiny_glyphs)
    for given, fits in (
        (classes, True),
        (["speler", *classes[1:]], True),  # as one of mmdet's names is spelt otherwise than LVIS's
        ([classes[1], classes[0], *classes[2:]], False),
        (sorted(classes, reverse=True), False),
    ):
        metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations, iou_types="bbox"))
        metric.dataset_meta = dict(classes=given)
        if fits:
            metric.process(None, predictions())
        else:
            with pytest.raises(UserError, match="val.json: category 0 is .* the order differs"):
                metric.process(None, predictions())


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(tide="Stock"), "tide is 'Stock'; known: None, lvis, stock"),
        (dict(iou_types=["mask"]), "iou_type 'mask' is unknown; choose one of segm, bbox"),
        (dict(metric="proposal_fast"), "iou_type 'proposal_fast' is unknown"),
        (dict(ann_file="nowhere.json"), "nowhere.json"),
    ],
)
def test_unknown_settings_are_refused(tiny_glyphs, settings, message):
    with pytest.raises(UserError, match=message):
        METRICS.build(
            dict(type="FASALVISMetric", ann_file=str(tiny_glyphs / "annotations/val.json")) | settings
        )


BASE = "mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py"


def test_the_pages_evaluator_goes_over_mmdets_own(tiny_glyphs, tmp_path):
    """A child config's keys are merged with the base's, which names `metric` and `backend_args`."""
    lines = block("docs/judge-detections.md", "val_evaluator")
    (tmp_path / "config.py").write_text(
        f'_base_ = "{BASE}"\ncustom_imports = dict(imports=["fasa.detection"])\n{lines}'
    )
    cfg = Config.fromfile(tmp_path / "config.py")
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.type == "FASALVISMetric" and evaluator.metric == ["bbox", "segm"]
        assert evaluator.ann_file == "data/lvis_v1/annotations/lvis_v1_val.json"  # where the base has its own
        evaluator.ann_file = str(tiny_glyphs / "annotations" / "val.json")
        assert set(METRICS.build(evaluator).gt) == {"bbox", "segm"}


def test_a_config_of_mmdets_coco_is_merged_into(tiny_glyphs, tmp_path):
    file = tiny_glyphs / "annotations" / "val.json"
    (tmp_path / "config.py").write_text(
        '_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"\n'
        f'val_evaluator = dict(type="FASALVISMetric", ann_file="{file}")\n'
    )
    evaluator = Config.fromfile(tmp_path / "config.py").val_evaluator
    assert evaluator.format_only is False and set(METRICS.build(evaluator).gt) == {"bbox", "segm"}
    with pytest.raises(UserError, match="format_only"):
        METRICS.build(dict(evaluator, format_only=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(scores=torch.tensor([0.5])), r"predictions of image 1 do not fit each other: bboxes \(2, 4\)"),
        (dict(labels=torch.tensor([0, 1, 2])), r"labels \(3,\), scores \(2,\)"),
        (dict(bboxes=torch.zeros(2, 5)), r"bboxes \(2, 5\)"),
        (dict(masks=torch.zeros(1, 8, 8)), "image 1 has 1 masks for 2 scores"),
        (dict(masks=[np.zeros((8, 8))] * 2), "masks of image 1 are a list of ndarray"),
    ],
)
def test_predictions_that_do_not_fit_each_other_are_refused_at_once(tiny_glyphs, changes, message):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    kinds = ["bbox"] + ["segm"] * ("masks" in changes)
    metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations, iou_types=kinds))
    with pytest.raises(UserError, match=message):
        metric.process(None, predictions(**changes))


@pytest.mark.parametrize("protocols", [[], None])
def test_no_protocol_at_all_is_refused(tiny_glyphs, protocols):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    with pytest.raises(UserError, match="no protocol in .*; known: old, fixed, pool"):
        METRICS.build(dict(type="FASALVISMetric", ann_file=annotations, protocols=protocols))


def test_mmdets_own_types_are_taken(tiny_glyphs):
    size = json.loads((tiny_glyphs / "annotations" / "val.json").read_text())["images"][0]
    assert size["id"] == 1
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    plain, own = (METRICS.build(dict(type="FASALVISMetric", ann_file=annotations)) for _ in range(2))
    masks = np.zeros((2, size["height"], size["width"]), np.uint8)
    masks[:, 2:6, 3:9] = 1
    plain.process(None, predictions(masks=torch.from_numpy(masks).bool()))
    boxes = HorizontalBoxes(predictions()[0]["pred_instances"]["bboxes"])
    scores = torch.tensor([0.5, 0.4], requires_grad=True)
    own.process(None, predictions(masks=BitmapMasks(masks, *masks.shape[1:]), bboxes=boxes, scores=scores))
    assert str(own.results) == str(plain.results)
