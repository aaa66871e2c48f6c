"""Real launchers, of plain Python ranks: torchrun, and a script as a host has it."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fasa.errors import UserError
from fasa.pipeline.launch import ALL, VARIABLE, launcher, prefix, processes, start

RANK = """
import os, sys, time
from fasa.pipeline.process import die_with_parent
die_with_parent(os.getppid())
"""
TORCHRUN = ["torchrun", "--nproc_per_node=2"]
# Two processes as of two hosts, ended with the script.
SCRIPT = ["sh", "-c", 'trap \'kill 0\' TERM; RANK=0 "$@" & RANK=1 "$@" & wait', "hosts"]


@pytest.fixture
def rank(tmp_path):
    """Make a command that runs code as a rank."""

    def make(code):
        path = tmp_path / "rank.py"
        path.write_text(RANK + code)
        return [sys.executable, str(path)]

    return make


def test_where_the_launcher_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "dvc.yaml").touch()
    assert launcher("big") == []
    (tmp_path / "params.yaml").write_text(
        "big: {launch: [srun, -N2]}\nsmall: {launch: torchrun --nproc_per_node=2}\n"
        'odd: {launch: "a \'b"}\nodder: {launch: 3}\nnone: {}\nnull_: {launch: null}\n'
    )
    assert launcher("big") == ["srun", "-N2"] and launcher("small") == TORCHRUN
    assert launcher("none") == launcher("nowhere") == launcher("null_") == []
    for name in ("odd", "odder"):
        with pytest.raises(UserError, match=f"params.yaml: {name}.launch is .*, not a command"):
            launcher(name)
    monkeypatch.setenv(VARIABLE, "")
    assert launcher("big") == []
    monkeypatch.setenv(VARIABLE, "srun --comment 'a b'")
    assert launcher("big") == ["srun", "--comment", "a b"]


@pytest.mark.parametrize(
    ("launch", "number"),
    [
        ("", 1),
        ("torchrun", 1),
        ("torchrun --nproc_per_node=8", 8),
        ("/opt/torchrun --nproc-per-node 4 --nnodes 2", 4),
        ("torchrun --nproc_per_node=gpu", ALL),
        ("srun -N2 --ntasks-per-node=8", 0),
        ("sh hosts.sh", ALL),
    ],
)
def test_how_many_processes_start_here(launch, number):
    assert processes(launch.split()) == number


def test_torchrun_is_that_of_this_python_with_a_port_of_its_own():
    module = [sys.executable, "-m", "torch.distributed.run", "--no-python"]
    assert prefix(TORCHRUN) == [*module, "--standalone", "--nproc_per_node=2"]
    assert prefix(["torchrun", "--nnodes=2"]) == [*module, "--nnodes=2"]
    assert prefix(["srun", "-N2"]) == ["srun", "-N2"]


@pytest.mark.parametrize("launch", [TORCHRUN, SCRIPT], ids=["torchrun", "script"])
def test_all_ranks_run_and_what_they_print_is_printed(launch, rank, capfd):
    start(launch, rank("print('rank ' + os.environ['RANK'], flush=True)"))
    # not by lines: two ranks that share a terminal may print "rank 0rank 1" and two line ends
    assert sorted(re.findall(r"rank (\d)", capfd.readouterr().out)) == ["0", "1"]


@pytest.mark.parametrize("launch", [TORCHRUN, SCRIPT], ids=["torchrun", "script"])
def test_the_reason_that_a_rank_gives_is_the_message(launch, rank):
    code = "if os.environ['RANK'] == '1': sys.exit('error: a batch of 9 is odd')\ntime.sleep(3)"
    with pytest.raises(UserError, match="^a batch of 9 is odd$"):
        start(launch, rank(code))


def test_a_dead_rank_and_a_launcher_that_is_not_there_are_one_line(rank):
    kill = "if os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\ntime.sleep(60)"
    begin = time.monotonic()
    with pytest.raises(
        UserError, match=r"torchrun ended with status 1 \(exitcode: -9\) local_rank: 1\), see"
    ):
        start(TORCHRUN, rank(kill))
    assert time.monotonic() - begin < 30
    with pytest.raises(UserError, match="srunn: No such file or directory; FASA_LAUNCH or launch names it"):
        start(["srunn"], rank("1"))


STAGE = """
import sys
from fasa.pipeline.launch import start
start(sys.argv[1:-2], sys.argv[-2:])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("launch", [TORCHRUN, SCRIPT], ids=["torchrun", "script"])
def test_nothing_outlives_the_stage(launch, how, rank, tmp_path, wait_until):
    begun = f"open('{tmp_path}/' + os.environ['RANK'] + '.begun', 'w')\ntime.sleep(120)"
    environment = os.environ | dict(PYTHONPATH=os.getcwd())
    stage = subprocess.Popen([sys.executable, "-c", STAGE, *launch, *rank(begun)], env=environment)
    wait_until(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
    children = psutil.Process(stage.pid).children(recursive=True)
    assert len(children) >= 3
    stage.send_signal(how)
    stage.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]
