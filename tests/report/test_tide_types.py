"""The pictures of TIDE's types: made-up scenes, of which each must be what its title says."""

import pytest

from fasa.evaluation import by_class
from fasa.evaluation.tide import KINDS
from fasa.report.tide_types import HEIGHT, SCENES, WIDTH, A, B


@pytest.mark.parametrize("name", KINDS)
def test_each_scene_has_the_one_error_of_its_name(name):
    letters = dict(A=1, B=2)
    gt = dict(
        images=[dict(id=1, height=HEIGHT, width=WIDTH, neg_category_ids=[], not_exhaustive_category_ids=[])],
        categories=[dict(id=k, name=letter, frequency="f") for letter, k in letters.items()],
        annotations=[
            dict(image_id=1, category_id=letters[letter], bbox=box, area=box[2] * box[3])
            for letter, box, _ in (A, B)
        ],
    )
    detections = [
        dict(image_id=1, category_id=letters[letter], score=score, bbox=box)
        for letter, box, score in SCENES[name]
    ]
    counts = {kind: int(count.sum()) for kind, count in by_class(gt, detections, "bbox").items()}
    assert counts == {kind: int(kind == name) for kind in KINDS}
