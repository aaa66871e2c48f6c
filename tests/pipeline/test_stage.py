import hashlib
import json
from pathlib import Path

import pytest

from fasa.errors import UserError
from fasa.pipeline.project import executed, read_job, root
from fasa.pipeline.stage import changes, read_inputs, recorded


@pytest.fixture(autouse=True)
def inside(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    for name, value in repository.env.items():
        monkeypatch.setenv(name, value)


def test_root_is_found_from_below(repository, monkeypatch):
    (repository.folder / "notebooks").mkdir()
    monkeypatch.chdir("notebooks")
    assert root() == repository.folder


@pytest.mark.parametrize(
    ("stage", "path"),
    [
        ("data@tiny", "executed/tiny/data.ipynb"),
        ("warmup@tiny-0", "executed/tiny/warmup-0.ipynb"),
        ("train@tiny-mask_rcnn_fasa-0", "executed/tiny/train-mask_rcnn_fasa-0.ipynb"),
    ],
)
def test_executed_notebooks_lie_in_their_profiles_folder(stage, path):
    assert executed(stage) == Path(path)


def test_a_job_is_read_from_anywhere_inside(repository, monkeypatch):
    repository.write("build/jobs/data@tiny.json", json.dumps(dict(stage="data@tiny")))
    (repository.folder / "notebooks").mkdir()
    monkeypatch.chdir("notebooks")
    assert read_job("data@tiny") == dict(stage="data@tiny")


def test_inputs_are_what_the_stage_declares(repository):
    repository.write("code.py", "x = 1\n")
    repository.write("params.yaml", "rows: {plain: 1, fasa: 2}\n")
    stage = {"cmd": "true", "deps": ["code.py"]}
    repository.stages(train={"foreach": ["plain", "fasa"], "do": stage})
    before = read_inputs("train@fasa")
    assert before == {"code.py": hashlib.md5(b"x = 1\n").hexdigest()}
    repository.write("code.py", "x = 2\n")
    assert changes(before, read_inputs("train@fasa")) == ["code.py"]
    with pytest.raises(UserError, match="train@none"):
        read_inputs("train@none")


def test_changes_see_new_and_lost_names():
    before = {"a": "1", "b": "2"}
    assert changes(before, before) == []
    assert changes(before, {"b": "2", "c": "3"}) == ["a", "c"]


def test_the_job_that_a_stage_ran_with_comes_from_the_cache(repository):
    """As the plan's own output, which is cached."""
    repository.write("data.txt", "1")
    plan = "mkdir -p build/jobs && cp job.json build/jobs/train.json"
    repository.write("job.json", '{"settings": {"lr": 1}}')
    repository.stages(
        plan={"cmd": plan, "deps": ["job.json"], "outs": ["build"]},
        train={"cmd": "true", "deps": ["build/jobs/train.json", "data.txt"]},
    )
    with pytest.raises(UserError, match="train has not run yet"):
        recorded("train", [])
    assert repository.call("dvc", "repro").returncode == 0
    others = []
    assert recorded("train", others) == {"settings": {"lr": 1}} and others == []
    repository.write("job.json", '{"settings": {"lr": 2}}')
    repository.write("data.txt", "2")
    assert repository.call("dvc", "repro", "plan").returncode == 0
    assert recorded("train", others) == {"settings": {"lr": 1}} and others == ["data.txt: is another"]
    (kept,) = (
        path for path in Path(".dvc/cache").rglob("*") if path.is_file() and '"lr": 1' in path.read_text()
    )
    kept.chmod(0o644)
    kept.write_text('{"settings": ')  # cut short
    assert recorded("train", others) is None and "cannot be told" in others[-1]
