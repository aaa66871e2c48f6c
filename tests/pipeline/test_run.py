"""The runner's duties, each in a small repository, called as DVC calls it or by dvc itself."""

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from fasa.errors import UserError
from fasa.pipeline.process import sole_owner
from fasa.pipeline.run import _work_folder


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_notebook_gets_its_stages_job(repository):
    repository.notebook("n.ipynb", "print(job)", parameters="job = None")
    repository.stages(train={"matrix": {"row": ["fasa-0"]}, "cmd": "true", "deps": ["n.ipynb"]})
    repository.plan("train@fasa-0", flag=False, rate=1e-3, nothing=None)
    done = repository.run("train@fasa-0")
    expected = "{'flag': False, 'rate': 0.001, 'nothing': None}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    assert repository.stdout("executed/fasa/train-0.ipynb") == expected


def test_by_hand_a_stage_is_named_and_writes_no_declared_output(repository):
    repository.notebook("n.ipynb", "from fasa.notebook import output", "output('o.txt').write_text(job['x'])")
    repository.plan("data@small", x="1")
    done = repository.run("data@small", by_hand=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (repository.folder / "o.txt").exists()
    assert (repository.folder / "scratch" / "o.txt").read_text() == "1"


def test_a_stage_that_was_not_planned_is_named(repository):
    done = repository.run("data@small", by_hand=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "build/jobs/data@small.json: no such job; run: dvc repro plan" in done.stderr


def test_code_that_was_edited_since_the_plan_is_refused(repository):
    repository.write("code.py", "x = 1\n")
    repository.notebook("n.ipynb", "1", parameters="job = None")
    repository.plan("data@small", sources=["code.py"])
    repository.write("code.py", "x = 2\n")
    done = repository.run("data@small", by_hand=True)
    assert done.stderr == "error: code.py: edited since the stages were planned; run: dvc repro plan\n"


def test_the_kernel_is_this_python_in_a_fixed_environment(repository):
    repository.write(".jupyter/kernels/python3/kernel.json", '{"argv": ["false"], "language": "python"}')
    code = "import os, sys; print(sys.executable, os.environ['PYTHONHASHSEED'], sys.path[0] == os.getcwd())"
    repository.notebook("n.ipynb", code)
    repository.plan("data@small")
    done = repository.run("data@small", by_hand=True, JUPYTER_PATH=str(repository.folder / ".jupyter"))
    assert done.stdout == f"{sys.executable} 0 True\n"


def test_a_module_that_the_job_does_not_list_is_named(repository):
    """What is not in the job would not run the stage again when it changes."""
    repository.notebook("n.ipynb", "import fasa.data.long_tail")
    repository.plan("data@small")
    done = repository.run("data@small", by_hand=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data@small imports fasa.data, which its job does not list")
    assert not (repository.folder / "executed").exists()


def test_a_failing_cell_is_one_line_and_leaves_the_output(repository):
    failing = "from fasa.errors import UserError\nprint('before')\nraise UserError('loss is NaN: lower lr')"
    repository.notebook("n.ipynb", "1", failing, "print('never')", parameters="job = None")
    repository.plan("data@small")
    repository.write("executed/small/data.ipynb", "earlier")
    done = repository.run("data@small", by_hand=True)
    message, _, partial = done.stderr.rstrip(")\n").partition(" (the notebook as far as it came: ")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert message == "error: build/notebooks/n.ipynb, cell [4]: loss is NaN: lower lr"
    assert (repository.folder / "executed/small/data.ipynb").read_text() == "earlier"
    assert "before" in Path(partial).read_text()

    repository.notebook("n.ipynb", "{}['key']")
    repository.plan("data@small")
    done = repository.run("data@small", by_hand=True)
    assert done.stderr.startswith("error: build/notebooks/n.ipynb, cell [2]: KeyError: 'key' (")
    assert done.stderr.count("\n") == 1


def test_a_dead_kernel_is_one_line(repository):
    repository.notebook("n.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    repository.plan("data@small")
    done = repository.run("data@small", by_hand=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: build/notebooks/n.ipynb: its kernel died")
    assert done.stderr.count("\n") == 1


def test_inputs_edited_during_the_run_are_refused(repository):
    for name in ("code.py", "data.txt", "note.txt"):
        repository.write(name, "x = 1\n")
    edits = [f"_ = open({name!r}, 'a').write('#')" for name in ("code.py", "data.txt", "note.txt")]
    repository.notebook("n.ipynb", *edits, parameters="job = None")
    repository.plan("train", sources=["code.py"])
    repository.stages(train={"cmd": "true", "deps": ["build/jobs/train.json", "data.txt"]})
    done = repository.run("train")
    assert done.returncode == 1
    assert done.stderr == "error: code.py, data.txt changed during the run: its result is discarded\n"
    assert not (repository.folder / "executed").exists()


def test_unfinished_work_is_kept_in_the_users_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # not where the stage runs, under ``dvc exp run --temp``
    inputs = dict(sources={"code.py": "1"}, inputs={"build/jobs/train@fasa.json": "2"})
    folder = _work_folder("train@fasa", inputs)
    assert folder.parent == tmp_path / ".fasa" / "train@fasa"
    assert folder == _work_folder("train@fasa", {key: dict(value) for key, value in inputs.items()})
    others = [
        _work_folder("train@fasa", inputs | dict(sources={"code.py": "2"})),
        _work_folder("train@fasa", inputs | dict(inputs={"build/jobs/train@fasa.json": "3"})),
    ]
    assert len({folder, *others}) == 3


def test_one_run_of_a_stage_at_a_time(tmp_path):
    with sole_owner(tmp_path / "work"):
        refused = pytest.raises(UserError, match="another run of this stage works in")
        with refused, sole_owner(tmp_path / "work"):
            pass
    with sole_owner(tmp_path / "work"):
        pass


PLOT = """
import sys
import matplotlib.pyplot as plt
from fasa.notebook import output, start
from fasa.report import style
start(); style.use()
figure, axes = plt.subplots()
axes.fill_between([0, 1], [0, job["classes"]], hatch="/")
style.save(figure, output("figure"))
print({"a", "b", "c"}, object()); print("x" * 9, flush=True); print("progress", file=sys.stderr)
"""


def test_two_forced_runs_give_the_same_bytes(repository):
    repository.notebook(
        "n.ipynb", PLOT, "object()", volatile="import time; time.time()", parameters="job = None"
    )
    repository.plan("plot", sources=["fasa/report/__init__.py", "fasa/report/style.py"], classes=40)
    run, deps = "python -m fasa.pipeline.run", ["build/jobs/plot.json"]
    repository.stages(plot={"cmd": run, "deps": deps, "outs": ["executed", "figure.png", "figure.svg"]})
    locks = []
    for _ in range(2):
        done = repository.call("dvc", "repro", "--force", "--no-run-cache")
        assert done.returncode == 0, done.stderr
        assert "xxxxxxxxx" in done.stdout
        locks.append((repository.folder / "dvc.lock").read_bytes())
    assert locks[0] == locks[1]
    (executed,) = (repository.folder / "executed").rglob("*.ipynb")
    assert "image/png" in executed.read_text()
    assert not list(repository.folder.glob(".fasa/plot/*"))


SLOW = """
import os, time
from fasa.notebook import output, work_dir
checkpoint = work_dir() / "checkpoint"
if not checkpoint.exists():
    checkpoint.write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(120)
output("done.txt").write_text("resumed")
"""


def test_a_killed_dvc_takes_runner_and_kernel_along_and_the_next_resumes(repository):
    run = "true && python -m fasa.pipeline.run && true"  # a shell stays in between
    repository.notebook("n.ipynb", SLOW)
    repository.plan("slow")
    repository.stages(slow={"cmd": run, "deps": ["build/jobs/slow.json"], "outs": ["executed", "done.txt"]})
    dvc = repository.start("dvc", "repro")
    wait_until(lambda: any(path.read_text() for path in repository.folder.glob(".fasa/slow/*/checkpoint")))
    checkpoint = next(repository.folder.glob(".fasa/slow/*/checkpoint"))
    kernel, runner = map(int, checkpoint.read_text().split())
    assert alive(kernel) and alive(runner)

    second = repository.run("slow")
    assert second.returncode == 1
    assert second.stderr.startswith("error: another run of this stage works in ")

    dvc.send_signal(signal.SIGKILL)
    dvc.communicate()
    wait_until(lambda: not alive(kernel) and not alive(runner), seconds=5)
    again = repository.call("dvc", "repro")
    assert again.returncode == 0, again.stderr
    assert (repository.folder / "done.txt").read_text() == "resumed"
    assert not checkpoint.exists()
