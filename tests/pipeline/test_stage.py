import hashlib

import pytest

from fasa.errors import UserError
from fasa.pipeline.project import lift, load_params, parse_yaml, root
from fasa.pipeline.stage import Inputs, changes, read_inputs, variables


@pytest.fixture(autouse=True)
def inside(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    for name, value in repository.env.items():
        monkeypatch.setenv(name, value)


def test_yaml_is_read_as_dvc_reads_it():
    assert parse_yaml("1e-3") == 0.001
    assert parse_yaml("no") == "no"
    assert parse_yaml("false") is False


def test_lift_puts_the_profile_over_the_rest():
    assert lift({"a": 1, "p": {"b": 2}, "q": {"b": 3}}, "p") == {"a": 1, "b": 2, "q": {"b": 3}}
    assert lift({"a": 1}, "p") == {"a": 1}


def test_root_is_found_from_below(repository, monkeypatch):
    (repository.folder / "notebooks").mkdir()
    monkeypatch.chdir("notebooks")
    assert root() == repository.folder
    assert load_params()["data"] == {"classes": 40}


def test_a_profile_without_a_section_is_refused(repository):
    repository.write("params.yaml", "profile: huge\nembedded: {}\n")
    with pytest.raises(UserError, match="profile is 'huge', but there is no section"):
        load_params()


def test_broken_params_are_one_line(repository):
    repository.write("params.yaml", "profile: [\n")
    with pytest.raises(UserError, match="params.yaml") as error:
        load_params()
    assert "\n" not in str(error.value)


def test_inputs_are_what_the_stage_declares(repository):
    repository.write("code.py", "x = 1\n")
    stage = {"cmd": "true", "deps": ["code.py"], "params": ["seeds", "${profile}.rows.${item}"]}
    repository.stages(train={"foreach": ["plain", "fasa"], "do": stage})
    before = read_inputs("train@fasa")
    assert before.files == {"code.py": hashlib.md5(b"x = 1\n").hexdigest()}
    assert before.params == {"seeds": [0, 1], "embedded.rows.fasa": {"lr": 0.02}}
    assert variables(before.params) == {
        "profile": "embedded",
        "seeds": [0, 1],
        "rows": {"fasa": {"lr": 0.02}},
    }
    repository.write("code.py", "x = 2\n")
    assert changes(before, read_inputs("train@fasa")) == ["code.py"]
    with pytest.raises(UserError, match="train@none"):
        read_inputs("train@none")


def test_changes_see_new_and_lost_names():
    before = Inputs({"a": "1", "b": "2"}, {"lr": 0.1, "seed": 0})
    assert changes(before, before) == []
    assert changes(before, Inputs({"b": "2", "c": "3"}, {"lr": 0.2, "seed": 0})) == ["a", "c", "lr"]


def test_a_stage_may_declare_the_whole_profile():
    assert variables({"embedded": {"data": 1}}) == {"data": 1, "profile": "embedded"}
    assert variables({"embedded.data.size": 1, "embedded.data.seed": 2})["data"] == {"seed": 2, "size": 1}
