"""Figure 1: purity by hand, and against chance."""

import numpy as np
import pytest
from matplotlib.patches import Ellipse, Rectangle

from fasa.report import groups


def classes(mine, bases, partners=()):
    partner = dict(partners) | {b: a for a, b in partners}
    return [
        dict(
            name=str(i),
            shown=str(i),
            frequency="rcf"[i % 3],
            group=group,
            base=base,
            cooccurs_with=partner.get(str(i)),
            point=[float(i // 2 * 100), float(i % 2)],
            place=[float(i)],
        )
        for i, (group, base) in enumerate(zip(mine, bases, strict=True))
    ]


@pytest.mark.parametrize(
    "mine, truth, expected",
    [([0, 0, 1, 1], [0, 0, 1, 1], 100), ([0, 0, 0, 0], [0, 0, 1, 2], 50), ([0, 1, 1, 1], [0, 0, 1, 2], 50)],
)
def test_purity_by_hand(mine, truth, expected):
    assert groups.purity(np.array(mine), np.array(truth)) == expected


def test_pairs_are_joined_through_others():
    found = groups.clusters(np.array([[1, 0], [2, 1], [4, 3]]), 6)
    assert len(set(found)) == 3 and found[0] == found[1] == found[2] and found[3] == found[4] != found[5]


def test_groups_that_follow_the_look_alikes_are_beyond_chance():
    there = classes([0, 0, 1, 1, 2, 2, 3, 3], "aabbccdd", [("0", "3"), ("1", "6")])
    text = groups.table({0: there, 2: there})
    alike, together = (line.split("|") for line in text.splitlines()[2:4])
    told = [cell.strip() for cell in alike[1:9]]
    assert told == ["0", "4", "0", "look-alikes", "4 of 4 (100%)", "14.3%", "+66.7", "100"]
    assert together[4].strip() == "seen together" and together[5].strip() == "0 of 2 (0%)"
    assert "purity against look-alikes is beyond chance in 2 of 2 seeds" in text
    assert "against seen together is beyond chance in 0 of 2 seeds" in text


def test_what_is_not_known_is_said():
    assert groups.table({}).startswith("Nothing yet: no class has been grouped")
    there = [
        {key: one[key] for key in one if key not in ("base", "cooccurs_with")}
        for one in classes([0, 0], "ab")
    ]
    assert "does not say which classes are alike" in groups.table({0: there})


def test_look_alikes_are_boxed_and_companions_circled():
    there = classes([0, 0, 1, 2, 3, 3, 4, 5], "aabbcdef", [("4", "5"), ("0", "7")])
    axes = groups.figure(there).axes[0]
    (box,), (ellipse,) = ([one for one in axes.patches if type(one) is kind] for kind in (Rectangle, Ellipse))
    assert box.get_x() < 0 < box.get_x() + box.get_width() and tuple(ellipse.center) == (200, 0.5)
    dotted = [line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() == ":"]
    assert [[100, 0], [100, 1]] in dotted
    rings = [one.get_offsets().tolist() for one in axes.collections if one.get_sizes().tolist() == [620]]
    assert [sorted(ring) for ring in rings] == [[[0, 0], [300, 1]]]
    assert [text.get_text() for text in axes.texts if text.get_color() == groups.BLUE] == ["a", "a"]


def test_marks_that_would_overlap_are_pushed_apart_and_others_stay():
    points = np.random.default_rng(0).normal(size=(60, 2))
    moved = groups.apart(points) / (groups.MARK * np.ptp(points, axis=0))
    nearest = np.linalg.norm(moved[:, None] - moved, axis=-1) + 9 * np.eye(60)
    assert nearest.min() > 0.98
    grid = np.stack(np.meshgrid([0.0, 1, 2], [0.0, 5, 10]), axis=-1).reshape(-1, 2)
    assert (groups.apart(grid) == grid).all()
