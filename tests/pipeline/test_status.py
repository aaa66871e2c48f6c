"""What `fasa status` counts, in a small pipeline of which each stage is in another state."""

import re
from pathlib import Path

import pytest

from fasa import cli
from fasa.pipeline.status import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(repository, monkeypatch):
    """Two of a family, and one that needs both."""
    train = dict(
        matrix=dict(row=["a", "b"]), cmd="cat ${item.row}.in > ${item.row}.out", deps=["${item.row}.in"]
    )
    repository.stages(
        train=train | dict(outs=["${item.row}.out"]),
        table=dict(cmd="cat a.out b.out > table", deps=["a.out", "b.out"], outs=["table"]),
    )
    for name in ("a.in", "b.in"):
        repository.write(name, name)
    monkeypatch.chdir(repository.folder)
    return repository


def lines(capsys, *patterns):
    assert main(list(patterns)) == 0
    table, _, advice = capsys.readouterr().out.partition("\n\n")
    head, *rows = (line.split() for line in table.splitlines())
    assert head == ["current", "away", "stale", "missing", "waits"]
    assert {row.pop(2) for row in rows} == {"-"}  # away: tests of `fasa run` have a clone
    return rows, advice


def test_states_are_counted_by_family_and_the_command_that_does_the_rest_is_named(project, capsys):
    rows, advice = lines(capsys)
    assert sorted(rows) == [
        ["all", "-", "-", "3", "-"],
        ["table", "-", "-", "1", "-"],
        ["train", "-", "-", "2", "-"],
    ]
    assert advice.startswith("`fasa run` does the rest: 3 stages at most, how long is not known yet, ")

    assert project.call("dvc", "repro", "-q").returncode == 0
    rows, advice = lines(capsys)
    assert sorted(rows) == [
        ["all", "3", "-", "-", "-"],
        ["table", "1", "-", "-", "-"],
        ["train", "2", "-", "-", "-"],
    ]
    assert advice == ""

    project.write("a.in", "other")
    rows, advice = lines(capsys)
    assert sorted(rows) == [
        ["all", "1", "1", "-", "1"],
        ["table", "-", "-", "-", "1"],
        ["train", "1", "1", "-", "-"],
    ]
    (project.folder / "b.out").unlink()
    rows, advice = lines(capsys, "train@*")
    assert rows == [["train", "-", "1", "1", "-"], ["all", "-", "1", "1", "-"]]
    assert advice.startswith("`fasa run 'train@*'` does the rest: 2 stages at most, ")


def test_a_pattern_of_no_stage_is_one_line(project, capsys):
    assert main(["nothing"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: no stage of dvc.yaml is called 'nothing'; dvc stage list names them\n",
    )


@pytest.mark.parametrize("command", ["status", "run"])
def test_a_mistake_in_params_that_dvc_trips_over_is_one_line(project, capsys, command):
    """Text in place of a list: DVC, which reads the file first, ends in a traceback."""
    for name in ("params.yaml", "dvc.yaml"):
        text = (ROOT / name).read_text()
        project.write(
            name, re.sub(r"\nrun:(.*)\n  rows:.*\n", "\nrun:\n  rows: mask_rcnn\n  others:\n", text)
        )
    assert cli.main([command]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: params.yaml: run.") and err.count("\n") == 1
