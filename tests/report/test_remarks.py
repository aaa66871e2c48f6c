import numpy as np
import pytest

from fasa.report import remarks


def test_partners_by_hand():
    # class 0 is the tail; 1 and 2 confuse it; one image holds 0 and 1, one 2, one 3
    images, tail = [[0, 1], [2], [3]], np.array([True, False, False, False])
    confusing = np.zeros((4, 4), dtype=bool)
    confusing[0, [1, 2]] = True
    assert remarks.partner_shares(images, tail, confusing, batch=3, batches=5) == (1.0, 1.0)
    some, every = remarks.partner_shares(images, tail, confusing, batch=1, batches=50)
    assert (some, every) == (1.0, 0.0)  # whenever the tail is there, class 1 is too
    some, every = remarks.partner_shares(images, tail, confusing, batch=2, batches=2000)
    assert some == 1.0 and every == pytest.approx(0.5, abs=0.06)


def test_without_a_tail_class_there_is_no_share():
    nothing = np.zeros((2, 2), dtype=bool)
    shares = remarks.partner_shares([[0], [1]], np.array([False, False]), nothing, batch=1, batches=3)
    assert all(np.isnan(shares))


def test_margins_are_sorted_and_only_those():
    rows = {
        "mask_rcnn": {},
        "mask_rcnn_angular": dict(augmenter=dict(type="AngularTransfer", margin=0.1)),
        "mask_rcnn_angular_m00": dict(augmenter=dict(type="AngularTransfer", margin=0.0)),
    }
    found = {name: {0: dict(segm_AP=float(len(name)))} for name in rows}
    margins = remarks.margins(rows, found)
    assert list(margins) == [0.0, 0.1] and margins[0.0] == found["mask_rcnn_angular_m00"]


def test_section_holds_what_was_measured():
    margins = {0.0: {0: dict(segm_AP=10.0), 1: dict(segm_AP=20.0)}, 0.5: {0: dict(segm_AP=1.0)}}
    measured = {
        "mask_rcnn": dict(seconds=0.4),
        "mask_rcnn_smote": dict(seconds=9.0),
        "mask_rcnn_transfer, features frozen": dict(seconds=0.5),
    }
    repeats = {0.07: (dict(r=4.125, c=2.0, f=1.0), dict(r=5.0, c=2.0, f=1.0))}
    text = remarks.section(margins, {8: (0.25, 0.125)}, repeats, measured)
    assert "| 0.07 " in text and "4.12" in text and "| 5.00 " in text
    assert "| 0   | 15.0" in text and "| 8 " in text and "| 25 " in text and "+25%" in text
    assert "smote" not in text and "nan" not in text and "| - " in text  # APr was not measured
