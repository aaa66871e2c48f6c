"""The runner's duties, each in a small repository, called as DVC calls it or by dvc itself."""

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from fasa.errors import UserError
from fasa.pipeline.process import sole_owner
from fasa.pipeline.run import _named_value, _work_folder
from fasa.pipeline.stage import Inputs


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


@pytest.mark.parametrize(
    "text, value",
    [
        ("x=false", False),
        ("x=1e-3", 0.001),
        ("x=a b", "a b"),
        ("x=[1, 2]", [1, 2]),
        ("x=", None),
        ("x=a=b", "a=b"),
    ],
)
def test_values_are_yaml(text, value):
    assert _named_value(text) == ("x", value)


@pytest.mark.parametrize("text", ["x", "=1", "a b=1", "x=[1"])
def test_what_is_not_a_named_value_is_refused(text):
    with pytest.raises(UserError, match="expected name=value"):
        _named_value(text)


def test_a_stage_gets_exactly_what_it_declares(repository):
    defaults = "profile = data = rows = None\nrow = ''\nflag = True"
    show = "print(dict(data=data, flag=flag, profile=profile, row=row, rows=rows))"
    repository.notebook("n.ipynb", show, parameters=defaults)
    repository.stages(
        train={"cmd": "true", "deps": ["n.ipynb"], "params": ["profile", "${profile}.rows.fasa"]}
    )
    done = repository.run("n.ipynb", "-o", "out/n.ipynb", "-p", "row=fasa", "-p", "flag=false", stage="train")
    values = {
        "data": None,
        "flag": False,
        "profile": "embedded",
        "row": "fasa",
        "rows": {"fasa": {"lr": 0.02}},
    }
    expected = f"{values}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    assert repository.stdout("out/n.ipynb") == expected


def test_by_hand_only_given_values_and_no_declared_output(repository):
    cells = ["from fasa.notebook import output, params", "output('o.txt').write_text(str(params('data')))"]
    repository.notebook("n.ipynb", *cells, parameters="row = 'plain'")
    assert repository.run("n.ipynb", "-o", "n.out.ipynb", "-p", "row=fasa").returncode == 0
    assert not (repository.folder / "o.txt").exists()
    assert (repository.folder / "scratch" / "o.txt").read_text() == "{'classes': 40}"


def test_a_parameter_that_the_notebook_lacks_is_named(repository):
    repository.notebook("n.ipynb", "1", parameters="data = 1")
    repository.stages(train={"cmd": "true", "deps": ["n.ipynb"], "params": ["${profile}.data", "seeds"]})
    done = repository.run("n.ipynb", "-o", "out.ipynb", stage="train")
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: n.ipynb: its cell tagged 'parameters' has no 'seeds': add it, or do not pass it\n"
    )
    assert not (repository.folder / "out.ipynb").exists()


def test_the_kernel_is_this_python_in_a_fixed_environment(repository):
    repository.write(".jupyter/kernels/python3/kernel.json", '{"argv": ["false"], "language": "python"}')
    code = "import os, sys; print(sys.executable, os.environ['PYTHONHASHSEED'], sys.path[0] == os.getcwd())"
    repository.notebook("n.ipynb", code)
    done = repository.run("n.ipynb", "-o", "out.ipynb", JUPYTER_PATH=str(repository.folder / ".jupyter"))
    assert done.stdout == f"{sys.executable} 0 True\n"


def test_a_failing_cell_is_one_line_and_leaves_the_output(repository):
    failing = "from fasa.errors import UserError\nprint('before')\nraise UserError('loss is NaN: lower lr')"
    repository.notebook("n.ipynb", "1", failing, "print('never')", parameters="a = 1")
    repository.write("out.ipynb", "earlier")
    done = repository.run("n.ipynb", "-o", "out.ipynb", "-p", "a=2")
    message, _, partial = done.stderr.rstrip(")\n").partition(" (the notebook as far as it came: ")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert message == "error: n.ipynb, cell [4]: loss is NaN: lower lr"
    assert (repository.folder / "out.ipynb").read_text() == "earlier"
    assert "before" in Path(partial).read_text()

    repository.notebook("n.ipynb", "{}['key']")
    done = repository.run("n.ipynb", "-o", "out.ipynb")
    assert done.stderr.startswith("error: n.ipynb, cell [1]: KeyError: 'key' (")
    assert done.stderr.count("\n") == 1


