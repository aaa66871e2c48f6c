from pathlib import Path

import pytest
from msgspec.structs import replace

from fasa.params import Study, read_params
from fasa.rows import candidate, compose, merged, shared_warmup

ROOT = Path(__file__).parents[1]
SGD = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4)


@pytest.fixture
def params(monkeypatch):
    monkeypatch.chdir(ROOT)
    return read_params("params.yaml")


def study(params, **candidates):
    """These params with one study, of these candidates."""
    return replace(
        params,
        tuning=dict(one=Study(profile="embedded", rows=["mask_rcnn_fasa"], seeds=[1], candidates=candidates)),
    )


def test_a_candidate_that_no_warmup_depends_on_shares_the_profiles(params):
    changes = dict(traits=dict(fasa=dict(augmenter=dict(prob_scale=5))))
    one = candidate(study(params, five=changes), "one", "five", 1)
    plain = compose(params, "embedded", "mask_rcnn_fasa", 1)
    assert one.rows == [replace(plain, augmenter=plain.augmenter | dict(prob_scale=5))]
    assert one.warmup is None and one.data is None


def test_where_one_candidate_changes_the_warmup_all_have_their_own(params):
    tried = study(params, sgd=dict(optimizer=SGD), as_it_is={})
    one = candidate(tried, "one", "sgd", 1)
    assert one.warmup.optimizer == one.rows[0].optimizer != params.sections["embedded"].optimizer
    assert one.warmup.optimizer.lr == 0.02 and one.warmup.optimizer.classifier is None
    assert candidate(tried, "one", "as_it_is", 1).warmup == shared_warmup(params, "embedded", 1)


def test_a_candidate_stays_what_it_is_when_the_profile_takes_another(params):
    tried = study(params, sgd=dict(optimizer=SGD), apart=dict(optimizer=SGD | dict(classifier=SGD)))
    before = candidate(tried, "one", "sgd", 1)
    chosen = candidate(tried, "one", "apart", 1).warmup.optimizer
    taken = replace(params.sections["embedded"], optimizer=chosen)
    tried = replace(tried, sections=params.sections | dict(embedded=taken))
    assert candidate(tried, "one", "sgd", 1) == before


def test_a_candidate_that_changes_the_data_has_all_of_their_settings(params):
    one = candidate(study(params, more=dict(data=dict(classes=70))), "one", "more", 1)
    assert one.data["module"] == "fasa.data.glyphs" and one.data["settings"]["classes"] == 70
    assert one.data["settings"]["images"]["train"] == 1500 and one.warmup is not None
    assert (
        one.pretrain == params.sections["embedded"].pretrain is not None
    )  # on characters that are no classes


def test_a_candidate_may_start_from_random_weights_or_a_backbone_of_its_own(params):
    tried = study(
        params, none=dict(pretrain=None), short=dict(pretrain=dict(iterations=9)), sgd=dict(optimizer=SGD)
    )
    for name, path, iterations in (("none", None, None), ("short", True, 9), ("sgd", True, None)):
        one = candidate(tried, "one", name, 1)
        assert one.warmup.pretrained == one.rows[0].pretrained == (path and "runs/embedded/pretrain.pth")
        assert (one.pretrain and one.pretrain.iterations) == iterations


def test_a_profiles_precision_is_that_of_its_warmup_and_of_every_row(params):
    plain = compose(params, "embedded", "mask_rcnn_rfs", 0)
    embedded = replace(params.sections["embedded"], precision="bfloat16")
    params = replace(params, sections=params.sections | dict(embedded=embedded))
    one = compose(params, "embedded", "mask_rcnn_rfs", 0)
    assert one == replace(plain, traits=dict(bfloat16={}, rfs=dict(plain.traits["rfs"])))
    assert shared_warmup(params, "embedded", 0).traits == dict(bfloat16={})


def test_a_none_above_leaves_out_what_is_below():
    assert merged(dict(a=dict(b=1, c=2), d=3), dict(a=dict(b=None), d=4)) == dict(a=dict(c=2), d=4)
