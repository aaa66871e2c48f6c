from pathlib import Path

import pytest
import torch

from benchmarks.precision import run

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tiny_glyphs, tmp_path, monkeypatch):
    """A folder with configs, params and the data of the profile `tiny`."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(tiny_glyphs)
    for name in ("configs", "params.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


def test_prints_a_line_for_detector_and_classifier(checkout, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(run, "ROUNDS", 1)
    out = tmp_path / "table.md"
    assert run.main(f"--profile tiny --iterations 2 --steps 2 --out {out}".split()) == 0
    text = capsys.readouterr().out
    assert out.read_text() == text and "amx_bf16 " in text
    *_, header, _, detector, classifier = text.splitlines()
    assert header == "| ms | float32 | bfloat16 | faster |"
    assert detector.startswith("| an iteration of `mask_rcnn_rfs_fasa`, `tiny` |")
    for line in (detector, classifier):
        exact, coarse, ratio = (float(cell.split()[0].replace(",", "")) for cell in line.split("|")[2:5])
        assert ratio == pytest.approx(exact / coarse, rel=0.02)


def test_both_precisions_learn_the_same(monkeypatch):
    losses = {}

    def kept(work, *args):
        result = work(*args)
        losses.setdefault(work.__self__.amp, []).append(result["loss"].item())
        return 1.0, result

    monkeypatch.setattr(run, "timed", kept)
    assert run.classifier(2, 1) == dict(float32=[1.0, 1.0], bfloat16=[1.0, 1.0])
    assert losses[True] != losses[False] and losses[True] == pytest.approx(losses[False], rel=0.02)
    assert torch.get_num_threads() == 1
