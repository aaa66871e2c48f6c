"""The losses that a training leaves, or writes at this moment."""

import os
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pytest

from fasa.errors import UserError
from fasa.report import training

TABLE = "iteration\tloss_cls\tloss\n50\t1.5\t3.0\n100\t1.0\t2.0\n"


@pytest.fixture
def table(tmp_path, monkeypatch):
    """What a stage keeps beside its work, under way: here the second warm-up of a row that has its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".fasa" / "train@tiny-a-0" / "0123" / "warmup" / "losses.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(TABLE)
    return path


def test_what_is_written_is_what_is_drawn(table):
    columns = training.read_losses(table)
    assert columns == dict(iteration=[50, 100], loss_cls=[1.5, 1], loss=[3, 2])
    both, parts = training.losses(columns, "a").axes
    assert both.lines[0].get_xydata().tolist() == [[50, 3], [100, 2]]
    assert {line.get_label(): list(line.get_ydata()) for line in parts.lines} == dict(loss_cls=[1.5, 1])
    table.write_text("iteration\n")  # of a warm-up that a profile has none of
    (axes,) = training.losses(training.read_losses(table), "a").axes
    assert axes.texts[0].get_text() == "a: nothing was trained"


def test_a_stage_under_way_is_told_from_one_that_has_ended(table):
    kept = Path("kept.tsv")
    assert training.under_way("train@tiny-a-0", kept) == table.relative_to(table.parents[4])
    assert training.under_way("train@tiny-a-1", kept) is None
    kept.touch()
    os.utime(table, (0, 0))  # given up, before one with other settings has ended
    assert training.under_way("train@tiny-a-0", kept) is None
    kept.unlink()
    with pytest.raises(
        UserError, match="train@tiny-a-1 has not trained here .*: fasa run --here 'train@tiny-a-1'"
    ):
        training.show_losses("train@tiny-a-1", "kept.tsv")


def test_what_the_adaptation_did_is_drawn_while_it_trains(table, monkeypatch):
    """Nothing before the first pass; then what lies beside the losses; afterwards what was kept."""
    drawn = []
    monkeypatch.setattr(
        training, "adaptation", lambda histories, frequency: drawn.append(histories[0]) or plt.figure()
    )
    monkeypatch.setattr(training, "display", lambda figure, **_: None)
    monkeypatch.setattr(training.asyncio, "get_running_loop", lambda: Loop())
    kept = Path("kept.json")
    training.show_adaptation("train@tiny-a-0", kept, ["r"])
    (table.parent / "passes.json").write_text('{"passes": [{"iteration": 9}]}')
    training.show_adaptation("train@tiny-a-0", kept, ["r"])
    kept.write_text('{"iterations": 5, "drawn": [], "passes": [{"iteration": 1}]}')
    os.utime(table, (0, 0))
    training.show_adaptation("train@tiny-a-0", kept, ["r"])
    assert drawn == [[], [dict(iteration=9)], [dict(iteration=1)]]


class Loop:
    """Takes a task, and never runs it."""

    def create_task(self, coroutine):
        coroutine.close()
        return self

    def add_done_callback(self, callback):
        callback(self)
