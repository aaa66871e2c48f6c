from fasa.cost import variants
from fasa.rows import Row


def test_a_row_of_two_stages_is_measured_in_each():
    plain = Row()
    assert variants("mask_rcnn", plain) == {"mask_rcnn": plain}
    row = Row(augmenter=dict(type="FeatureTransfer", phase=300))
    stages = variants("transfer", row)
    assert list(stages) == ["transfer, features frozen", "transfer, classifier frozen"]
    assert [stage.augmenter["phase"] > 1 for stage in stages.values()] == [True, False]
    assert row.augmenter["phase"] == 300
