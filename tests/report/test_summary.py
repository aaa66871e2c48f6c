import json

import pytest

from fasa.errors import UserError
from fasa.report.summary import summarise


def write(runs, row, seed, **metrics):
    (runs / f"{row}-{seed}").mkdir(parents=True)
    (runs / f"{row}-{seed}" / "metrics.json").write_text(json.dumps(metrics))


def test_mean_and_sample_deviation_by_hand(tmp_path):
    for seed, ap in enumerate([1.0, 2.0, 6.0]):
        write(tmp_path, "a", seed, segm_AP=ap)
    write(tmp_path, "b", 0, segm_AP=5.0)
    assert summarise(["a"], [0, 1, 2], tmp_path) == {"a": {"segm_AP": dict(mean=3.0, std=7**0.5, n=3)}}
    assert summarise(["b"], [0], tmp_path) == {"b": {"segm_AP": dict(mean=5.0, std=None, n=1)}}


def test_a_run_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="a-7/metrics.json: no such file; run: dvc repro evaluate@a-7"):
        summarise(["a"], [7], tmp_path)
