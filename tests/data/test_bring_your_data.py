"""docs/bring-your-data.md, executed on a folder of photos and a file of annotations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, block, names_stages
from ruamel.yaml import YAML

from fasa.params import read_params
from fasa.pipeline.plan import stages

PAGE = "docs/bring-your-data.md"
yaml = YAML(typ="safe", pure=True)


@pytest.fixture
def mine(tiny_glyphs, tmp_path):
    """A folder with ``my/photos`` and ``my/annotations.json``."""
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "photos").symlink_to(tiny_glyphs)
    (tmp_path / "my" / "annotations.json").symlink_to(tiny_glyphs / "annotations" / "train.json")
    return tmp_path


def test_its_commands_prepare_and_check(mine):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | dict(PATH=path, PYTHONPATH=str(ROOT))

    def run(text):
        bash = dict(input=text, cwd=mine, env=environment, capture_output=True, text=True)
        done = subprocess.run(["bash", "-e"], **bash)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    said = run(block(PAGE, "python - <<"))
    train = json.loads((mine / "data" / "mine" / "annotations" / "train.json").read_text())
    assert f"train: {len(train['images'])} images" in said
    run(block(PAGE, "fasa check --images"))


def test_its_profile_resolves_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    params = yaml.load((ROOT / "params.yaml").read_text())
    params |= yaml.load(block(PAGE, "mine:")) | dict(profiles=["mine"])
    params["run"]["rows"] = params["repro"] = ["mask_rcnn", "mask_rcnn_fasa"]
    with open(tmp_path / "params.yaml", "w") as file:
        YAML().dump(params, file)
    names = {stage.name for stage in stages(read_params(tmp_path / "params.yaml"))}
    assert {"data@mine", "train@mine-mask_rcnn_fasa-0", "evaluate@mine-mask_rcnn-0"} <= names
    assert names_stages(block(PAGE, "fasa run data@mine"), names)


def test_its_set_of_images_is_classified(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["classification"]["sets"] |= yaml.load(block(PAGE, "classification:"))["classification"]["sets"]
    params["classify"] = dict(sets=["birds"], rows=["ce", "ce_fasa"], seeds=[0])
    with open(tmp_path / "params.yaml", "w") as file:
        YAML().dump(params, file)
    names = {stage.name for stage in stages(read_params(tmp_path / "params.yaml"))}
    assert {"images@birds", "classify@birds-ce_fasa-0"} <= names
