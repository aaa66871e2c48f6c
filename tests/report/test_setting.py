"""The set-up in words, of jobs as they are planned."""

import msgspec
import pytest
from clones import ROOT

from fasa.params import read_params
from fasa.report import setting
from fasa.rows import compose

CLASSES = [dict(frequency=f, val=n) for f, n in (("r", 3), ("r", 4), ("f", 1000))]


@pytest.fixture
def settings(monkeypatch):
    """Of the stage `report` of a profile, for some rows."""
    monkeypatch.chdir(ROOT)
    params = read_params(ROOT / "params.yaml")

    def settings(profile, rows, studies=()):
        jobs = {row: msgspec.to_builtins(compose(params, profile, row, 0)) for row in rows}
        return dict(profile=profile, seeds=[0, 1], jobs=jobs, studies=list(studies))

    return settings


def test_the_set_up_is_told(settings):
    census = dict(classes=CLASSES, images=dict(train=1500, adapt=20, val=30, tune=40))
    rows = ["mask_rcnn", "mask_rcnn_fasa", "mask_rcnn_seesaw"]
    text = setting.text(census, settings("embedded", rows, ["regime", "prob_scale"]))
    assert "`embedded`: 3 classes, 2 rare, 0 common, 1 frequent. Rows train on 1,500 images" in text
    assert "(`val`; objects: 7 of rare, 0 of common, 1,000 of frequent classes)" in text
    assert (
        "starts from pretrained weights (`runs/embedded/pretrain.pth`), takes a warm-up of 400 iter" in text
    )
    assert "trains for 1,000 iterations in batches of 8 by AdamW (learning rate 0.001)," in text
    assert "its classifier alone by SGD (learning rate 0.002)" in text and "- 2 seeds: " in text
    assert "1 of 3 rows, of another network, loss or optimizer, warm up by themselves" in text
    assert "40 images of `tune`" in text and "by the baselines alone" in text and "Leaky" not in text


def test_the_papers_scale_differs(settings):
    census = dict(classes=CLASSES, images=dict(train=100170, adapt=20, val=30, tune=40), leaky=True)
    text = setting.text(census, settings("lvis", ["mask_rcnn"]))
    assert "(`imagenet`), and trains for 24 epochs in batches of 16 by SGD (learning rate 0.02)." in text
    assert "warm" not in text and "tune" not in text and "- **Leaky**: `adapt` has images of `val`" in text


def test_a_variation_is_half_of_what_is_drawn(settings):
    told = {name: setting.variation(settings(name, ["mask_rcnn_fasa"])) for name in ("embedded", "lvis")}
    assert (
        "-S +rows.mask_rcnn_fasa.augmenter.prob_scale=8 evaluate@embedded-mask_rcnn_fasa-0"
        in told["embedded"]
    )
    assert "prob_scale=0.5 evaluate@lvis-mask_rcnn_fasa-0" in told["lvis"]
    assert "is none of the rows" in setting.variation(settings("embedded", ["mask_rcnn"]))
