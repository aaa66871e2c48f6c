from jobs import job

from fasa.detection.cost import growth, variants


def test_a_row_of_two_stages_is_measured_in_each():
    plain = job("data")
    assert variants(plain) == {"row": plain}
    two = job("data", augmenter=dict(type="FeatureTransfer", phase=300))
    stages = variants(two)
    assert list(stages) == ["row, features frozen", "row, classifier frozen"]
    assert [stage.augmenter["phase"] > 1 for stage in stages.values()] == [True, False]
    assert two.augmenter["phase"] == 300


def test_a_leak_shows_and_what_is_freed_again_does_not():
    filling, sawtooth = [5, 50, 80], [100, 70, 90]
    assert growth(filling + 3 * sawtooth) == 0
    leak = [one + 2 * i for i, one in enumerate(6 * sawtooth)]
    assert growth(leak) == 2 * 9
