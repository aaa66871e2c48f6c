from pathlib import Path

import pytest
from msgspec.structs import replace

from fasa.detection import experiment, tuning
from fasa.params import Study, read_params
from fasa.rows import candidate

ROOT = Path(__file__).parents[2]


def test_a_candidate_with_data_and_optimizer_of_its_own_is_trained_judged_and_taken_up(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    sgd = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4)
    rows = ["mask_rcnn", "mask_rcnn_fasa"]
    changes = dict(data=dict(classes=4), optimizer=sgd)
    params = read_params("params.yaml")
    params = replace(
        params, tuning=dict(one=Study(profile="tiny", rows=rows, seeds=[0], candidates=dict(few=changes)))
    )
    one, work = candidate(params, "one", "few", 0), tmp_path / "work"
    tried = tuning.try_out(one, tmp_path / "none.pth", "tune", work)
    assert list(tried) == rows
    for metrics in tried.values():
        assert {"segm_AP", "bbox_APr", "segm_tide_Cls", "bbox_pool_AP", "iteration_ms"} <= metrics.keys()
    assert tried["mask_rcnn_fasa"]["virtual_per_iteration"] > 0
    assert len(experiment.class_means(work / "warmup.pth")[1]) == 4  # classes, of its own data

    def refuse(*_, **paths):
        raise AssertionError("trained again")

    (work / "mask_rcnn" / "metrics.json").unlink()  # as if killed while it was judged
    monkeypatch.setattr(tuning, "train_warmup", refuse)
    again = tuning.try_out(one, tmp_path / "none.pth", "tune", work)
    same = {name: value for name, value in tried["mask_rcnn"].items() if name != "iteration_ms"}
    assert same.items() <= again["mask_rcnn"].items() and again["mask_rcnn_fasa"] == tried["mask_rcnn_fasa"]
    with pytest.raises(AssertionError, match="trained again"):
        tuning.try_out(one, tmp_path / "none.pth", "tune", tmp_path / "new")
