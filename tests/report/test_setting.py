"""The set-up in words, of jobs as they are planned."""

import msgspec
import pytest
from clones import ROOT

from fasa.params import read_params
from fasa.pipeline.plan import of_profile
from fasa.report import setting

CLASSES = [
    dict(frequency=f, train=n, adapt=2 * n, val=3 * n, tune=4 * n)
    for f, n in (("r", 3), ("r", 4), ("f", 1000))
]


@pytest.fixture
def settings(monkeypatch):
    """Of the stage `report` of a profile, for some rows."""
    monkeypatch.chdir(ROOT)
    params = read_params(ROOT / "params.yaml")

    def settings(profile, rows, studies=True):
        run = msgspec.structs.replace(params.run, rows=rows, seeds=[0, 1])
        planned = of_profile(msgspec.structs.replace(params, run=run, tuning={}), profile)
        (found,) = (stage.settings for stage in planned if stage.name == f"report@{profile}")
        return found | dict(studies=list(params.tuning) if studies else [])

    return settings


def test_the_set_up_is_told(settings):
    census = dict(classes=CLASSES, images=dict(train=1500, adapt=20, val=30, tune=40))
    text = setting.text(census, settings("embedded", ["mask_rcnn", "mask_rcnn_rfs_fasa", "mask_rcnn_fasa"]))
    assert "Profile `embedded`: scenes of 3 to 8 coloured characters, 128 pixels wide" in text
    assert (
        "starts from pretrained weights (`runs/embedded/pretrain.pth`), takes a warm-up of 400 iter" in text
    )
    assert "trains for 1,000 iterations in batches of 8 by AdamW (learning rate 0.001)," in text
    assert "(learning rate 0.002), in float32." in text
    assert "its classifier alone by SGD" in text and "- 2 seeds: " in text
    assert (
        "FASA has a `prob_scale` of 16 and adapts every 100 iterations; RFS has a threshold of 0.07." in text
    )
    assert "by the baselines alone" in text and "Leaky" not in text and "warm up alone" not in text
    header, _, *parts = (line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|"))
    assert [cell.strip() for cell in header][2::2] == [
        "objects of 2 rare classes",
        "objects of 1 frequent classes",
    ]
    assert [cell.strip() for cell in parts[0]] == ["`train`", "1,500", "7", "0", "1,000"]
    assert [cell.strip() for cell in parts[2]] == ["`val`", "30", "21", "0", "3,000"]
    seesaw = setting.text(census, settings("embedded", ["mask_rcnn", "mask_rcnn_seesaw"]))
    assert "1 of 2 rows, of another network, loss, optimizer or moments, warm up alone" in seesaw


def test_the_papers_scale_differs(settings):
    census = dict(classes=CLASSES, images=dict(train=100170, adapt=20, val=30), leaky=True)
    text = setting.text(census, settings("lvis", ["mask_rcnn", "mask_rcnn_fasa"], studies=False))
    assert "Profile `lvis`: photos of LVIS v1. " in text and "adapts after every epoch." in text
    assert (
        "(`imagenet`), and trains for 24 epochs in batches of 16 by SGD (learning rate 0.02), in float32."
        in text
    )
    assert "warm" not in text and "tune" not in text.replace("tuned", "") and "- **Leaky**: `adapt`" in text


def test_a_variation_is_half_of_prob_scale(settings):
    told = {name: setting.variation(settings(name, ["mask_rcnn_fasa"])) for name in ("embedded", "lvis")}
    assert (
        "-S +rows.mask_rcnn_fasa.augmenter.prob_scale=8 evaluate@embedded-mask_rcnn_fasa-0"
        in told["embedded"]
    )
    assert "prob_scale=0.5 evaluate@lvis-mask_rcnn_fasa-0" in told["lvis"]
    assert "is none of the rows" in setting.variation(settings("embedded", ["mask_rcnn"]))
