import math

import numpy as np
import pytest

from fasa.detection.evaluate import joined, measured, taken
from fasa.evaluation import Detections


def test_means_over_no_class_are_left_out():
    assert measured("segm", "old", dict(AP=1.0, APr=math.nan)) == dict(segm_AP=1.0)
    assert measured("bbox", "fixed", dict(AP=1.0, APr=math.nan)) == dict(bbox_fixed_AP=1.0)


def image(number, *scores, kind="bbox"):
    """What a model finds on an image; masks as they are encoded."""
    n = len(scores)
    shape = np.tile([1.0, 2.0, 3.0, 4.0], (n, 1)) if kind == "bbox" else [b"PoS%d" % i for i in range(n)]
    return Detections(np.full(n, number), np.full(n, 3), np.array(scores), shape)


def found(kind):
    """Of three images, the second empty, what is best of each."""
    images = image(7, 0.5, 0.75, 0.25, kind=kind), image(8, kind=kind), image(9, 0.125, kind=kind)
    return joined([taken(one, np.argsort(-one.score)[:2]) for one in images], kind)


def test_what_is_taken_of_images_is_joined():
    boxes, masks = found("bbox"), found("segm")
    for one in (boxes, masks):
        assert one.image_id.tolist() == [7, 7, 9] and one.score.tolist() == [0.75, 0.5, 0.125]
    assert boxes.shape.tolist() == [[1, 2, 3, 4]] * 3
    assert masks.shape.counts() == [b"PoS1", b"PoS0", b"PoS0"]


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_nothing_is_joined_to_nothing(kind):
    assert all(len(column) == 0 for column in joined([], kind))
