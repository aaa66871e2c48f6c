import pytest

from fasa.classification.job import Row, Schedule, read_row
from fasa.errors import UserError
from fasa.sections import strict


def test_row_is_read():
    augmenter = dict(type="FASA", prob_scale=8, warmup=5, groups=dict(quantile=0.1))
    rows = dict(plain={}, fasa=dict(augmenter=augmenter, signal="metric", adapt_split="test", adapt_every=2))
    assert read_row(rows, "plain") == Row()
    assert read_row(rows, "fasa") == Row("cross_entropy", augmenter, 2, "test", "metric")
    assert read_row(dict(x=dict(adapt_every=None)), "x").adapt_every is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (dict(losses="ldam_drw"), "rows.x.losses is unknown; known: adapt_every, adapt_split"),
        (dict(loss="focal"), "rows.x.loss is 'focal'; known: balanced_softmax, cross_entropy, ldam_drw"),
        (dict(signal="ap"), "rows.x.signal is 'ap'; known: loss, metric"),
        (dict(adapt_split="val"), "rows.x.adapt_split is 'val'; known: adapt, test"),
        (dict(adapt_every=0), "rows.x.adapt_every is 0; it must be at least 1"),
        (dict(adapt_every=0.5), "rows.x.adapt_every is 0.5, not"),
        (dict(augmenter=dict(type="SMOTER")), "rows.x.augmenter.type is 'SMOTER'; known: AngularTransfer"),
        (dict(augmenter=dict(type="FASA", scale=8)), "rows.x.augmenter.scale is unknown; known: "),
        (dict(augmenter=dict(type="FASA", warmup="5")), "rows.x.augmenter.warmup is '5', not a number"),
    ],
)
def test_bad_row_is_refused_in_one_line(row, message):
    with pytest.raises(UserError) as info:
        read_row(dict(x=row), "x")
    assert str(info.value).startswith(f"params.yaml: {message}") and "\n" not in str(info.value)


@pytest.mark.parametrize("method", ["CAMMixing", "AngularTransfer", "FeatureTransfer"])
def test_methods_of_a_detectors_head_are_refused(method):
    with pytest.raises(UserError, match=f"rows.x.augmenter.type: {method} needs a detector's head"):
        read_row(dict(x=dict(augmenter=dict(type=method))), "x")


def test_row_that_is_not_there():
    with pytest.raises(UserError, match="there is no row 'y'; known: a, b"):
        read_row(dict(b={}, a={}), "y")


def test_schedule_is_checked():
    assert strict(Schedule, dict(epochs=200), "train") == Schedule(200, 128, 0.1, 5, 0.9, 2e-4, 4)
    for bad in (dict(), dict(epochs=0), dict(epochs=3, batch=0), dict(epochs=3, steps=[1])):
        with pytest.raises(UserError, match="train."):
            strict(Schedule, bad, "train")
