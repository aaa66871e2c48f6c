import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from fasa.evaluation import best_scores, read_ground_truth

pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_plain_loops(make_federated, iou_type, seed):
    gt, detections = make_federated(seed)
    objects = read_ground_truth(gt, iou_type)
    found = best_scores(gt, detections, iou_type)
    there = [a for a in gt["annotations"] if a["area"] > 0]
    there.sort(key=lambda a: a["image_id"])
    field = dict(bbox="bbox", segm="segmentation")[iou_type]
    assert len(there) == len(objects.image) == len(found)
    for thing, score in zip(there, found, strict=True):
        mine = [
            d["score"]
            for d in detections
            if (d["image_id"], d["category_id"]) == (thing["image_id"], thing["category_id"])
            and mask_utils.iou([d[field]], [thing[field]], [0])[0, 0] >= 0.5
        ]
        assert score == pytest.approx(max(mine, default=np.nan), nan_ok=True)
