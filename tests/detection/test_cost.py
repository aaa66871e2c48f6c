from fasa.cost import growth, variants
from fasa.rows import Row


def test_a_row_of_two_stages_is_measured_in_each():
    plain = Row()
    assert variants("mask_rcnn", plain) == {"mask_rcnn": plain}
    row = Row(augmenter=dict(type="FeatureTransfer", phase=300))
    stages = variants("transfer", row)
    assert list(stages) == ["transfer, features frozen", "transfer, classifier frozen"]
    assert [stage.augmenter["phase"] > 1 for stage in stages.values()] == [True, False]
    assert row.augmenter["phase"] == 300


def test_a_leak_shows_and_what_is_freed_again_does_not():
    filling, sawtooth = [5, 50, 80], [100, 70, 90]
    assert growth(filling + 3 * sawtooth) == 0
    leak = [one + 2 * i for i, one in enumerate(6 * sawtooth)]
    assert growth(leak) == 2 * 9
