import pickle
import signal
import subprocess
import sys

import pytest
import torch

from fasa.classification.job import Row, Schedule
from fasa.classification.training import train
from fasa.errors import UserError

SCHEDULE = dict(epochs=6, batch=8, lr=0.05, warmup=1, crop=1)
ROW = dict(loss="ldam_drw", augmenter=dict(type="FASA", prob_scale=4, warmup=1))

# Trains the pickled data and dies: in a step, or when a checkpoint is written but not yet in its place.
RUN = f"""
import os, pickle, signal, sys
from fasa.classification.learner import Learner
from fasa.classification.job import Row, Schedule
from fasa.classification.training import train

def deadly(function, call):
    calls = iter(range(call))
    def wrapped(*args):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return wrapped

data, work_dir, where, call, amp = sys.argv[1:]
if where == "step":
    Learner.step = deadly(Learner.step, int(call))
else:
    os.replace = deadly(os.replace, int(call))
with open(data, "rb") as file:
    schedule, row = Schedule(**{SCHEDULE}), Row(**{ROW})
    train(pickle.load(file), schedule, row, 3, 1, work_dir, device="cpu", amp=amp == "True")
"""


def run(data, work_dir, seed=3, amp=False):
    schedule, row = Schedule(**SCHEDULE), Row(**ROW)
    return train(data, schedule, row, seed, threads=1, work_dir=work_dir, device="cpu", amp=amp)


@pytest.fixture
def killed(tiny, tmp_path):
    """Make a folder in which a run was killed."""
    (tmp_path / "data").write_bytes(pickle.dumps(tiny))

    def kill(where, call, amp):
        arguments = map(str, (tmp_path / "data", tmp_path / "broken", where, call, amp))
        command = [sys.executable, "-c", RUN, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        return tmp_path / "broken"

    return kill


@pytest.mark.parametrize("amp", [False, True])
def test_killed_again_and_again_equals_unbroken(tiny, tmp_path, killed, amp):
    whole = run(tiny, tmp_path / "whole", amp=amp)
    killed("step", 7, amp)  # two epochs of three steps are saved
    folder = killed("rename", 4, amp)  # dies before a third save gets its name: two tables are written too
    assert len(torch.load(folder / "last.pth", weights_only=True)["log"]["curve"]) == 4
    assert list(folder.glob(".last.pth.*.part"))
    broken = run(tiny, folder, amp=amp)
    tables = [(one / "losses.tsv").read_text() for one in (tmp_path / "whole", folder)]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 1 + len(broken.curve)
    states = [torch.load(one / "last.pth", weights_only=True) for one in (tmp_path / "whole", folder)]
    for state in states:
        del state["log"]["seconds"]
    assert_equal(*states)
    assert_equal(whole.state_dict, broken.state_dict)
    assert whole.accuracy == broken.accuracy and whole.drawn == broken.drawn
    again = run(tiny, folder, amp=amp)  # finished: nothing is trained
    assert_equal(again.state_dict, broken.state_dict)
    assert again.images_per_second == broken.images_per_second


def assert_equal(a, b):
    """The same plain data with the same bits, NaN included."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    else:
        assert a == b or (a != a and b != b)


def test_folder_of_another_run_is_refused(tiny, tmp_path):
    run(tiny, tmp_path)
    other = tiny._replace(train=tiny.train._replace(images=tiny.train.images ^ 1))
    for data, seed in ((tiny, 4), (other, 3)):
        with pytest.raises(UserError, match="last.pth is of a run with other data or settings: delete it"):
            run(data, tmp_path, seed)
