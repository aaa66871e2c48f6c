import json
from pathlib import Path

import pytest

from fasa import notebook
from fasa.errors import UserError


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    """A repository's bare bones, entered as JupyterLab does: from the notebook's folder."""
    for name in ("DVC_STAGE", "FASA_WORK_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    notebook.start()
    return tmp_path


def test_interactive_work_stays_in_scratch(repository):
    path = notebook.output("results/a/metrics.json")
    path.write_text("{}")
    work = notebook.work_dir("seed-0")
    work.joinpath("checkpoint").write_text("")
    files = {file.relative_to(repository) for file in repository.rglob("*") if file.is_file()}
    assert files - {work / "checkpoint"} == {
        Path("dvc.yaml"),
        Path("scratch/results/a/metrics.json"),
    }
    assert work.parts[0] == "scratch"


def test_interactive_work_is_not_taken_up_by_the_next_run():
    assert notebook.work_dir() != notebook.work_dir()


def test_under_dvc_outputs_are_where_dvc_expects_them(repository, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setenv("FASA_WORK_DIR", str(repository / "kept"))
    notebook.output("results/metrics.json").write_text("{}")
    assert (repository / "results" / "metrics.json").exists()
    assert notebook.work_dir("seed-0") == repository / "kept" / "seed-0"


def test_start_outside_a_repository_says_so(monkeypatch):
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="no dvc.yaml"):
        notebook.start()


def test_the_job_of_a_stage_can_be_looked_at(repository):
    jobs = repository / "build" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "data@small.json").write_text(json.dumps(dict(stage="data@small", settings=dict(size=9))))
    assert notebook.job("data@small") == {"size": 9}
    with pytest.raises(UserError, match="data@large.json: no such job; run: dvc repro plan"):
        notebook.job("data@large")
    (jobs / "data@small.json").write_text("{")
    with pytest.raises(UserError, match="cut off or not JSON"):
        notebook.job("data@small")
