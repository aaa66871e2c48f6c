"""Notebooks on a machine that has little to offer."""

import json

import pytest

from fasa.errors import UserError
from fasa.pipeline.execute import execute
from fasa.pipeline.strip import METADATA

NOTEBOOK = dict(
    cells=[
        dict(
            cell_type="code", execution_count=None, id="a", metadata={}, outputs=[], source=["print(6 * x)"]
        ),
    ],
    metadata=METADATA,
    nbformat=4,
    nbformat_minor=5,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """What `execute` changes is put back."""
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "FASA_WORK_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    done = execute(NOTEBOOK, dict(x=7), tmp_path / "n.ipynb", partial=tmp_path / "partial.ipynb")
    assert done["cells"][-1]["outputs"][0]["text"] == "42\n"
    assert not list(long.iterdir())


def test_a_disk_that_is_full_is_one_line_that_names_the_file(tmp_path):
    partial = tmp_path / "partial.ipynb"
    partial.symlink_to("/dev/full")
    with pytest.raises(UserError) as info:
        execute(NOTEBOOK, dict(x=7), tmp_path / "n.ipynb", partial)
    assert str(info.value) == f"{partial}: No space left on device; free some space and run this again"


def test_a_cell_that_finds_the_disk_full_is_one_line(tmp_path):
    full = json.loads(json.dumps(NOTEBOOK))
    full["cells"][0]["source"] = ["open('/dev/full', 'w').write('x' * 100_000)"]
    with pytest.raises(UserError) as info:
        execute(full, dict(x=7), tmp_path / "n.ipynb", partial=tmp_path / "partial.ipynb")
    assert "No space left on device" in str(info.value) and "\n" not in str(info.value)
