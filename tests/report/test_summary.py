import json

import pytest

from fasa.errors import UserError
from fasa.report.summary import evaluated, summarise


def write(runs, row, seed, **metrics):
    (runs / f"{row}-{seed}").mkdir(parents=True)
    (runs / f"{row}-{seed}" / "metrics.json").write_text(json.dumps(metrics))


def test_mean_and_sample_deviation_by_hand():
    runs = dict(a=[dict(segm_AP=1.0), dict(segm_AP=2.0), dict(segm_AP=6.0)], b=[dict(segm_AP=5.0)])
    assert summarise(runs) == {
        "a": {"segm_AP": dict(mean=3.0, std=7**0.5, n=3)},
        "b": {"segm_AP": dict(mean=5.0, std=None, n=1)},
    }


def test_rows_that_were_evaluated_are_found(tmp_path):
    for seed in (0, 2):
        write(tmp_path, "a", seed, segm_AP=float(seed))
    write(tmp_path, "c", 0, segm_AP=5.0)
    main, more = dict(rows=["a", "b"], seeds=[0, 1, 2]), dict(rows=["c"], seeds=[0])
    assert evaluated(main, runs=tmp_path) == {"a": [dict(segm_AP=0.0), dict(segm_AP=2.0)]}
    assert evaluated(main, more, runs=tmp_path)["c"] == [dict(segm_AP=5.0)]
    with pytest.raises(UserError, match="no row has been evaluated yet; run: make repro"):
        evaluated(dict(rows=["b"], seeds=[0]), runs=tmp_path)
