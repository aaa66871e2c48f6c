"""Stages at the same time, in a real DVC project: whoever waits for another proves that both run."""

import re
import sys

import pytest
import yaml

from fasa.errors import UserError
from fasa.pipeline.side_by_side import CUT_SHORT, waves

STAGES = ["params", "strip@data", "train@a-0", "train@a-1", "train@b-0", "train_more@c-0", "table"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["train@*"], [["train@a-0", "train@a-1", "train@b-0"]]),
        (["table", "train@*-0", "params"], [["params"], ["train@a-0", "train@b-0"], ["table"]]),
        (["train*"], [["train@a-0", "train@a-1", "train@b-0"], ["train_more@c-0"]]),
        (["train@a-?", "train@a-1"], [["train@a-0", "train@a-1"]]),
        (["*"], [["params"], ["strip@data"], STAGES[2:5], ["train_more@c-0"], ["table"]]),
    ],
)
def test_waves_are_the_instances_of_a_matrix_in_the_order_of_dvc_yaml(patterns, expected):
    assert waves(STAGES, patterns) == expected


@pytest.mark.parametrize("pattern", ["train", "Table", "train@d-*"])
def test_a_pattern_of_no_stage_is_named(pattern):
    with pytest.raises(UserError) as info:
        waves(STAGES, ["table", pattern])
    assert str(info.value) == f"no stage of dvc.yaml is called {pattern!r}; dvc stage list names them"


# Says that it has begun, waits until another has, and writes what the next wave reads.
MEET = """
import sys, time
from pathlib import Path
mine, other = sys.argv[1:]
Path(f"{mine}.begun").touch()
end = time.monotonic() + 40
while not Path(f"{other}.begun").exists():
    assert time.monotonic() < end, f"{other} did not begin"
    time.sleep(0.02)
print("met", other)
Path(f"{mine}.txt").write_text(other)
"""
SUM = "open('all.txt', 'w').write(open('a.txt').read() + open('b.txt').read())"
# The first fails once the second has begun, which ends only after that.
FAIL = """
import sys, time
from pathlib import Path
name = sys.argv[1]
Path(f"{name}.begun").touch()
waited = dict(bad=sys.argv[2:], good=["bad.failed"])[name]
end = time.monotonic() + 40
while not all(Path(one).exists() for one in waited):
    assert time.monotonic() < end, f"{waited} did not come"
    time.sleep(0.02)
if name == "bad":
    Path("bad.failed").touch()
    sys.exit("out of luck")
Path("good.txt").touch()
"""


@pytest.fixture
def project(repository):
    """A repository whose params.yaml says how many threads a stage takes."""
    repository.write("params.yaml", yaml.safe_dump(dict(profile="tiny", tiny=dict(threads=1))))
    repository.write("meet.py", MEET)
    repository.write("fail.py", FAIL)
    repository.write("sum.py", SUM)
    return repository


def side_by_side(project, *arguments):
    return project.call(sys.executable, "-m", "fasa.pipeline.side_by_side", *arguments)


def test_a_wave_runs_at_the_same_time_and_the_next_after_it_and_again_nothing(project):
    project.stages(
        meet=dict(
            matrix=dict(pair=[["a", "b"], ["b", "a"]]),
            cmd="python meet.py ${item.pair[0]} ${item.pair[1]}",
            outs=["${item.pair[0]}.txt"],
        ),
        sum=dict(cmd="python sum.py", deps=["a.txt", "b.txt"], outs=["all.txt"]),
        other=dict(cmd="python -c \"open('other.txt', 'w')\"", outs=["other.txt"]),
    )
    done = side_by_side(project, "sum", "meet@*", "-j", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.folder / "all.txt").read_text() == "ba"
    lines = done.stdout.splitlines()
    assert lines.index("meet@pair0: met b") < lines.index("sum: Running stage 'sum':")
    assert "meet@pair1: met a" in lines and not (project.folder / "other.txt").exists()
    lock = (project.folder / "dvc.lock").read_text()
    assert yaml.safe_load(lock)["stages"].keys() == {"meet@pair0", "meet@pair1", "sum"}

    again = side_by_side(project, "sum", "meet@*", "-j", "2")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (project.folder / "dvc.lock").read_text() == lock


def test_what_has_begun_when_a_stage_fails_ends_and_the_next_wave_does_not_begin(project):
    project.stages(
        fail=dict(
            foreach=dict(bad="bad good.begun", good="good"),
            do=dict(cmd="python fail.py ${item}", outs=["${key}.txt"]),
        ),
        later=dict(cmd="python -c \"open('later.txt', 'w')\"", outs=["later.txt"]),
    )
    done = side_by_side(project, "*", "-j", "2")
    assert done.returncode == 1
    assert done.stderr == "error: a stage failed, see above; the same command goes on from there\n"
    assert "fail@bad: out of luck" in done.stdout.splitlines()
    assert (project.folder / "good.txt").exists() and not (project.folder / "later.txt").exists()
    assert yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].keys() == {"fail@good"}


def test_stages_of_a_wave_that_have_not_begun_when_one_fails_do_not(project):
    project.stages(
        fail=dict(
            foreach=dict(bad="bad", good="good"), do=dict(cmd="python fail.py ${item}", outs=["${key}.txt"])
        )
    )
    done = side_by_side(project, "fail@*", "-j", "1")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert (project.folder / "bad.begun").exists() and not (project.folder / "good.begun").exists()


ALONE = """
import sys, time
print("from", time.monotonic())
time.sleep(2)
print("to", time.monotonic())
open(sys.argv[1], "w")
"""


def test_stages_that_want_to_be_alone_run_one_after_the_other(project):
    project.write("alone.py", ALONE)
    matrix = dict(matrix=dict(name=["a", "b"]), cmd="python alone.py ${item.name}", outs=["${item.name}"])
    project.stages(cost=matrix | dict(meta=dict(alone=True)))
    done = side_by_side(project, "cost@*", "-j", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    begun = [float(time) for time in re.findall(r"^cost@.: from (.*)$", done.stdout, re.MULTILINE)]
    ended = [float(time) for time in re.findall(r"^cost@.: to (.*)$", done.stdout, re.MULTILINE)]
    assert len(begun) == len(ended) == 2 and max(begun) >= min(ended)


def test_a_mistake_is_one_line(project):
    project.stages(one=dict(cmd="true", outs=["one.txt"]))
    done = side_by_side(project, "two")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no stage of dvc.yaml is called 'two'; dvc stage list names them\n"


@pytest.mark.parametrize("cut", ["stages:\n  one: [", "stages:\n  one\n"])
def test_a_lock_that_a_kill_cut_short_is_one_line_and_what_to_do(project, cut):
    project.stages(one=dict(cmd="echo 1 > one.txt", outs=["one.txt"]))
    assert side_by_side(project, "one").returncode == 0
    project.write("dvc.lock", cut)
    done = side_by_side(project, "one")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {CUT_SHORT}\n")
