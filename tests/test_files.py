"""Files written whole or not at all, whatever happens meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fasa.errors import UserError
from fasa.files import check_replaceable, replacing


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path, "w") as file:
        file.write("earlier")
    with pytest.raises(ZeroDivisionError), replacing(path, "w") as file:
        file.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "earlier" and os.listdir(path.parent) == ["a.txt"]


KILLED = """
import os, signal, sys
from fasa.files import replacing
with replacing(sys.argv[1], "w") as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_leaves_is_gone_when_the_file_is_written_next(tmp_path):
    path = tmp_path / "a[1].txt"
    path.write_text("earlier")
    subprocess.run([sys.executable, "-c", KILLED, str(path)])
    (left,) = set(tmp_path.iterdir()) - {path}
    assert path.read_text() == "earlier" and left.name.endswith(".part")
    other = tmp_path / f".a[1].txt.{os.getppid()}.part"  # of a process that lives
    other.touch()
    with replacing(path, "w") as file:
        file.write("later")
    assert path.read_text() == "later" and set(tmp_path.iterdir()) == {path, other}


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full", "/tmp"])
def test_devices_and_folders_are_not_replaced(name):
    with pytest.raises(UserError, match=f"{name}: is not a regular file"), replacing(name):
        pass
    assert not Path(name).is_file()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to("target")
    with replacing(tmp_path / "link", "w") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "x"


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "a").touch()
    with (
        pytest.raises(UserError, match="a file lies where a folder should be"),
        replacing(tmp_path / "a" / "b"),
    ):
        pass


def test_where_nothing_can_be_written_is_known_before(tmp_path):
    assert check_replaceable(tmp_path / "new" / "a.txt") == (tmp_path / "new" / "a.txt").resolve()
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="is not a regular file"):
        check_replaceable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file lies where a folder should be"):
        check_replaceable(tmp_path / "file" / "a.txt")
