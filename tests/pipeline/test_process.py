"""Processes that end with their parent, folders that end with their process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fasa.errors import UserError
from fasa.pipeline.process import pool, sole_owner, temporary_folder

ROOM = 1000  # bytes


def test_a_pool_computes_in_another_process():
    with pool(1) as processes:
        assert processes.submit(os.getpid).result() != os.getpid()


POOL = """
import os, time
from fasa.pipeline.process import pool
if __name__ == "__main__":
    with pool(1) as processes:
        print(processes.submit(os.getpid).result(), flush=True)
        processes.submit(time.sleep, 100).result()
"""


def test_after_a_kill_no_worker_of_a_pool_lives_on(tmp_path):
    (tmp_path / "program.py").write_text(POOL)
    env = os.environ | dict(PYTHONPATH=str(Path(__file__).parents[2]))
    process = psutil.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, env=env)
    worker = int(process.stdout.readline())
    children = process.children(recursive=True)
    assert worker in [child.pid for child in children]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_a_temporary_folder_is_removed_and_what_a_killed_process_left_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = f"""
import os, signal
from fasa.pipeline.process import temporary_folder
with temporary_folder({ROOM}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | dict(TMPDIR=str(tmp_path)))
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("fasa-")
    with temporary_folder(ROOM) as first, temporary_folder(ROOM) as second:
        assert set(tmp_path.iterdir()) == {first, second}  # one that is in use stays
    assert not list(tmp_path.iterdir())


def test_a_folder_for_sockets_lies_elsewhere_when_its_path_would_be_too_long(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with temporary_folder(ROOM) as folder:
        assert folder.parent == long
    with temporary_folder(80) as folder:
        assert len(bytes(folder)) <= 80 and folder.parent in (Path("/tmp"), Path("/dev/shm"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as info, sole_owner(tmp_path / "file" / "folder"):
        pass
    assert str(tmp_path / "file") in str(info.value)
    assert "a file lies where a folder should be" in str(info.value)
