import json
import math

import pytest

from fasa.errors import UserError
from fasa.report import figures, tuning


def row(**metrics):
    """A row's metrics on two seeds, around these means."""
    return {
        seed: {name: value + off for name, value in metrics.items()} for seed, off in ((0, -0.1), (1, 0.1))
    }


def baselines(plain, rfs):
    """A candidate whose baselines have these mask APr and APf."""
    return {
        name: row(segm_AP=20.0, segm_APr=rare, segm_APc=18.0, segm_APf=frequent)
        for name, (rare, frequent) in dict(mask_rcnn=plain, mask_rcnn_rfs=rfs).items()
    }


def test_the_regime_nearest_to_that_of_lvis_is_chosen():
    found = dict(
        far=baselines((13.0, 34.4), (18.1, 35.2)),
        near=baselines((2.4, 32.0), (12.0, 32.0)),
        weak=baselines((1.2, 29.9), (14.1, 30.0)),  # nearer still, but it fails on frequent classes too
        never=baselines((0.0, 32.0), (12.0, 32.0)),
    )
    scores, chosen = tuning.choose("regime", found)
    assert chosen == "near"
    wanted = abs(math.log(2.4 / 32 / 0.04)) + abs(math.log(12 / 32 / 0.47))
    assert scores["near"] == pytest.approx(-wanted) and scores["far"] < scores["near"]
    assert scores["weak"] == scores["never"] == -math.inf
    assert tuning.choose("regime", dict(weak=found["weak"]))[1] is None


def test_a_regime_beyond_that_of_lvis_is_as_far_as_one_before_it():
    scores, _ = tuning.choose(
        "regime",
        dict(above=baselines((2.4, 30.0), (14.1, 30.0)), below=baselines((0.6, 30.0), (14.1, 30.0))),
    )
    assert scores["above"] == pytest.approx(scores["below"]) == pytest.approx(-math.log(2))


def test_the_largest_mean_of_ap_and_apr_over_rows_is_chosen():
    found = dict(
        x4=dict(plain=row(segm_AP=20.0, segm_APr=10.0), rfs=row(segm_AP=24.0, segm_APr=16.0)),
        x16=dict(plain=row(segm_AP=22.0, segm_APr=14.0), rfs=row(segm_AP=23.0, segm_APr=14.0)),
    )
    assert tuning.choose("prob_scale", found) == (pytest.approx(dict(x4=17.5, x16=18.25)), "x16")


def test_the_table_says_what_was_tried_and_chosen_and_the_figures_draw(tmp_path):
    found = dict(near=baselines((2.4, 32.0), (12.0, 32.0)), far=baselines((13.0, 34.4), (18.1, 35.2)))
    folder = tmp_path / "candidate" / "regime"
    folder.mkdir(parents=True)
    for name, rows in found.items():
        for seed in (0, 1):
            metrics = {one: seeds[seed] for one, seeds in rows.items()}
            (folder / f"{name}-{seed}.json").write_text(json.dumps(metrics))
    (folder / "half-0.json").write_text("{}")  # of a candidate whose other seed has not run
    read = tuning.tried(tmp_path, "regime", ["near", "half", "far"], [0, 1])
    assert read == found
    text = tuning.report("regime", read, dict(near=dict(threads=1), far={}))
    assert "| `near`    | `mask_rcnn`     | 20.0 ± 0.1 | 2.4 ± 0.1  |" in text and '`{"threads": 1}`' in text
    assert text.endswith("\nChosen: near.\n") and "seeds: 2" in text
    left, right = figures.regimes(read, tuning.RATIOS).axes
    assert left.lines[0].get_xdata().tolist() == pytest.approx([2.4 / 32, 13 / 34.4])
    assert right.lines[0].get_xdata().tolist() == pytest.approx([2.4, 13])
    curve = figures.scale_curve(read, dict(near=16, far=4)).axes[1]  # of RFS, in order of the scale
    lines = [line for line in curve.lines if list(line.get_xdata()) == [4, 16]]
    assert [line.get_ydata().tolist() for line in lines] == [
        pytest.approx([20, 20]),
        pytest.approx([18.1, 12]),
    ]
    with pytest.raises(UserError, match="run: dvc repro tuning/prob_scale/dvc.yaml"):
        tuning.tried(tmp_path, "prob_scale", ["x4"], [0])


def test_what_was_chosen_is_the_tables_last_word(tmp_path):
    (tmp_path / "table.md").write_text("On `tune`.\n\n| a |\n\nChosen: x16.\n")
    assert (
        tuning.chosen(tmp_path / "table.md") == "Chosen: x16." and tuning.chosen(tmp_path / "none.md") == ""
    )
