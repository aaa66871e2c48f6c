import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from fasa.evaluation import best_detections, read_ground_truth

pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_plain_loops(make_federated, iou_type, seed):
    gt, detections = make_federated(seed)
    objects = read_ground_truth(gt, iou_type)
    found = best_detections(gt, detections, iou_type)
    there = [a for a in gt["annotations"] if a["area"] > 0]
    there.sort(key=lambda a: a["image_id"])
    field = dict(bbox="bbox", segm="segmentation")[iou_type]
    assert len(there) == len(objects.image) == len(found.which)
    for thing, which, score, iou in zip(there, *found, strict=True):
        ious = [mask_utils.iou([d[field]], [thing[field]], [0])[0, 0] for d in detections]
        mine = [
            (d["score"], ious[i], -i)
            for i, d in enumerate(detections)
            if (d["image_id"], d["category_id"]) == (thing["image_id"], thing["category_id"])
            and ious[i] >= 0.5
        ]
        best = max(mine, default=(np.nan, np.nan, 1))
        assert (score, iou, -which) == pytest.approx(best, nan_ok=True)
