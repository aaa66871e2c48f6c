"""The command that a launcher starts: two real ranks of torchrun, gloo on the CPU, killed and resumed."""

import json
import os
import subprocess
import sys

import pytest
import torch
from jobs import job
from mmengine.config import Config
from mmengine.hooks import EMAHook

from fasa.detection.experiment import training_config
from fasa.detection.inference import load_model
from fasa.detection.ranks import WholeBatches, for_ranks, slurm_to_torchrun
from fasa.detection.train import main, read_config
from fasa.detection.training import train
from fasa.detection.training import trained as written_model
from fasa.errors import UserError

RANKS = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"]
KILL = """
import os, signal
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

@HOOKS.register_module()
class KillOnce(Hook):
    priority = "LOWEST"
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 4 and runner.rank == 1 and os.environ.get("KILL_ONCE"):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run(*arguments, launcher=RANKS, **environment):
    environment = os.environ | dict(PYTHONPATH=f"{os.getcwd()}", OMP_NUM_THREADS="1") | environment
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(tiny_glyphs, tmp_path_factory):
    """The folder of a run that was killed on one rank and resumed, and of one that was not."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "kill_once.py").write_text(KILL)
    row = dict(augmenter=dict(type="FASA", prob_scale=4), adapt_every=2, instaboost=True)
    one = job(tiny_glyphs, iterations=5, batch=4, **row)
    for name in ("whole", "broken"):
        cfg = training_config(one, one.train, folder / name)
        cfg.default_hooks.checkpoint.every = 3
        cfg.custom_hooks.append(dict(type="KillOnce"))
        cfg.custom_imports.imports.append("kill_once")
        cfg.dump(folder / f"{name}.py")
    path = f"{os.getcwd()}:{folder}"
    for name, kill in (("whole", ""), ("broken", "1"), ("broken", "")):
        arguments = ["fasa.detection.train", folder / f"{name}.py", "--batch", 4, "--threads", 1]
        arguments += ["--out", folder / f"{name}.pth", "--history", folder / f"{name}.json"]
        done = run(*arguments, PYTHONPATH=path, KILL_ONCE=kill)
        assert (done.returncode == 0) == (not kill), done.stderr[-3000:]
        if kill:
            assert (folder / "broken" / "last.pth").exists() and not (folder / "broken.pth").exists()
    return folder


def test_a_rank_that_was_killed_changes_nothing(trained):
    assert (trained / "whole.pth").read_bytes() == (trained / "broken.pth").read_bytes()
    assert json.loads((trained / "whole.json").read_text()) == json.loads(
        (trained / "broken.json").read_text()
    )


def test_what_the_adaptation_did_can_be_looked_at_while_it_trains(trained):
    for name in ("whole", "broken"):
        told = json.loads((trained / name / "passes.json").read_text())
        assert told["passes"] == json.loads((trained / "whole.json").read_text())["passes"]


def test_what_is_written_is_one_process_model_and_all_ranks_draws(trained):
    state = torch.load(trained / "whole.pth", weights_only=True)["state_dict"]
    assert not any(name.startswith("module.") for name in state)
    load_model(Config.fromfile(trained / "whole.py", import_custom_modules=False), trained / "whole.pth")
    history = json.loads((trained / "whole.json").read_text())
    first = state["roi_head.bbox_head.augmenter.drawn"]
    assert history["iterations"] == 5 and [one["iteration"] for one in history["passes"]] == [2, 4]
    assert sum(history["drawn"]) > first.sum() > 0


def test_a_run_branches_from_what_ranks_wrote(trained, tmp_path):
    """And ranks from what one process wrote: both name weights alike."""
    arguments = ["fasa.detection.train", trained / "whole.py", "--branch-from", trained / "whole.pth"]
    options = [
        "--cfg-options",
        f"work_dir={tmp_path}/work",
        "train_cfg.max_iters=1",
        "optim_wrapper.optimizer.lr=0",
    ]
    options.append("optim_wrapper.optimizer.weight_decay=0")
    more = ["--batch", 2, "--out", tmp_path / "out.pth", *options]
    done = run(*arguments, *more, launcher=["-m"], PYTHONPATH=f"{os.getcwd()}:{trained}")
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (trained / "whole.pth", tmp_path / "out.pth")
    )
    weights = [name for name in before if name.endswith(("weight", "bias"))]
    assert len(weights) > 50 and all(torch.equal(before[name], after[name]) for name in weights)


def test_the_batch_is_shared_out():
    cfg = Config(dict(train_dataloader=dict(batch_size=16)))
    assert for_ranks(cfg, 4, 8).train_dataloader.batch_size == 2
    with pytest.raises(UserError, match="a batch of 9 cannot be shared out among 4 ranks"):
        for_ranks(cfg, 4, 9)
    assert "launcher" not in for_ranks(Config(dict(train_dataloader=dict(batch_size=16))), 1)