def test_a_dead_kernel_is_one_line(repository):
    repository.notebook("n.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = repository.run("n.ipynb", "-o", "out.ipynb")
    assert done.returncode == 1
    assert done.stderr.startswith("error: n.ipynb: its kernel died") and done.stderr.count("\n") == 1


def test_inputs_edited_during_the_run_are_refused(repository):
    repository.write("code.py", "x = 1\n")
    repository.write("note.txt", "no dependency\n")
    edits = [f"_ = open({name!r}, 'a').write('#')" for name in ("code.py", "note.txt")]
    edits += ["p = open('params.yaml').read()", "_ = open('params.yaml', 'w').write(p.replace('40', '50'))"]
    repository.notebook("n.ipynb", *edits, parameters="data = seeds = 1")
    params = ["seeds", "${profile}.data"]
    repository.stages(train={"cmd": "true", "deps": ["n.ipynb", "code.py"], "params": params})
    done = repository.run("n.ipynb", "-o", "out.ipynb", stage="train")
    assert done.returncode == 1
    assert done.stderr == "error: code.py, embedded.data changed during the run: its result is discarded\n"
    assert not (repository.folder / "out.ipynb").exists()


def test_unfinished_work_is_kept_in_the_users_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # not where the stage runs, under ``dvc exp run --temp``
    inputs = Inputs({"code.py": "1"}, {"embedded.data": {"classes": 40}})
    folder = _work_folder("train@fasa", inputs, {"row": "fasa"})
    assert folder.parent == tmp_path / ".fasa" / "train@fasa"
    assert folder == _work_folder("train@fasa", Inputs(*map(dict, inputs)), {"row": "fasa"})
    others = [
        _work_folder("train@fasa", inputs._replace(files={"code.py": "2"}), {"row": "fasa"}),
        _work_folder("train@fasa", inputs._replace(params={"embedded.data": 1}), {"row": "fasa"}),
        _work_folder("train@fasa", inputs, {"row": "plain"}),
    ]
    assert len({folder, *others}) == 4


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
from fasa.notebook import output, save_figure, start, style
start(); style()
figure, axes = plt.subplots()
axes.fill_between([0, 1], [0, data["classes"]], hatch="/")
save_figure(figure, output("figure.svg"))
print({"a", "b", "c"}, object()); print("x" * 9, flush=True); print("progress", file=sys.stderr)
"""


def test_two_forced_runs_give_the_same_bytes(repository):
    strip = "python -m fasa.pipeline.strip n.ipynb build/n.ipynb"
    run = "python -m fasa.pipeline.run build/n.ipynb -o run/n.ipynb"
    repository.notebook(
        "n.ipynb", PLOT, "object()", volatile="import time; time.time()", parameters="data = None"
    )
    repository.stages(
        strip={"cmd": strip, "deps": ["n.ipynb"], "outs": ["build/n.ipynb"]},
        plot={
            "cmd": run,
            "deps": ["build/n.ipynb"],
            "params": ["${profile}.data"],
            "outs": ["run/n.ipynb", "figure.svg"],
        },
    )
    locks = []
    for _ in range(2):
        done = repository.call("dvc", "repro", "--force", "--no-run-cache")
        assert done.returncode == 0, done.stderr
        assert "xxxxxxxxx" in done.stdout
        locks.append((repository.folder / "dvc.lock").read_bytes())
    assert locks[0] == locks[1]
    assert "run/n.ipynb" in locks[0].decode()
    assert "image/png" in (repository.folder / "run" / "n.ipynb").read_text()
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
    run = "true && python -m fasa.pipeline.run n.ipynb -o run.ipynb && true"  # a shell stays in between
    repository.notebook("n.ipynb", SLOW)
    repository.stages(slow={"cmd": run, "deps": ["n.ipynb"], "outs": ["run.ipynb", "done.txt"]})
    dvc = repository.start("dvc", "repro")
    wait_until(lambda: any(path.read_text() for path in repository.folder.glob(".fasa/slow/*/checkpoint")))
    checkpoint = next(repository.folder.glob(".fasa/slow/*/checkpoint"))
    kernel, runner = map(int, checkpoint.read_text().split())
    assert alive(kernel) and alive(runner)

    second = repository.run("n.ipynb", "-o", "run.ipynb", stage="slow")
    assert second.returncode == 1
    assert second.stderr.startswith("error: another run of this stage works in ")

    dvc.send_signal(signal.SIGKILL)
    dvc.communicate()
    wait_until(lambda: not alive(kernel) and not alive(runner), seconds=5)
    again = repository.call("dvc", "repro")
    assert again.returncode == 0, again.stderr
    assert (repository.folder / "done.txt").read_text() == "resumed"
    assert not checkpoint.exists()
