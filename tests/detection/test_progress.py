"""What a training prints of its losses, and keeps."""

import contextlib
import csv
import io
import tempfile
from types import SimpleNamespace

import pytest
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from fasa.detection.progress import ProgressHook, losses_table
from fasa.detection.resume import read_checkpoint
from fasa.detection.training import train
from fasa.report.training import read_losses


@HOOKS.register_module()
class Listen(Hook):
    """Keeps every loss of every iteration."""

    def before_train(self, runner):
        self.heard = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.heard.append({name: float(value.detach()) for name, value in outputs.items() if "loss" in name})


def test_a_line_is_the_mean_since_the_one_before(config, tmp_path, capsys):
    cfg = config(dict(type="FASA", prob_scale=4), 2, iterations=5)
    cfg.default_hooks.progress.every = 2
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type="Listen")]
    runner = train(cfg)
    (heard,) = (hook.heard for hook in runner.hooks if isinstance(hook, Listen))
    (losses,) = (hook.losses for hook in runner.hooks if isinstance(hook, ProgressHook))
    assert [record["iteration"] for record in losses] == [2, 4, 5]
    assert losses[0].keys() - {"iteration"} == heard[0].keys() > {"loss", "loss_cls", "loss_mask"}
    for record, part in zip(losses, (heard[:2], heard[2:4], heard[4:]), strict=True):
        for name in part[0]:
            assert record[name] == pytest.approx(sum(one[name] for one in part) / len(part), abs=1e-5)
    printed = [line for line in capsys.readouterr().out.splitlines() if " s/it " in line]
    assert [line.partition("/")[0] for line in printed] == ["2", "4", "5"]
    assert f"loss_cls {losses[1]['loss_cls']:.3f}"[:-1] in printed[1]
    table = list(csv.DictReader(losses_table(tmp_path / "work").splitlines(), delimiter="\t"))
    assert [{name: float(value) for name, value in row.items()} for row in table] == losses


def test_a_short_run_speaks_at_each_eighth_and_can_be_resumed_from_each_quarter(config, tmp_path):
    cfg = config(dict(type="FASA", prob_scale=4), 2, iterations=9)
    hooks = train(cfg).hooks
    (losses,) = (hook.losses for hook in hooks if isinstance(hook, ProgressHook))
    assert [record["iteration"] for record in losses] == list(range(1, 10))
    assert read_checkpoint(tmp_path / "work" / "last.pth")["meta"]["iter"] == 8


def test_where_nothing_was_trained_the_table_has_no_rows(tmp_path):
    assert losses_table(tmp_path) == "iteration\n"


def test_a_run_from_anothers_weights_has_losses_of_its_own(config, tmp_path):
    cfg = config(dict(type="FASA", prob_scale=4), 2, iterations=2)
    cfg.default_hooks.checkpoint.every = 1
    train(cfg)
    cfg = config(iterations=3, work_dir=tmp_path / "other")
    cfg.load_from = str(tmp_path / "work" / "last.pth")
    (losses,) = (hook.losses for hook in train(cfg).hooks if isinstance(hook, ProgressHook))
    assert [record["iteration"] for record in losses] == [1, 2, 3] and "loss_virtual" not in losses[0]


def test_a_loss_that_only_a_resumed_run_has_is_no_number_before(config, tmp_path):
    cfg = config(iterations=2)
    cfg.default_hooks.checkpoint.every = 1
    train(cfg)
    train(config(dict(type="FASA", prob_scale=4), 2, iterations=3))
    columns = read_losses(tmp_path / "work" / "losses.tsv")
    assert columns["iteration"] == [1, 2, 3]
    assert [value != value for value in columns["loss_virtual"]] == [True, True, False]


def test_days_are_left():
    hook = ProgressHook(1)
    hook.seconds, hook.losses = 1.0, [dict(iteration=1)]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), tempfile.TemporaryDirectory() as folder:
        hook.say(SimpleNamespace(max_iters=108_001, work_dir=folder), 1, {})
    assert "1 day, 6:00:00 left" in text.getvalue()
