"""The lvis profile through every stage, on a folder laid out as LVIS v1, beside what is committed."""

import json

import pytest
from clones import ROOT, called, cloned, fasa, ran, yaml
from lvis_scale import long_tailed, small

from fasa.report.page import section
from fasa.sections import merged

ROWS = ["mask_rcnn_fasa", "cascade_rcnn_rfs_fasa"]
STAGES = ["cluster@lvis-*", "report@lvis"]
LAUNCH = "torchrun --nproc_per_node=2"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone in which everything of the lvis profile has run, in one process a stage."""
    root = tmp_path_factory.mktemp("lvis")
    long_tailed(root / "lvis", train=130, val=12)
    params = yaml.load((ROOT / "params.yaml").read_text())
    traits = merged(params["lvis"]["traits"], dict(fasa=dict(augmenter=dict(warmup=4))))
    lvis = small(
        params["lvis"],
        root / "lvis",
        optimizer=params["lvis"]["optimizer"] | dict(lr=1e-3),  # from random weights 0.02 ends in NaN
        train=dict(epochs=2, batch=16, ramp=2, steps=[1]),
        cost=dict(iterations=2, batch=2),
        table=dict(resamples=20),
        traits=traits,
    )
    folder = cloned(
        root / "clone",
        profiles=["embedded", "lvis"],
        lvis=lvis,
        run=dict(rows=ROWS, seeds=[0]),
        classify=dict(sets=["tiny_digits"], rows=["ce"], seeds=[0]),
        tuning={name: study | dict(seeds=[0]) for name, study in params["tuning"].items()},
    )
    stages = yaml.load((folder / "dvc.yaml").read_text())
    stages["stages"]["cost"]["matrix"]["row"] = ["mask_rcnn_fasa"]  # nothing is asked of the others'
    yaml.dump(stages, folder / "dvc.yaml")
    done = fasa(folder, "run", "--verbose", *STAGES)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_every_table_is_there(clone):
    results = clone / "results" / "lvis"
    metrics = json.loads((results / "metrics.json").read_text())
    assert list(metrics) == ROWS and all("segm_AP" in one and "bbox_AP" in one for one in metrics.values())
    assert metrics["mask_rcnn_fasa"]["fasa_adaptations"]["mean"] == 2
    report = (results / "report.md").read_text()
    for title, text in (
        ("In short: does it work here?", "`lvis`, 1,203 classes in "),
        ("Table 1: which errors cost the most", "loses most AP50 by"),
        ("Figure 1: groups of classes", "Nothing yet: no class has been grouped, or rows share no warm-up"),
        ("Remarks of appendix F", "`mask_rcnn_cam`: not run"),
    ):
        assert text in section(report, title), title
    for title, row in (
        ("Table 6: other ways to count", "cascade_rcnn_rfs_fasa"),
        ("Cost", "mask_rcnn_fasa"),
    ):
        assert ran(section(report, title), row), title
    categories = json.loads((clone / "data/lvis/annotations/train.json").read_text())["categories"]
    assert len(categories) == 1203
    cost = json.loads((clone / "results/lvis/cost/mask_rcnn_fasa.json").read_text())["mask_rcnn_fasa"]
    assert cost["state"] > 9 and cost["pass_seconds"] > 0  # MB: 1,203 means and variances of 1,024
    said = (clone / "executed/lvis/cluster-0.ipynb").read_text()
    assert "lvis has no warm-up that rows share" in said


def test_two_ranks_detect_what_one_process_does(clone):
    """And train; what comes after that is of tests/test_ranks.py."""
    outs = [
        clone / "runs/lvis/evaluate/mask_rcnn_fasa-0/detections.npz",
        clone / "results/lvis/runs/mask_rcnn_fasa-0.npz",
    ]
    before = [out.read_bytes() for out in outs]
    again = ["dvc", "repro", "--force", "--single-item", "--no-run-cache"]
    done = called(clone, *again, "evaluate@lvis-mask_rcnn_fasa-0", FASA_LAUNCH=LAUNCH)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert [out.read_bytes() for out in outs] == before
    done = called(clone, *again, "train@lvis-mask_rcnn_fasa-0", FASA_LAUNCH=LAUNCH)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    history = json.loads((clone / "runs/lvis/history/mask_rcnn_fasa-0.json").read_text())
    assert len(history["passes"]) == 2 and sum(history["drawn"]) > 0
