"""What depends on what: the closure of each stage, and what an edit runs again."""

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fasa.params import read_params
from fasa.pipeline import closure, plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of all that the plan reads."""
    for name in ("fasa", "configs", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def planned(checkout):
    """Plan anew, and give the text of every job."""

    def write() -> dict[str, str]:
        for cached in (closure.content_hash, closure.pins, plan.uses):
            cached.cache_clear()
        assert plan.main([]) == 0
        return {path.stem: path.read_text() for path in (checkout / "build" / "jobs").glob("*.json")}

    return write


def changed(before, after):
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def rows(names):
    """The rows of the stages that train."""
    return {name.partition("@embedded-")[2].rpartition("-")[0] for name in names if name.startswith("train@")}


def edit(path, text="\n# edited\n"):
    with open(path, "a") as file:
        file.write(text)


def test_the_same_checkout_gives_the_same_bytes(planned):
    before = planned()
    assert planned() == before
    names = {name.partition("@")[0] for name in before}
    families = set(YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]) - {"plan"}
    for path in ROOT.glob("tuning/*/dvc.yaml"):
        families |= set(YAML(typ="safe").load(path.read_text())["stages"])
    assert names == families


def test_an_edit_runs_again_what_uses_it(planned):
    before = planned()
    every = rows(before)

    edit("fasa/baselines/smote.py")
    after = planned()
    assert rows(changed(before, after)) == {"mask_rcnn_smote"}
    families = {name.partition("@")[0] for name in changed(before, after)}
    assert families == {"train", "evaluate", "cost", "report"}  # which says its defaults

    edit("fasa/baselines/bank.py")
    before, after = after, planned()
    assert rows(changed(before, after)) == {"mask_rcnn_smote", "mask_rcnn_cam", "mask_rcnn_cam_batch"}

    edit("configs/traits/seesaw.py")
    before, after = after, planned()
    assert rows(changed(before, after)) == {"mask_rcnn_seesaw", "mask_rcnn_seesaw_fasa"}

    edit("configs/embedded/cascade_rcnn.py")
    before, after = after, planned()
    assert rows(changed(before, after)) == {"cascade_rcnn_rfs", "cascade_rcnn_rfs_fasa"}

    edit("fasa/data/glyph_crops.py")
    before, after = after, planned()
    assert changed(before, after) == {"images@glyphs"}

    edit("fasa/pipeline/execute.py")
    before, after = after, planned()
    assert changed(before, after) == after.keys()

    edit("fasa/detection/head.py")
    before, after = after, planned()
    assert rows(changed(before, after)) == every
    assert not any(name.startswith(("data@", "classify@")) for name in changed(before, after))

    edit("fasa/report/figures.py")
    before, after = after, planned()
    assert rows(changed(before, after)) == set()

    edit("fasa/report/claims.yaml")
    before, after = after, planned()
    assert {name.partition("@")[0] for name in changed(before, after)} == {"report"}

    edit("fasa/report/appendix.yaml")
    before, after = after, planned()
    families = {name.partition("@")[0] for name in changed(before, after)}
    assert "report" in families and not families & {"train", "evaluate", "classify"}

    edit("fasa/evaluation/core.cpp")
    before, after = after, planned()
    assert {"evaluate"} <= {name.partition("@")[0] for name in changed(before, after)}

    edit("fasa/params.py")
    before, after = after, planned()
    assert changed(before, after) == set()


def test_new_methods_kinds_and_fragments_run_nothing_again(planned):
    before = planned()
    Path("fasa/baselines/mixup.py").write_text(
        "from fasa.augmenter import Augmenter\n\n\nclass Mixup(Augmenter):\n    pass\n"
    )
    edit("fasa/data/kinds.py")
    Path("configs/traits/focal.py").write_text("from fasa.sections import Section\n")
    assert changed(before, planned()) == set()


def test_a_notebook_saved_with_outputs_changes_nothing(planned):
    before = planned()
    path = plan.numbered("train")
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= dict(execution_count=7, outputs=[dict(output_type="stream", name="stdout", text=["x"])])
    path.write_text(json.dumps(notebook))
    by_hand = [cell for cell in notebook["cells"] if "by-hand" in cell["metadata"].get("tags", [])]
    by_hand[-1]["source"] = ["import fasa.data.folder"]  # what draws in JupyterLab is no part of a stage
    path.write_text(json.dumps(notebook))
    assert planned() == before
    notebook["cells"][0]["source"] = ["1 + 1"]
    path.write_text(json.dumps(notebook))
    assert {name.partition("@")[0] for name in changed(before, planned())} == {"train"}


def test_a_pin_counts_for_those_who_import_it(planned):
    before = planned()
    path = Path("constraints.txt")
    text = path.read_text()
    for package, families in (
        ("ruff", set()),
        ("matplotlib", {"data", "cluster", "report", "train", "evaluate"}),
        ("mmcv", {"warmup", "train", "evaluate", "cost", "candidate"}),
    ):
        path.write_text(
            closure.re.sub(rf"^{package}==.*", f"{package}==99", text, flags=closure.re.MULTILINE)
        )
        found = {name.partition("@")[0] for name in changed(before, planned())}
        assert found >= families and (families or not found), package
        assert package != "mmcv" or "classify" not in found


def test_settings_reach_the_rows_that_have_them(planned, checkout):
    before = planned()
    yaml = YAML()
    params = yaml.load(Path("params.yaml").read_text())
    params["embedded"]["traits"]["rfs"]["threshold"] = 0.05
    yaml.dump(params, Path("params.yaml"))
    assert rows(changed(before, planned())) == {row for row in rows(before) if "_rfs" in row}


def test_a_launcher_says_where_a_stage_runs_not_what_it_computes(planned, checkout):
    before, yaml = planned(), YAML()
    params = yaml.load((checkout / "params.yaml").read_text())
    params["embedded"]["launch"] = ["torchrun", "--nproc_per_node=8"]
    yaml.dump(params, checkout / "params.yaml")
    assert planned() == before


def test_another_profile_stands_beside(planned):
    before = planned()
    yaml = YAML()
    params = yaml.load(Path("params.yaml").read_text())
    params["profiles"] = ["embedded", "tiny", "lvis"]
    yaml.dump(params, Path("params.yaml"))
    after = planned()
    assert {name: after[name] for name in before} == before
    assert len(after) > 2.5 * len([name for name in before if "@embedded" in name])


def test_differences_are_told_in_words():
    old = dict(settings=dict(run=dict(lr=1, steps=[2])), sources={"fasa/a.py": "1"}, packages={"torch": "1"})
    new = dict(settings=dict(run=dict(lr=2, steps=[2])), sources={"fasa/a.py": "2"}, packages={"torch": "2"})
    assert list(plan.differences(old, new)) == [
        ("settings.run.lr", 1, 2),
        ("sources.fasa/a.py", "1", "2"),
        ("packages.torch", "1", "2"),
    ]


def test_dry_says_what_is_planned_and_writes_nothing(checkout, capsys):
    assert plan.main(["--dry"]) == 0
    assert "train" in capsys.readouterr().out and not (checkout / "build").exists()


def test_a_mistake_touches_nothing(planned, checkout, capsys):
    before = planned()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("ramp:", "rampe:"))
    assert plan.main([]) == 1
    assert "embedded.warmup: Object contains unknown field `rampe`" in capsys.readouterr().err
    assert {path.stem for path in Path("build", "jobs").glob("*.json")} == before.keys()


@pytest.mark.parametrize("name", ["embedded", "glyphs"])
def test_files_where_a_stage_writes_are_not_to_be_lost(checkout, capsys, name):
    """DVC empties a stage's folder before the stage runs; what a stage made has a file that says so."""
    mine = checkout / "data" / name / "train" / "cat.png"
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert plan.main([]) == 1
    stage = dict(embedded="data@embedded", glyphs="images@glyphs")[name]
    expected = f"error: data/{name}: holds train, which no stage has made and {stage} would remove; move it"
    assert expected in capsys.readouterr().err and mine.exists()
    folder, mark = mine.parents[1], dict(embedded="source.json", glyphs="images.npz")
    (folder / mark.pop(name)).touch()
    assert plan.main([]) == int(name == "glyphs")  # a folder train is part of a detector's data alone
    shutil.rmtree(mine.parent)
    assert plan.main([]) == 0
    (folder / mark.popitem()[1]).touch()  # what marks another kind of stage, or a file of the user's
    assert plan.main([]) == 1
    shutil.rmtree(folder)
    folder.write_text("a list of mine")
    assert plan.main([]) == 1 and folder.read_text() == "a list of mine"
    assert f"data/{name}: is a file, which {stage} would remove" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--why", ""], "there is no stage ''"),
        (["--profile", ""], "there is no profile ''"),
        (["--gpus", "8"], "--gpus: it says of what --profile has"),
        (["--gpus", "0", "--profile", "lvis"], "--gpus: it takes a whole number from 1"),
    ],
)
def test_a_flag_that_cannot_be_followed_plans_nothing(checkout, capsys, arguments, message):
    assert plan.main(arguments) == 1
    assert message in capsys.readouterr().err and not (checkout / "build").exists()


