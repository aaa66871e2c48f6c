import numpy as np
import pycocotools.mask
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from fasa.detection.experiment import held_out
from fasa.detection.inference import detect
from fasa.evaluation import FIXED, OLD, Matcher, read_ground_truth


@pytest.fixture(params=[True, False], ids=["one mask a box", "a mask for each class"])
def model(config, request):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = config().model
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=-1)
    cfg.roi_head.mask_head.class_agnostic = request.param
    model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


@pytest.fixture
def loader(config):
    return Runner.build_dataloader(held_out(config(), "val"), seed=0)


def test_equals_mmdet_without_a_cap(model, loader):
    with torch.no_grad():
        samples = [sample for batch in loader for sample in model.test_step(batch)]
    model.roi_head.test_cfg.max_per_img = 3  # does not hold
    found = list(detect(model, loader))
    assert [one.image_id for one in found] == [sample.img_id for sample in samples] == [1, 2, 3, 4, 5, 6]
    for one, sample in zip(found, samples, strict=True):
        expected = sample.pred_instances
        assert len(one.score) == len(expected) > 3
        assert one.category_id.tolist() == (expected.labels + 1).tolist()
        assert one.score.tolist() == expected.scores.tolist()
        corners = np.concatenate([one.box[:, :2], one.box[:, :2] + one.box[:, 2:]], axis=1)
        np.testing.assert_allclose(corners, expected.bboxes.numpy(), atol=1e-4)
        masks = [pycocotools.mask.decode(dict(size=list(sample.ori_shape), counts=rle)) for rle in one.rle]
        assert np.array_equal(np.stack(masks), expected.masks.numpy())


def test_what_a_matcher_would_not_look_at_is_not_made(model, loader, monkeypatch, tiny_glyphs):
    gt = read_ground_truth(tiny_glyphs / "annotations" / "val.json", "segm")
    absent = gt.absent[gt.absent % 6 != 1]  # of class 2 nothing is known where it is not annotated
    matcher = Matcher(gt._replace(absent=absent), [OLD._replace(per_image=2), FIXED])
    matcher.threshold[2] = np.inf  # as if there were enough of class 3
    everything = list(detect(model, loader))
    segmented = []
    predict = model.roi_head.predict_mask

    def counted(features, metas, found, rescale):
        segmented.append(len(found[0]))
        return predict(features, metas, found, rescale)

    monkeypatch.setattr(model.roi_head, "predict_mask", counted)
    some = list(detect(model, loader, matcher=matcher))
    made = 0
    for one, whole in zip(some, everything, strict=True):
        best = np.arange(len(whole.score)) < 2
        kept = best | (whole.category_id != 3)
        assert one.score.tolist() == whole.score[kept].tolist()
        assert one.category_id.tolist() == whole.category_id[kept].tolist()
        unknown = (whole.category_id == 2) & ~np.isin(
            2, gt.category_ids[gt.label[gt.image == one.image_id - 1]]
        )
        expected = [b"" if u and not b else rle for rle, u, b in zip(whole.rle, unknown, best, strict=True)]
        assert one.rle == [rle for rle, keep in zip(expected, kept, strict=True) if keep]
        made += len({tuple(box) for box, rle in zip(one.box, one.rle, strict=True) if rle})
    if model.roi_head.mask_head.class_agnostic:
        assert sum(segmented) == made > 0
    assert any(rle == b"" for one in some for rle in one.rle)
    assert all(rle == b"" for one in detect(model, loader, masks=False) for rle in one.rle)


def test_who_takes_detections_keeps_gradients(model, loader):
    assert all(torch.is_grad_enabled() for _ in detect(model, loader, masks=False))
