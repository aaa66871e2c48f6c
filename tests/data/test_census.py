import json

import numpy as np

from fasa.data.census import census, group_text, text


def part(*images):
    """A part with an image for each list of category ids."""
    categories = [
        dict(id=3, name="a", frequency="r", image_count=1, instance_count=2, base="x", cooccurs_with=5),
        dict(id=5, name="b", frequency="c", image_count=2, instance_count=2, base="x", cooccurs_with=3),
    ]
    annotations = [dict(image_id=i, category_id=k) for i, ids in enumerate(images) for k in ids]
    return dict(
        images=[dict(id=i) for i in range(len(images))], annotations=annotations, categories=categories
    )


def test_counts_by_hand():
    told = census(dict(train=part([3, 3, 5], [5], [], []), val=part([3], [5, 5])))
    assert told["images"] == dict(train=4, val=2)
    rare, common = told["classes"]
    expected = dict(name="a", shown="a", frequency="r", images=1, train=2, val=1)
    assert rare == expected | dict(base="x", cooccurs_with="b")
    assert (common["train"], common["val"]) == (2, 2)
    exact, up = told["repeats"]["0.1"]
    assert exact == dict(r=1.0, c=1.0, f=None) == up  # a quarter of the images hold the rarer class
    assert json.loads(text(told)) == told and len(text(told).splitlines()) > 2


def test_groups_are_told_with_their_truths():
    content = group_text(
        dict(quantile=0.1),
        part()["categories"],
        np.array([0, 1]),
        np.array([[0.123456, 1.0], [0.0, 0.0]]),
        np.zeros((2, 2)),
    )
    told = json.loads(content)
    assert told["settings"] == dict(quantile=0.1)
    assert told["classes"][0] == dict(
        name="a",
        shown="a",
        frequency="r",
        group=0,
        base="x",
        cooccurs_with="b",
        point=[0.0, 0.0],
        place=[0.1235, 1.0],
    )
