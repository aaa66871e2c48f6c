"""Files of DVC that a kill has cut, at every length: found, and put right."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from fasa.errors import UserError
from fasa.pipeline.mend import _mend_rwlock, mend, was_cut

ENTRY = """  {name}:
    cmd: touch {name}
    outs:
    - path: {name}
      hash: md5
      md5: d41d8
      size: 0
"""
NAMES = ["plan@tiny", "train@tiny-a-0", "train@tiny-b-0", "table"]


def lock_text(names):
    return "schema: '2.0'\nstages:\n" + "".join(ENTRY.format(name=name) for name in names)


@pytest.fixture
def project(repository, monkeypatch):
    """A project whose dvc.lock was seen whole."""
    repository.stages(**{name: dict(cmd=f"touch {name}", outs=[name]) for name in ("plan", "table")})
    repository.write("dvc.lock", lock_text(NAMES))
    monkeypatch.chdir(repository.folder)
    assert mend() == []
    return repository


@pytest.mark.parametrize("names", [NAMES, NAMES + ["new"]], ids=["known", "grown"])
def test_a_lock_cut_at_any_length_is_seen_while_a_stage_that_was_known_is_lost(names):
    whole, before = lock_text(names).encode(), lock_text(NAMES).encode()
    for length in range(len(whole)):
        cut = whole[:length]
        try:
            left = (yaml.safe_load(cut) or {}).get("stages") or {}
        except (yaml.YAMLError, AttributeError):
            left = {}
        if not set(NAMES) <= set(left):  # otherwise no stage is lost, and DVC runs again what is not whole
            assert was_cut(cut, before), cut.decode()[-40:]
    assert not was_cut(whole, before) and not was_cut(before, before)


def test_a_cut_lock_is_put_back_and_what_was_there_is_kept(project):
    cut = lock_text(NAMES[:2])
    project.write("dvc.lock", cut)
    (line,) = mend()
    assert line.startswith("dvc.lock was cut short by a kill, 2 of 4 stages left: put back as of ")
    assert (project.folder / "dvc.lock").read_text() == lock_text(NAMES)
    assert (project.folder / ".fasa" / "dvc.cut").read_text() == cut
    assert mend() == []


def test_an_empty_lock_is_put_back_though_git_stores_an_empty_file(project):
    project.write("__init__.py", "")
    commit(project)
    project.write("dvc.lock", "")
    (line,) = mend()
    assert line.startswith("dvc.lock was cut short by a kill, 0 of 4 stages left: put back as of ")
    assert (project.folder / "dvc.lock").read_text() == lock_text(NAMES)


def test_before_anything_was_seen_whole_the_last_commit_counts(project):
    commit(project)
    (project.folder / ".fasa" / "dvc.lock").unlink()
    project.write("dvc.lock", "")
    assert mend()[0].startswith(
        "dvc.lock was cut short by a kill, 0 of 4 stages left: put back as of the last commit"
    )
    assert (project.folder / "dvc.lock").read_text() == lock_text(NAMES)


def test_a_shorter_lock_that_is_meant_stays(project):
    shorter = lock_text(NAMES[:2])
    project.write("dvc.lock", shorter)
    commit(project)  # of a commit, such as git checkout brings
    assert mend() == [] and (project.folder / "dvc.lock").read_text() == shorter

    project.write("dvc.lock", lock_text(NAMES))
    assert mend() == []
    project.write("dvc.lock", lock_text(NAMES[1:]))  # what a kill cuts is the end
    assert mend() == [] and (project.folder / "dvc.lock").read_text() == lock_text(NAMES[1:])

    project.write("dvc.lock", lock_text(NAMES))
    assert mend() == []
    (project.folder / "dvc.lock").unlink()  # to run all anew
    assert mend() == []
    project.write("dvc.lock", lock_text(NAMES[:1]))
    assert mend() == [] and (project.folder / "dvc.lock").read_text() == lock_text(NAMES[:1])


def commit(project):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "add", "dvc.lock"], cwd=project.folder, check=True)
    subprocess.run([*git, "commit", "-qm", "lock"], cwd=project.folder, check=True)


def test_an_rwlock_cut_at_any_length_no_longer_blocks(project):
    rwlock = project.folder / ".dvc/tmp/rwlock"
    whole = json.dumps(
        {"write": {"/a": {"pid": 1, "cmd": "dvc repro"}}, "read": {"/b": [{"pid": 2, "cmd": "x"}]}}
    )
    for length in range(len(whole)):
        rwlock.write_text(whole[:length])
        assert _mend_rwlock(rwlock)
        assert json.loads(rwlock.read_text()) == {"write": {}, "read": {}}
        assert not _mend_rwlock(rwlock)


def test_an_rwlock_keeps_a_living_dvc_and_forgets_others_that_have_its_number(project):
    dvc = subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE)
    alive = {"pid": dvc.pid, "cmd": "dvc repro train"}
    gone = {"pid": os.getppid(), "cmd": "dvc repro table"}  # a living process, but no dvc
    content = {"write": {"/a": alive, "/b": gone}, "read": {"/c": [alive, gone], "/d": [gone]}}
    rwlock = project.write(".dvc/tmp/rwlock", json.dumps(content))
    mend()
    held = json.loads(rwlock.read_text())
    dvc.communicate(b"\n")
    assert held == {"write": {"/a": alive}, "read": {"/c": [alive]}}


def test_a_run_after_a_kill_in_both_files_goes_on(repository):
    repository.stages(
        **{name: dict(cmd=f"echo {name} > {name}", deps=["in"], outs=[name]) for name in ("a", "b", "c")}
    )
    repository.write("in", "")
    run = (sys.executable, "-m", "fasa", "run")
    assert repository.call(*run).returncode == 0
    lock = (repository.folder / "dvc.lock").read_text()
    last = max(lock.index(f"\n  {name}:") for name in "abc")  # side by side they end in any order
    repository.write("dvc.lock", lock[: last + 1])
    repository.write(".dvc/tmp/rwlock", '{"write": {"')
    assert "Unable to read RWLock-file" in repository.call("dvc", "repro").stderr  # today's dvc by itself
    done = repository.call(*run)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, 3), done.stderr
    assert "rwlock" in lines[0] and "2 of 3 stages left" in lines[1]
    assert lines[2] == "nothing to do: 3 stages up to date"
    assert (repository.folder / "dvc.lock").read_text() == lock


def test_what_dvc_refuses_is_one_line(project):
    (project.folder / ".dvc" / "config").write_text("[core\n")
    with pytest.raises(UserError, match="config"):
        mend()