def test_batches_are_dealt_out_whole(monkeypatch):
    dealt = []
    for rank in range(3):
        monkeypatch.setattr("fasa.detection.ranks.get_dist_info", lambda rank=rank: (rank, 3))
        sampler = WholeBatches(range(11), batch=2)
        dealt.append(list(sampler))
        assert len(sampler) == len(dealt[-1])
    assert dealt == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10]]
    assert len(WholeBatches(range(3), batch=2)) == 0  # the third rank's of two batches


def test_ranks_that_never_come_are_one_line(config, tmp_path):
    config(iterations=1).dump(tmp_path / "config.py")
    waiting = dict(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="29581", FASA_WAIT="2")
    done = run("fasa.detection.train", tmp_path / "config.py", launcher=["-m"], **waiting)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: not all of 2 ranks came to 127.0.0.1:29581 within 2 s (FASA_WAIT)" in done.stderr


def test_slurms_variables_become_torchruns(tmp_path, monkeypatch):
    tool = tmp_path / "scontrol"
    tool.write_text('#!/bin/sh\n[ "$3" = "n[1-2]" ] && printf "n1\\nn2\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    step = dict(SLURM_STEP_NUM_TASKS="4", SLURM_STEP_NODELIST="n[1-2]", SLURM_PROCID="3", SLURM_LOCALID="1")
    found = slurm_to_torchrun(step | dict(SLURM_JOB_ID="123456"))
    assert found == dict(RANK="3", WORLD_SIZE="4", LOCAL_RANK="1", MASTER_ADDR="n1", MASTER_PORT="23456")
    more = dict(SLURM_JOB_ID="123456", SLURM_STEP_ID="1", MASTER_ADDR="10.0.0.1", SLURM_GPUS_PER_TASK="1")
    found = slurm_to_torchrun(step | more)
    assert (found["MASTER_ADDR"], found["MASTER_PORT"], found["LOCAL_RANK"]) == ("10.0.0.1", "24465", "0")
    assert slurm_to_torchrun(dict(SLURM_NTASKS="4", SLURM_PROCID="0")) == {}  # a batch script, without srun
    assert slurm_to_torchrun(step | dict(RANK="0")) == {}
    with pytest.raises(UserError, match="scontrol does not name the hosts"):
        slurm_to_torchrun(step | dict(SLURM_STEP_NODELIST="x", SLURM_JOB_ID="1"))


def test_the_mean_that_is_validated_is_what_is_written(config, tmp_path):
    cfg = config(iterations=3)
    cfg.custom_hooks.append(dict(type="mmengine.EMAHook", momentum=0.3))
    runner = train(cfg)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    written, raw = written_model(runner).state_dict(), runner.model.state_dict()
    mean = hook.ema_model.module.state_dict()
    assert all(torch.equal(written[name], mean[name]) for name in raw)
    assert not all(torch.equal(written[name], raw[name]) for name in raw)


def test_checkpoints_that_cannot_go_on_are_one_line(config, tmp_path):
    """mmengine's own, without our hook."""
    cfg = config(iterations=2)
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1, by_epoch=False)
    train(cfg)
    with pytest.raises(UserError, match="iter_2.pth: holds more than plain data"):
        train(cfg)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.py"], "error: nowhere.py: no such config"),
        (["CONFIG", "--branch-from", "nowhere.pth"], "nowhere.pth: No such file or directory"),
    ],
)
def test_mistakes_are_said_in_one_line(config, tmp_path, arguments, message):
    config(iterations=1).dump(tmp_path / "config.py")
    arguments = [str(tmp_path / "config.py") if one == "CONFIG" else one for one in arguments]
    done = run("fasa.detection.train", *arguments, launcher=["-m"])
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "invalid whole number from 1 value: '0'"),
        (["--threads", "-1"], "invalid whole number from 1 value: '-1'"),
        (["--cfg-options", "x"], "'x' is not KEY=VALUE"),
    ],
)
def test_an_argument_that_cannot_be_is_told_with_the_usage(capsys, arguments, message):
    with pytest.raises(SystemExit) as info:
        main(["config.py", *arguments])
    assert info.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = (", r"c\.py: SyntaxError: .* line 1"),
        ("x = 1 / 0", r"c\.py: ZeroDivisionError: division by zero; mend the config"),
        ("x = 1", r"c\.py: has no model; name a config of mmdet's kind"),
    ],
)
def test_a_config_that_is_none_is_one_line(tmp_path, text, message):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(tmp_path / "c.py")


def test_where_it_cannot_write_is_told_before_it_trains(config, tmp_path):
    config().dump(tmp_path / "config.py")
    with pytest.raises(SystemExit, match="is not a regular file and would be replaced"):
        main([str(tmp_path / "config.py"), "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"config.py"}
