"""What ``python -m fasa.check`` reports, and its exit status."""

import os
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import mmcv.ops
import pytest
import torch

from fasa import check
from fasa.check import Row
from fasa.data.pictures import Picture, write_manifest


@pytest.fixture
def glyphs(tiny_glyphs, tmp_path):
    return shutil.copytree(tiny_glyphs, tmp_path / "data" / "glyphs")


@pytest.mark.parametrize("amx, pays", [(True, "yes"), (False, "no")])
def test_a_cpu_says_whether_bfloat16_pays(monkeypatch, amx, pays):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: dict(cpu_name="One", avx512_bf16=True, amx_bf16=amx)
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert check.describe("cpu") == f"One, 2 threads, bfloat16 pays: {pays}"


def test_complete_data(glyphs):
    text = "glyphs, ready, images: train 12, adapt 6, val 6, tune 6"
    assert check.data_set(glyphs) == check.data_set(glyphs, images=True) == Row(True, "glyphs", text)


def test_data_sets_are_found(glyphs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [row.name for row in check.data_sets([])] == ["glyphs"]
    assert [row.fine for row in check.data_sets([Path("data/glyphs"), Path("data")])] == [True, False]


def test_data_sets_are_found_from_any_folder_of_the_repository(glyphs, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path / "docs")
    assert glyphs.name in {row.name for row in check.data_sets([])}


def test_data_not_made_yet_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((fine, _, text),) = check.data_sets([])
    assert fine
    assert "make repro" in text


@pytest.mark.parametrize("part", ["adapt", "tune"])
def test_a_missing_part_is_named(glyphs, part):
    path = glyphs / f"annotations/{part}.json"
    path.unlink()
    assert check.data_set(glyphs)[::2] == (False, f"{path}: no such file; run: dvc repro -fs data@NAME")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"kind": 1}', '{"kind": "glyphs", "images": "."}', "\xff"]
)
def test_a_folder_that_is_none_is_named(glyphs, content):
    (glyphs / "source.json").write_bytes(content.encode("latin-1"))
    fine, _, text = check.data_set(glyphs)
    assert not fine and "\n" not in text
    assert text.startswith(f"{glyphs / 'source.json'}: does not describe a prepared data set (")


@pytest.mark.parametrize("content", ["", '{"images": [', '{"annotations": []}', "[]", "\xff"])
def test_a_damaged_part_is_named(glyphs, content):
    path = glyphs / "annotations/val.json"
    path.write_bytes(content.encode("latin-1"))
    fine, _, text = check.data_set(glyphs)
    assert not fine
    assert text.startswith(f"{path}: ")
    assert "\n" not in text


def test_missing_images_are_counted_and_the_first_is_named(glyphs):
    for number in (2, 3):
        (glyphs / f"train/00000{number}.png").unlink()
    fine, _, text = check.data_set(glyphs)
    assert not fine
    assert text.startswith(f"{glyphs / 'train/000002.png'}: missing, with 1 other images")


def test_images_that_are_cut_off_are_found_when_they_are_read(glyphs):
    for number in (2, 3):
        path = glyphs / f"val/00000{number}.png"
        path.write_bytes(path.read_bytes()[:-200])
    assert check.data_set(glyphs).fine
    fine, _, text = check.data_set(glyphs, images=True)
    assert not fine and "\n" not in text
    assert text.startswith(f"{glyphs / 'val/000002.png'}: cannot be read as an image")
    assert text.endswith("with 1 others")


def test_images_that_changed_since_are_named(glyphs):
    pictures = [Picture(f"val/00000{i}.png", *sizes(glyphs / f"val/00000{i}.png")) for i in (1, 2)]
    write_manifest(glyphs / "images.tsv", pictures)
    assert check.data_set(glyphs).fine
    os.utime(glyphs / "val/000002.png", (0, 0))
    assert check.data_set(glyphs).text.startswith(f"{glyphs / 'val/000002.png'}: has changed since")

    for content in ("a\n", "a\tb\tc\n", "val/none.png\t1\t2\n", "\udcff\t1\t2\n"):
        (glyphs / "images.tsv").write_bytes(content.encode("utf-8", "surrogateescape"))
        fine, _, text = check.data_set(glyphs)
        assert not fine and "\n" not in text and ("is damaged (" in text or "none.png: No such file" in text)


def sizes(path):
    return path.stat().st_size, path.stat().st_mtime_ns


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
    monkeypatch.setattr(check, "data_set", lambda *_: Row(fine, "glyphs", "as reported"))
    assert check.main(["some/glyphs"]) == (0 if fine else 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{' ' if fine else '!'} glyphs        as reported"
    assert [line for line in lines if not line.startswith((" ", "!"))] == [
        title for title, _ in check.report()
    ]


@pytest.mark.parametrize("name", ["val.lines", "val.npz"])
def test_a_compact_form_that_is_cut_is_named(glyphs, name):
    path = glyphs / "annotations" / name
    path.write_bytes(path.read_bytes()[:-50])
    fine, _, text = check.data_set(glyphs)
    assert not fine and text.startswith(f"{glyphs / 'annotations' / 'val.json'}: ") and "\n" not in text
