import json

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS, MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from fasa.errors import UserError
from fasa.evaluation import PROTOCOLS, instruments
from fasa.experiments import held_out


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
        dict(type="FASALVISMetric", ann_file=annotations, protocols=list(PROTOCOLS), tide=True)
    )
    metric.dataset_meta = loader.dataset.metainfo
    objects = json.loads((tiny_glyphs / "annotations/val.json").read_text())["annotations"]
    results = []
    for batch in loader:
        with torch.no_grad():
            samples = model.test_step(batch)
        for sample in samples:  # as if it had been trained: some boxes on objects
            found = sample.pred_instances
            for i, a in enumerate(a for a in objects if a["image_id"] == sample.img_id):
                x, y, w, h = a["bbox"]
                found.bboxes[i] = torch.tensor([x, y, x + w, y + h])
                found.labels[i], found.scores[i] = a["category_id"] - 1, 0.9 - 0.2 * i
        metric.process(batch, [sample.to_dict() for sample in samples])
        for sample in samples:
            found = sample.pred_instances
            for label, score, (x1, y1, x2, y2) in zip(
                found.labels.tolist(), found.scores.tolist(), found.bboxes.tolist(), strict=True
            ):
                ids = dict(image_id=sample.img_id, category_id=label + 1, score=score)
                results.append(ids | dict(bbox=[x1, y1, x2 - x1, y2 - y1]))
    values = metric.evaluate(size=len(loader.dataset))
    for instrument, expected in instruments(annotations, results, "bbox").items():
        prefix = "lvis/bbox" if instrument == "old" else f"lvis/bbox_{instrument}"
        for name, value in expected.items():
            if np.isnan(value):
                assert f"{prefix}_{name}" not in values
            else:
                assert values[f"{prefix}_{name}"] == pytest.approx(value, abs=1e-9), name
    assert values["lvis/bbox_AP"] > 1 and 0 <= values["lvis/segm_fixed_AP"] <= 100


def test_wrong_settings_are_refused(tiny_glyphs):
    annotations = str(tiny_glyphs / "annotations" / "val.json")
    with pytest.raises(UserError, match="no protocol 'new'; known: old, fixed, pool"):
        METRICS.build(dict(type="FASALVISMetric", ann_file=annotations, protocols=["new"]))
    metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations))
    metric.dataset_meta = dict(classes=("one",))
    with pytest.raises(UserError, match="val.json: 6 categories for 1 classes"):
        metric.compute_metrics([])
