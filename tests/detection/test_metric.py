import json

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS, MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
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
