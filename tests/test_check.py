"""What ``python -m fasa.check`` reports, and its exit status."""

import shutil
from importlib.metadata import PackageNotFoundError

import mmcv.ops
import pytest
import torch

from fasa import check
from fasa.check import Row


@pytest.fixture
def glyphs(tiny_glyphs, tmp_path):
    return shutil.copytree(tiny_glyphs, tmp_path / "glyphs")


def test_complete_data(glyphs):
    assert check.glyphs(glyphs) == Row(True, "glyphs", "ready, images: train 12, adapt 6, val 6")


def test_data_not_made_yet_is_fine(tmp_path):
    fine, _, text = check.glyphs(tmp_path / "glyphs")
    assert fine
    assert "make repro" in text


def test_a_missing_part_is_named(glyphs):
    path = glyphs / "annotations/adapt.json"
    path.unlink()
    assert check.glyphs(glyphs)[::2] == (False, f"{path}: no such file; run: dvc repro data")


@pytest.mark.parametrize("content", ["", '{"images": [', '{"annotations": []}', "[]", "\xff"])
def test_a_damaged_part_is_named(glyphs, content):
    path = glyphs / "annotations/val.json"
    path.write_bytes(content.encode("latin-1"))
    fine, _, text = check.glyphs(glyphs)
    assert not fine
    assert text.startswith(f"{path}: ")
    assert "\n" not in text


def test_missing_images_are_counted_and_the_first_is_named(glyphs):
    for number in (2, 3):
        (glyphs / f"train/00000{number}.png").unlink()
    fine, _, text = check.glyphs(glyphs)
    assert not fine
    assert text.startswith(f"{glyphs / 'train/000002.png'}: missing, with 1 other images")


def test_a_missing_package_is_named(monkeypatch):
    def version(name: str) -> str:
        if name == "lvis":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(check, "version", version)
    rows = list(check.packages())
    assert [row.name for row in rows if not row.fine] == ["lvis"]
    assert {row.text for row in rows if row.fine and row.name != "Python"} == {"1.0"}


def test_ops_run_on_every_device_here():
    assert {device: check.ops_error(device) for device in check.devices()} == dict.fromkeys(check.devices())


def test_ops_that_raise_are_reported_in_one_line(monkeypatch):
    def nms(*_):
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(mmcv.ops, "nms", nms)
    assert check.ops_error("cpu") == "RuntimeError: no kernel image"
    assert [row.fine for row in check.ops()] == [False] * len(check.devices())


def test_ops_that_return_wrong_values_are_reported(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mmcv.ops, "nms", lambda boxes, *_: (boxes, torch.arange(3)))
        assert check.ops_error("cpu") == "nms kept the boxes [0, 1, 2] instead of [0, 2]"
    monkeypatch.setattr(mmcv.ops, "RoIAlign", lambda **_: lambda maps, _: 2 * maps[..., :2, :2])
    assert check.ops_error("cpu") == "RoIAlign returned wrong values"


@pytest.mark.parametrize("fine", [True, False])
def test_exit_status_and_mark(monkeypatch, capsys, fine):
    monkeypatch.setattr(check, "glyphs", lambda: Row(fine, "glyphs", "as reported"))
    assert check.main() == (0 if fine else 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{' ' if fine else '!'} glyphs        as reported"
    assert [line for line in lines if not line.startswith((" ", "!"))] == [
        title for title, _ in check.report()
    ]
