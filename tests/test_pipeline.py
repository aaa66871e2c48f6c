"""The whole pipeline at tiny scale: the real DVC, the real notebooks, a copy of this checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fasa.pipeline.project import parse_yaml

ROOT = Path(__file__).parents[1]
TINY = {
    "    - mask_rcnn_rfs\n": "",
    "    - mask_rcnn_rfs_fasa_uniform\n": "",
    "    - mask_rcnn_nms\n    - mask_rcnn_nms_fasa\n    - mask_rcnn_fasa_released\n": "",
    "    - mask_rcnn_moex\n    - mask_rcnn_instaboost\n": "",
    "    - mask_rcnn_cam_batch\n    - mask_rcnn_transfer\n    - mask_rcnn_transfer_mean\n": "",
    "    - cascade_rcnn_rfs\n": "",
    "    - mask_rcnn_seesaw\n    - mask_rcnn_seesaw_fasa\n    - mask_rcnn_normed\n": "",
    "    - mask_rcnn_normed_fasa\n    - mask_rcnn_angular_m00\n    - mask_rcnn_angular_m05\n": "",
    "    - mask_rcnn_angular_m20\n    - mask_rcnn_angular_m50\n": "",
    "seeds:\n    - 0\n    - 1\n    - 2": "seeds:\n    - 0",
    "classes: 60": "classes: 6",
    "image_size: 128": "image_size: 64",
    "train: 1500": "train: 16",
    "adapt: 240": "adapt: 6",
    "val: 400": "val: 6",
    "- 3\n      - 8": "- 2\n      - 3",
    "- 28": "- 20",
    "- 60": "- 36",
    "pairs: 6": "pairs: 1",
    "iterations: 800": "iterations: 4",
    "iterations: 600": "iterations: 4",
    "batch: 8": "batch: 2",
    "ramp: 100": "ramp: 2",
    "adapt_every: 60": "adapt_every: 1",
    "resamples: 1000": "resamples: 20",
    "iterations: 120": "iterations: 2",
    "- 4\n    - 16\n    - 64": "- 4\n    - 16",
    "    - ce_fasa_metric\n    - ce_fasa_class\n    - ldam_drw\n    - ldam_drw_fasa\n": "",
    "    - balanced_softmax\n    - balanced_softmax_fasa\n  seeds": "  seeds",
    "classes: 100": "classes: 4",
    "n_max: 100": "n_max: 8",
    "ratio: 100\n          adapt: 10\n          test: 20": "ratio: 4\n          adapt: 2\n          test: 2",
    "data: {}": "data: {n_max: 10, ratio: 5, adapt: 2, test: 2}",
    "epochs: 30": "epochs: 2",
    "epochs: 40": "epochs: 2",
    "warmup: 10": "warmup: 1",
}


OTHERS = {
    "mask_rcnn_rfs_fasa",
    "mask_rcnn_smote",
    "mask_rcnn_angular",
    "mask_rcnn_cam",
    "cascade_rcnn_rfs_fasa",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone, work in progress included, with tiny params and nothing cached."""
    folder = tmp_path_factory.mktemp("clone") / "fasa"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("results/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    params = (folder / "params.yaml").read_text()
    for old, new in TINY.items():
        assert old in params, f"params.yaml has no {old!r} any more: mend TINY"
        params = params.replace(old, new)
    (folder / "params.yaml").write_text(params)
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "."],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "tiny"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def dvc(folder, *arguments):
    environment = os.environ | dict(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return subprocess.run(["dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def outdated(folder):
    """Stages of the default run that are not up to date."""
    status = json.loads(dvc(folder, "status", "--json").stdout)
    return {stage for stage in status if not stage.startswith("tuning/")}


@pytest.fixture(scope="module")
def first(clone):
    done = dvc(clone, "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return lock(clone)


def lock(folder):
    """What dvc.lock says of all stages but those that hold timings."""
    stages = parse_yaml((folder / "dvc.lock").read_text())["stages"]
    return {name: stage for name, stage in stages.items() if not name.startswith(("cost", "remarks"))}


def test_results_hold_every_row_and_metric(clone, first):
    metrics = json.loads((clone / "results" / "metrics.json").read_text())
    assert metrics.keys() == {"mask_rcnn", "mask_rcnn_fasa", *OTHERS}
    # at this scale no class is frequent and no object large, so there is neither APf nor APl
    common = ["AP", "AP50", "AP75", "APr", "APc", "APs", "AR", "ARs"]
    tide = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg"]
    names = {
        f"{kind}_{name}"
        for kind in ("segm", "bbox")
        for name in [f"{p}{m}" for p in ("", "fixed_", "pool_") for m in common] + [f"tide_{e}" for e in tide]
    }
    assert metrics["mask_rcnn"].keys() >= names
    names = metrics["mask_rcnn"].keys()
    assert not any(name.endswith(("APf", "APl")) for name in names)
    fasa = metrics["mask_rcnn_fasa"]
    assert fasa.keys() - names == {"fasa_adaptations", "virtual_per_iteration", "fasa_groups"}
    assert fasa["fasa_adaptations"] == dict(mean=4, std=None, n=1)
    assert "mask_rcnn_fasa" in (clone / "results" / "main.md").read_text()
    assert "TIDE" in (clone / "results" / "table1.md").read_text()
    assert "AP_Pool" in (clone / "results" / "table6.md").read_text()
    shown = json.loads(dvc(clone, "metrics", "show", "--json").stdout)
    rows = {Path(name).stem: values["data"] for name, values in shown[""]["data"].items()}
    assert rows["mask_rcnn_fasa"]["segm_AP"] == round(fasa["segm_AP"]["mean"], 2) and len(rows) == 7
    for table, row in (
        ("table2", "mask_rcnn_rfs_fasa"),
        ("table6", "cascade_rcnn_rfs_fasa"),
        ("augmentations", "mask_rcnn_smote"),
    ):
        assert f"`{row}`" in (clone / "results" / f"{table}.md").read_text()
    text = (clone / "results" / "classification.md").read_text()
    assert "# glyphs" in text and "# digits" in text and "43.7" in text and "`ce_fasa`" in text
    cost = {row: json.loads((clone / "runs" / "cost" / f"{row}.json").read_text())[row] for row in metrics}
    assert min(one["seconds"] for one in cost.values()) > 0
    assert cost["mask_rcnn_fasa"]["state"] > 0 == cost["mask_rcnn"]["state"]
    assert "(0.792 ± 0.05)" in (clone / "results" / "table5.md").read_text()
    assert "CAM mixing" in (clone / "results" / "remarks.md").read_text()
    for name in (
        "margin",
        "partners",
        "combinations",
        "classes",
        "counts",
        "groups-0",
        "ap_by_frequency",
        "adaptation",
        "tide",
    ):
        assert (clone / "results" / "figures" / f"{name}.png").stat().st_size > 5000


def test_second_run_does_nothing(clone, first):
    done = dvc(clone, "repro")
    assert done.returncode == 0 and "Running stage" not in done.stdout
    assert lock(clone) == first
    assert outdated(clone) == set()


def test_the_choice_of_settings_runs(clone, first):
    done = dvc(clone, "repro", "tuning/dvc.yaml")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    text = (clone / "results" / "choice.md").read_text()
    scores = dict(re.findall(r"^\| (\d+) +\| ([\d.]+)", text, re.MULTILINE))
    chosen = re.search(r"Chosen: prob_scale (\d+)", text)[1]
    assert scores.keys() == {"4", "16"} and float(scores[chosen]) == max(map(float, scores.values()))
    assert lock(clone) == first


def test_editing_a_row_affects_that_row_alone(clone, first):
    params = clone / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("type: FASA", "type: FASA\n        power: 1.5", 1))
    affected = outdated(clone)
    params.write_text(before)
    assert affected == {
        "params",
        "sources",
        "train@mask_rcnn_fasa-0",
        "evaluate@mask_rcnn_fasa-0",
        "cost@mask_rcnn_fasa",
        "remarks",
    }


def test_a_mistake_stops_before_anything_is_lost(clone, first):
    params = clone / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("ramp:", "rampe:"))
    done = dvc(clone, "repro")
    params.write_text(before)
    assert done.returncode != 0
    assert "error: params.yaml: warmup.rampe is unknown" in done.stdout + done.stderr
    assert (clone / "runs" / "warmup" / "0.pth").exists() and (clone / "results" / "metrics.json").exists()
    assert lock(clone) == first


def test_forced_run_gives_the_same_bytes(clone, first):
    done = dvc(clone, "repro", "--force", "--no-run-cache")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert lock(clone) == first