def test_only_one_thing_is_asked(checkout, capsys):
    with pytest.raises(SystemExit):
        plan.main(["--dry", "--profile", "lvis"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: cifar100", "knd: cifar100", "classification.sets.cifar100.data.kind is None; known: glyphs"),
        (
            "\nembedded:",
            "\nembedded:\n  configs: nope #",
            "configs is 'nope', but there is no folder configs/nope",
        ),
    ],
)
def test_what_no_stage_could_do_is_told_by_its_cause(checkout, capsys, old, new, message):
    text = Path("params.yaml").read_text()
    assert text.count(old) == 1
    Path("params.yaml").write_text(text.replace(old, new))
    assert plan.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_what_is_found_is_what_is_imported(checkout):
    """grimp's closure of a module, against what Python imports in a process of its own."""
    import subprocess
    import sys

    for module in ("fasa.algorithm", "fasa.evaluation", "fasa.detection.experiment", "fasa.data.coco"):
        code = f"import sys, {module}; print(*[m for m in sys.modules if m.split('.')[0] == 'fasa'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) <= closure.closure({module})[0]


def test_params_are_read_as_dvc_reads_them(tmp_path):
    assert read_params(Path(ROOT, "params.yaml")).sections["embedded"].optimizer.lr == 0.001  # written 1e-3
