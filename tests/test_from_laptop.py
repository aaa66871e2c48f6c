"""docs/from-laptop-to-lvis.md: what asks for GPUs, LVIS or several hosts is checked up to there."""

import re
import shlex

import pytest
from pages import ROOT, block, names_stages
from ruamel.yaml import YAML

from fasa.params import read_params
from fasa.pipeline import plan

PAGE = "docs/from-laptop-to-lvis.md"
yaml = YAML(typ="safe", pure=True)


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """The names of all stages where lvis and smoke run too, with what a block changes of params.yaml."""
    monkeypatch.chdir(ROOT)

    def names(changes=""):
        params = yaml.load((ROOT / "params.yaml").read_text())
        for profile, section in (yaml.load(changes) or {}).items():
            params[profile] |= section
        params["profiles"] = ["embedded", "lvis", "smoke"]
        with open(tmp_path / "params.yaml", "w") as file:
            YAML().dump(params, file)
        return {stage.name for stage in plan.stages(read_params(tmp_path / "params.yaml"))}

    return names


def test_set_up_takes_what_it_is_told():
    told = re.findall(r"([A-Z_]{5,})=", block(PAGE, "FORCE_CUDA=1"))
    assert told == ["FORCE_CUDA", "TORCH_CUDA_ARCH_LIST"]
    assert all(name in (ROOT / "setup.sh").read_text() for name in told)


def test_its_patterns_name_stages(stages):
    for commands in (
        block(PAGE, "fasa run data@lvis"),
        block(PAGE, "fasa run 'evaluate@smoke-mask_rcnn-0'"),
        block(PAGE, "# two rows of one seed"),
        block(PAGE, "# Slurm, from an allocation"),
    ):
        assert names_stages(commands, stages()), commands


def test_its_settings_are_settings(stages):
    assert "train@lvis-mask_rcnn-0" in stages(block(PAGE, "lvis:"))
    assert "train@smoke-mask_rcnn-0" in stages(block(PAGE, "smoke:"))


def test_it_says_what_it_will_take(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for line in block(PAGE, "fasa plan --profile lvis").splitlines():
        assert plan.main(line.partition("#")[0].split()[2:]) == 0
    assert "GPU" in capsys.readouterr().out


def test_another_set_is_classified(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    first, last = block(PAGE, "dvc exp run -S 'classify.sets=").splitlines()
    *_, change, target = shlex.split(first)
    key, _, value = change.partition("=")
    section, name = key.split(".")
    params = yaml.load((ROOT / "params.yaml").read_text())
    params[section][name] = yaml.load(value)
    with open(tmp_path / "params.yaml", "w") as file:
        YAML().dump(params, file)
    names = {stage.name for stage in plan.stages(read_params(tmp_path / "params.yaml"))}
    folder = {name.replace("@cifar100-", "@cifar100_folder-") for name in names}
    assert names_stages(block(PAGE, "fasa run 'classify@cifar100_folder-ce-*'"), folder)
    assert any(one.startswith(f"{target}@cifar100-") for one in names) and names_stages(last, names)
