import json
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

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
    notebook.output("results/a/metrics.json").write_text("{}")
    files = {file.relative_to(repository) for file in repository.rglob("*") if file.is_file()}
    assert files == {Path("dvc.yaml"), Path("scratch/results/a/metrics.json")}


def test_by_hand_what_the_pipeline_has_left_is_read(repository, monkeypatch):
    jobs = repository / "build" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "data@small.json").write_text(json.dumps(dict(settings={})))
    notebook.job("data@small")
    with pytest.raises(
        UserError, match=r"^results/a.json is not here yet: .*: fasa run --here 'data@small'$"
    ):
        notebook.made("results/a.json")
    notebook.output("results/a.json").write_text("by hand")  # is not what the pipeline has left
    (repository / "results").mkdir()
    (repository / "results" / "a.json").write_text("of the pipeline")
    assert not notebook.under_pipeline() and notebook.made("results/a.json").read_text() == "of the pipeline"
    monkeypatch.setenv("FASA_WORK_DIR", str(repository / "kept"))  # the runner, started by hand
    assert notebook.under_pipeline() and notebook.made("results/a.json").read_text() == "by hand"
    (repository / "results" / "b.json").write_text("an input")
    assert notebook.made("results/b.json").read_text() == "an input"
    monkeypatch.setenv("DVC_STAGE", "data@small")
    assert notebook.made("results/a.json").read_text() == "of the pipeline"


def test_by_hand_a_users_error_is_its_line_and_ends_the_run(capsys, monkeypatch):
    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    notebook.start()
    done = shell.run_cell("from fasa.errors import UserError\nraise UserError('not here yet')")
    assert capsys.readouterr().out == "not here yet\n" and not done.success
    shell.run_cell("1 / 0")
    assert "Traceback" in capsys.readouterr().out


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
