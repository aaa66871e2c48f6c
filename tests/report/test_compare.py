"""Two rows from what is kept of their runs, against the bootstrap of the runs themselves."""

import numpy as np
import pytest

from fasa.record import Record
from fasa.report.compare import adaptation, adapted, class_gains, compare, gainers, optimizer, report
from fasa.report.tables import Scale


def record(replicates, images=1, **metrics):
    return Record(metrics, images, dict(zip(metrics, replicates, strict=True)), {})


def test_differences_by_hand():
    a = [record([[1.0, 2.0, 3.0, np.nan]], AP=2.0), record([[3.0, 2.0, 1.0, 5.0]], AP=4.0)]
    b = [record([[2.0, 2.0, 4.0, 9.0]], AP=5.0)]
    found = compare(a, b, ["AP", "APr"])
    assert list(found) == ["AP"]
    resampled = [0.0, 0.0, 2.0]  # of the last resample one run has nothing
    assert found["AP"] == pytest.approx((2.0, *np.percentile(resampled, [2.5, 97.5]), 2 / 3))


def test_the_first_table_says_what_is_gained_or_that_nothing_ran():
    a, b = (record([[x, x + 1]], segm_AP=x) for x in (2.0, 5.0))
    text = report(
        dict(mask_rcnn={0: a, 1: a}, mask_rcnn_fasa={1: b}), Scale("`small`, 6 classes", "fasa run ROW")
    )
    assert "| mask AP | +3.0       | [+3.0, +3.0] | 0.0% " in text and "by 2 resamples of the images" in text
    assert "Mask R-CNN + FASA has +3.0 mask AP over" in text and "optimizer" not in text
    assert "Ours: `small`, 6 classes. " in text and "A row: `fasa run ROW`." in text
    text = report(dict(mask_rcnn={0: a}), Scale("", ""))
    assert "not run (22.6)" in text and "nothing to compare yet" in text and "95%" not in text


def test_what_the_optimizer_does_by_itself_is_said_first():
    rows = dict(mask_rcnn=(10, 1), mask_rcnn_adamw=(14.7, 12), mask_rcnn_fasa_adamw=(15.9, 13.5))
    found = {row: {0: dict(segm_AP=ap, segm_APr=rare)} for row, (ap, rare) in rows.items()}
    found["mask_rcnn_adamw"][1] = dict(segm_AP=99.0, segm_APr=99.0)  # a seed that the others lack
    text = optimizer(found)
    assert "without FASA, mask AP is 14.7 (+4.7), and FASA adds +1.2; mask APr is 12.0 (+11.0), and" in text
    assert "+1.5 (1 seed)." in text
    assert not optimizer({row: found[row] for row in ("mask_rcnn", "mask_rcnn_adamw")})
    boxes = {row: {0: dict(bbox_AP=1.0)} for row in rows}
    assert not optimizer(boxes)
    no_rare = {row: {0: dict(segm_AP=1.0)} for row in rows}
    assert "mask AP is 1.0 (0.0), and FASA adds 0.0 (1 seed)" in optimizer(no_rare)


def test_what_adaptation_adds_is_said_where_a_row_went_without():
    rows = dict(mask_rcnn_fasa_unadapted=(25.0, 14.5), mask_rcnn_fasa=(24.9, 13.9))
    found = {row: {0: dict(segm_AP=ap, segm_APr=rare)} for row, (ap, rare) in rows.items()}
    assert "frequency, mask AP is 25.0, with it 24.9; mask APr is 14.5, with it 13.9 (1 seed)." in adaptation(
        found
    )
    assert not adaptation(dict(mask_rcnn_fasa=found["mask_rcnn_fasa"]))


def test_how_far_the_adaptation_moved_is_told():
    histories = [[dict(probability=[0.5, 0.7, 0.01])], [dict(probability=[0.9, 0.9, 0.02])]]
    text = adapted(histories, list("rrf"))
    assert text.endswith("lay between 0.6 and 0.9 for rare classes, 0.01 and 0.02 for frequent classes.")
    assert "no row adapted" in adapted([[]], list("rrf"))


def test_classes_that_gain_are_counted_by_group():
    text = gainers({"row\nover base": np.array([1.0, -1.0, 0.0, 2.0, np.nan])}, list("rrffr"))
    assert text == "**Read:**\n\n- row over base: 1 of 2 rare classes, 1 of 2 frequent classes gain"
    assert "nothing to compare yet" in gainers({}, [])


def test_gains_by_class_are_means_over_shared_seeds():
    def run(*ap):
        return Record({}, 0, {}, dict(segm=np.array(ap)))

    records = dict(base={0: run(1.0, np.nan), 1: run(2.0, 3.0)}, row={1: run(5.0, 1.0), 2: run(9.0, 9.0)})
    (title, gain), *others = class_gains(records, dict(row="base", other="base")).items()
    assert title == "row\nover base" and gain.tolist() == [3.0, -2.0] and not others
    assert class_gains(records, dict(row="base"), "bbox") == {}
