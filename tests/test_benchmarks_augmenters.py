"""The loops that methods are timed against compute the same, and the benchmark finds out if they do not."""

from argparse import Namespace

import pytest
import torch

import fasa
from benchmarks.augmenters import loops, run

SIZES = Namespace(classes=12, width=16, positives=40, repeats=3)
OPTIONS = ["--classes", "12", "--width", "16", "--positives", "40", "--repeats", "3", "--no-iteration"]
CLOSE = dict(rtol=1e-7, atol=1e-7, equal_nan=True, check_dtype=False)  # FASA's weights are float32
FEW = {name: run.CONTENDERS[name] for name in ("FASA", "AngularTransfer")}


def test_every_method_has_a_loop():
    contenders = {contender.ours.__name__ for contender in run.CONTENDERS.values()}
    assert contenders | {"ReleasedFASA"} == fasa.methods().keys()  # whose step is FASA's


@pytest.mark.parametrize("name", run.CONTENDERS)
def test_loop_equals_method_in_all_it_returns_and_in_its_state(name):
    contender = run.CONTENDERS[name]
    ours, loop, head = run.prepare(contender, SIZES, torch.float64)
    assert type(ours) is contender.ours is not type(loop)
    for seed in range(3):
        batch = run.draw(SIZES, seed, ours.needs_maps, torch.float64, contender.distinct)
        (expected, virtual), (found, _) = (run.step(one, head, batch) for one in (ours, loop))
        assert (len(virtual.labels) > 0) == (name != "AngularTransfer")
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, **CLOSE)
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(loop.state_dict()[key], value, **CLOSE)


def test_batches_are_of_the_documented_shape():
    batch = run.draw(Namespace(classes=300, width=8, positives=400), 0, False, torch.float32)
    positive = batch.labels[: batch.positives]
    assert batch.z.shape == (1600, 8) and batch.positives == 400
    assert (batch.labels[400:] == 300).all() and (positive < 300).all()
    assert 30 < len(positive.unique()) < 120  # siblings
    assert (positive < 30).sum() > 200  # a long tail


def test_prints_and_writes_a_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "CONTENDERS", FEW)
    threads = ["--threads", str(torch.get_num_threads())]
    assert run.main([*OPTIONS, *threads, "--out", str(tmp_path / "table.md")]) == 0
    text = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == [f"| {name}" for name in FEW]
    assert "All agree" in text and "12, D = 16, 40 positives" in text


def test_a_loop_that_differs_does_not_pass(monkeypatch):
    class Wrong(loops.FASALoop):
        def observe(self, z, labels, maps=None, head=None):
            super().observe(z * (1 + 1e-4), labels)

    Wrong.__module__ = loops.__name__  # or it would be taken for the method
    monkeypatch.setattr(run, "CONTENDERS", {"FASA": run.Contender(Wrong)})
    assert run.main([*OPTIONS, "--threads", str(torch.get_num_threads())]) == 1


def test_ratio_is_of_medians():
    found = dict(ours=[1.0, 2.0, 9.0], loop=[30.0, 50.0, 40.0], scoring=[0.5] * 3, virtual=[7, 7, 7])
    line, ratio = run.row("X", found, 2e-16)
    assert ratio == 20
    cells = ["X", "2.00 (1.50 to 5.50)", "40.0 (35.0 to 45.0)", "20x", "7", "0.50 (0.50 to 0.50)", "2e-16"]
    assert line == f"| {' | '.join(cells)} |"
