"""What of the code a row depends on, in a copy of what `fasa.sources` reads."""

import json
import re
import shutil
from pathlib import Path

import pytest

from fasa import METHODS, sources
from fasa.pipeline.project import parse_yaml

ROOT = Path(__file__).parents[1]
ROWS = dict(
    plain=dict(),
    fasa=dict(augmenter=dict(type="FASA"), adapt_every=60),
    released=dict(augmenter=dict(type="ReleasedFASA")),
    smote=dict(augmenter=dict(type="SMOTE")),
    moex=dict(augmenter=dict(type="MoEx")),
    cam=dict(augmenter=dict(type="CAMMixing")),
    angular=dict(augmenter=dict(type="AngularTransfer")),
    transfer=dict(augmenter=dict(type="FeatureTransfer")),
    two_stages=dict(augmenter=dict(type="FeatureTransfer", phase=300)),
    rfs=dict(rfs=dict(threshold=0.1, rounding="ceil")),
    nms=dict(nms_resampling=True),
    instaboost=dict(instaboost=True),
    normed=dict(classifier="normed", loss="seesaw"),
    cascade=dict(model="cascade_rcnn"),
    everything=dict(
        model="cascade_rcnn",
        rfs=dict(threshold=0.1, rounding="ceil"),
        nms_resampling=True,
        instaboost=True,
        augmenter=dict(type="SMOTE"),
    ),
)
CONFIG, CASCADE = "configs/embedded/mask_rcnn.py", "configs/embedded/cascade_rcnn.py"
RFS = {"fasa/data/repeat_factors.py", "fasa/detection/repeat_factor_sampler.py"}
NMS, INSTABOOST = {"fasa/detection/nms_resampling.py"}, {"fasa/detection/instaboost.py"}
SMOTE = {"fasa/baselines/smote.py", "fasa/baselines/bank.py"}
TRANSFER = {"fasa/baselines/feature_transfer.py"}
USED = dict(
    plain=set(),
    fasa=set(),
    released={"fasa/baselines/released_fasa.py"},
    smote=SMOTE,
    moex={"fasa/baselines/moex.py"},
    cam={"fasa/baselines/cam_mixing.py", "fasa/baselines/bank.py"},
    angular={"fasa/baselines/angular_transfer.py"},
    transfer=TRANSFER,
    two_stages=TRANSFER | {"fasa/detection/phases.py"},
    rfs=RFS,
    nms=NMS,
    instaboost=INSTABOOST,
    normed=set(),
    cascade={CASCADE},
    everything={CASCADE} | RFS | NMS | INSTABOOST | SMOTE,
)
OUT = Path("build", "sources")


CLASSIFIERS = dict(
    ce=dict(), ce_fasa=dict(augmenter=dict(type="FASA")), ce_smote=dict(augmenter=dict(type="SMOTE"))
)


def set_rows(rows: dict) -> None:
    profile = dict(rows=rows, classification=dict(rows=CLASSIFIERS))
    Path("params.yaml").write_text(json.dumps(dict(profile="embedded", embedded=profile)))  # YAML too


def written(out: Path = OUT) -> dict[str, str]:
    """The text of each row, as `fasa.sources` writes it."""
    assert sources.main() == 0
    return {file.stem: file.read_text() for file in out.glob("*.py")}


@pytest.fixture(autouse=True)
def copied(tmp_path, monkeypatch):
    """A folder with the code, the configs and `ROWS`, and in it."""
    for folder in ("fasa", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    set_rows(ROWS)


def test_a_row_has_the_files_that_it_uses_and_no_other():
    texts = written()
    assert texts.keys() == ROWS.keys()
    for name, text in texts.items():
        files = re.findall(r"^# ((?:fasa|configs)/\S+\.py)$", text, re.MULTILINE)
        assert len(files) == len(set(files)) and set(files) == USED[name] | {CONFIG}
        assert text == "".join(f"# {file}\n{Path(file).read_text()}\n" for file in files)


@pytest.mark.parametrize("file", sorted(set.union(*USED.values(), {CONFIG})))
def test_an_edit_changes_the_rows_that_use_the_file(file):
    before = written()
    Path(file).write_text(Path(file).read_text() + "\n# edited\n")
    after = written()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == (set(ROWS) if file == CONFIG else {name for name, used in USED.items() if file in used})


def test_a_classification_row_has_the_files_of_its_method():
    texts = written(OUT / "classify")
    assert texts.keys() == CLASSIFIERS.keys() and texts["ce"] == texts["ce_fasa"] == ""
    smote = Path("fasa/baselines/smote.py").read_text(), Path("fasa/baselines/bank.py").read_text()
    assert all(text in texts["ce_smote"] for text in smote)


def test_every_method_has_a_row_here():
    assert {row["augmenter"]["type"] for row in ROWS.values() if "augmenter" in row} == METHODS.keys()


def test_numbers_of_a_row_change_no_text():
    before = written()
    set_rows(ROWS | dict(smote=dict(augmenter=dict(type="SMOTE", k=3))))
    assert written() == before


def test_a_removed_row_vanishes():
    written()
    set_rows({name: row for name, row in ROWS.items() if name != "moex"})
    assert written().keys() == ROWS.keys() - {"moex"} and not Path(OUT, "moex.py").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (dict(rsf=1), "error: params.yaml: rows.plain.rsf is unknown; known: adapt_every, augmenter, "),
        (dict(augmenter=dict(type="Smote")), "error: params.yaml: rows.plain.augmenter.type is 'Smote'; "),
    ],
)
def test_a_mistake_is_one_line(row, message, capsys):
    set_rows(ROWS | dict(plain=row))
    assert sources.main() == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(message) and err.count("\n") == 1


def test_the_stage_declares_all_that_is_read():
    """An edit of a file that the stage does not name would change nothing."""
    stage = parse_yaml((ROOT / "dvc.yaml").read_text())["stages"]["sources"]
    declared = {dep.replace("${profile}", "embedded") for dep in stage["deps"]}
    for file in set.union(*USED.values(), {CONFIG}):
        assert any(file == dep or file.startswith(f"{dep}/") for dep in declared), file


def test_files_of_some_rows_only_stand_in_no_other_stage_of_theirs():
    """Or every row would run again for them, and this module would be for nothing."""
    stages = parse_yaml((ROOT / "dvc.yaml").read_text())["stages"]
    for name in ("warmup", "train", "train_more", "evaluate", "evaluate_more"):
        deps = stages[name]["deps"]
        assert not [file for file in set.union(*USED.values()) if any(file.startswith(dep) for dep in deps)]
