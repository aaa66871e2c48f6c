"""The pipeline drawn for the index notebook, from a small one of the real DVC."""

import json

import pytest

from fasa.errors import UserError
from fasa.pipeline import index
from fasa.pipeline.graph import Graph


@pytest.fixture
def project(repository, monkeypatch):
    """Data, two trainings that read it, a table of both and of the data, and a study in a file of its own."""
    out = "touch "
    train = dict(matrix=dict(row=["a", "b"]), cmd=f"{out}${{item.row}}", deps=["data"], outs=["${item.row}"])
    repository.stages(
        data=dict(cmd=f"{out}data", outs=["data"]),
        train=train,
        table=dict(cmd=f"{out}table", deps=["a", "b", "data"], outs=["table"]),
    )
    study = dict(wdir="..", cmd=f"{out}study", deps=["data"], outs=["study"])
    repository.write("tuning/dvc.yaml", json.dumps(dict(stages=dict(candidate=study))))
    repository.write("notebooks/05_train.ipynb", notebook("# Train\n\nFrom data. And more.\n"))
    repository.write("notebooks/00_index.ipynb", notebook("# Index\n"))
    monkeypatch.chdir(repository.folder)
    return repository


def notebook(text):
    cell = dict(cell_type="markdown", id="a", metadata={}, source=text)
    return json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5))


def test_families_are_nodes_with_their_states_and_no_way_is_told_twice(project):
    assert project.call("dvc", "repro", "train@a").returncode == 0
    graph = Graph()
    counted = index.counts(graph)
    said = {name: index.said(n) for name, n in counted.items()}
    assert said == dict(
        data="current", train="1 current, 1 missing", table="1 missing", candidate="1 missing"
    )
    arrows = index.edges(graph)
    assert sorted(arrows) == [("data", "candidate"), ("data", "train"), ("train", "table")]
    text = index.drawing(counted, arrows)
    assert (
        '  train["<b>train</b><br>1 current, 1 missing"]:::missing\n' in text and "  data --> train\n" in text
    )


def test_each_notebook_has_a_line_and_a_link(project):
    counted = index.counts(Graph())
    with pytest.raises(UserError, match="not been planned yet. In a terminal: dvc repro plan"):
        index.table(counted)
    project.write("build/jobs/train@a.json", json.dumps(dict(notebook="05_train")))
    *_, first, second = index.table(counted).splitlines()
    assert first == "| [00_index](00_index.ipynb) | **Index** | by hand |"
    assert second == "| [05_train](05_train.ipynb) | **Train**. From data. | train: 2 missing |"
