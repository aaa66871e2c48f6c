from pathlib import Path

import pytest

from fasa.classification.job import Row, Schedule
from fasa.errors import UserError
from fasa.params import read_params
from fasa.rows import compose_classifier

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def params():
    return read_params(ROOT / "params.yaml")


def test_a_row_has_its_sets_numbers_and_its_own_changes(params):
    fasa = compose_classifier(params, "glyphs", "ce_fasa", 1)
    assert (fasa.set, fasa.row, fasa.seed, fasa.shots, fasa.threads) == ("glyphs", "ce_fasa", 1, [5, 20], 1)
    assert fasa.settings.augmenter == dict(type="FASA", prob_scale=16, warmup=10, groups=dict(quantile=0.07))
    assert (fasa.settings.loss, fasa.settings.signal, fasa.settings.adapt_every) == (
        "cross_entropy",
        "loss",
        1,
    )
    by_class = compose_classifier(params, "glyphs", "ce_fasa_class", 1).settings
    assert by_class.augmenter == fasa.settings.augmenter | dict(level="class")
    assert compose_classifier(params, "glyphs", "ce_fasa_metric", 1).settings.signal == "metric"
    assert compose_classifier(params, "glyphs", "ce_fasa_leaky", 1).settings.adapt_split == "test"
    assert compose_classifier(params, "digits", "ldam_drw", 0).settings == Row(loss="ldam_drw")
    assert compose_classifier(params, "tiny_digits", "ce_fasa", 0).settings.augmenter["warmup"] == 1


def test_the_protocol_of_ldam_drw_is_the_default():
    assert Schedule(epochs=200) == Schedule(
        epochs=200, batch=128, lr=0.1, warmup=5, momentum=0.9, decay=2e-4, crop=4
    )


@pytest.mark.parametrize("method", ["CAMMixing", "AngularTransfer", "FeatureTransfer"])
def test_methods_of_a_detectors_head_are_refused(params, method, monkeypatch):
    trait = params.classification.sets["glyphs"].traits["fasa"]
    monkeypatch.setitem(trait.augmenter, "type", method)
    for name in ("prob_scale", "groups"):
        monkeypatch.delitem(trait.augmenter, name)
    with pytest.raises(UserError, match=f"traits.fasa: {method} needs a detector's head"):
        compose_classifier(params, "glyphs", "ce_fasa", 0)
