"""Stages side by side, in a real DVC project: whoever waits for another proves that both run."""

import json
import shutil
import signal
import sys

import psutil
import pytest
import yaml

from fasa.pipeline.side_by_side import Durations, clock, failure, main


@pytest.fixture
def project(repository):
    """A repository whose params.yaml says how many threads a stage takes."""
    repository.write("params.yaml", yaml.safe_dump(dict(profiles=["tiny"], tiny=dict(threads=1))))
    repository.write("meet.py", MEET)
    return repository


def run(project, *arguments, **env):
    return project.call(sys.executable, "-m", "fasa", "run", *arguments, **env)


def locked(project):
    return yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"].keys()


# Says that it has begun, waits until others have, and writes what they are.
MEET = """
import sys, time
from pathlib import Path
mine, *others = sys.argv[1:]
Path(f"{mine}.begun").touch()
end = time.monotonic() + 40
while not all(Path(f"{other}.begun").exists() for other in others):
    assert time.monotonic() < end, f"{others} did not begin"
    time.sleep(0.02)
print("met", *others)
Path(f"{mine}.txt").write_text("".join(others))
"""


def meet(mine, *others, deps=()):
    return dict(cmd=f"python meet.py {mine} {' '.join(others)}", deps=list(deps), outs=[f"{mine}.txt"])


def test_a_stage_starts_when_what_it_needs_is_there_and_a_target_brings_what_it_needs(project):
    # `slow` ends only when `second`, which needs `first` alone, has begun beside it
    project.stages(
        slow=meet("slow", "second"),
        first=meet("first", "slow"),
        second=meet("second", deps=["first.txt"]),
        all=dict(cmd="cat slow.txt first.txt > all.txt", deps=["slow.txt", "second.txt"], outs=["all.txt"]),
        other=meet("other"),
    )
    done = run(project, "al?", "-j", "2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "4 stages of 4 to run, how long is not known yet, 2 at a time"
    assert [line.split()[0] for line in lines[1:5]] in (
        ["first", "second", "slow", "all"],
        ["first", "slow", "second", "all"],
    )
    assert lines[5].startswith("done: 4 stages ran in ") and len(lines) == 6
    assert (project.folder / "all.txt").read_text() == "secondslow"
    assert not (project.folder / "other.begun").exists()
    assert locked(project) == {"slow", "first", "second", "all"}

    lock = (project.folder / "dvc.lock").read_text()
    again = run(project, "all")
    assert (again.returncode, again.stdout) == (0, "nothing to do: 4 stages up to date\n")
    assert (project.folder / "dvc.lock").read_text() == lock

    # dvc.yaml calls `first` anew: it makes the same, so what needs it is not even tried
    project.write("dvc.yaml", (project.folder / "dvc.yaml").read_text().replace("first slow", "first  slow"))
    dry = run(project, "--dry", "all")
    assert (dry.returncode, set(dry.stdout.split())) == (0, {"first", "second", "all"})
    third = run(project, "all")
    lines = third.stdout.splitlines()
    assert third.returncode == 0 and lines[0].startswith("1 stage of 4 to run, about ")
    assert lines[1].startswith("2 stages after that if their inputs change, about ")
    assert lines[2].split()[0] == "first" and "left" not in lines[2]
    assert lines[3].endswith("; 2 stages had the same inputs as before") and len(lines) == 4

    # and what DVC knows comes back without a run
    (project.folder / "second.txt").unlink()
    fourth = run(project)
    assert fourth.returncode == 0 and "from the cache" in fourth.stdout
    assert (project.folder / "other.txt").exists() and (project.folder / "second.txt").exists()


def test_the_longest_way_goes_first_by_what_was_measured_or_dvc_yaml_says(project):
    stage = lambda name, seconds, *deps: dict(  # noqa: E731
        cmd=f"echo {name} | tee {name}.txt >> order",
        deps=[*deps],
        outs=[f"{name}.txt"],
        meta=dict(seconds=seconds),
    )
    project.stages(a=stage("a", 10), b=stage("b", 30), c=stage("c", 5), d=stage("d", 100, "c.txt"))
    project.write(".fasa/seconds.json", json.dumps({"a": 50}))
    assert run(project, "-j", "1").returncode == 0
    order = project.folder / "order"
    assert order.read_text().split() == ["c", "d", "a", "b"]
    measured = json.loads((project.folder / ".fasa" / "seconds.json").read_text())
    assert measured.keys() == {"a", "b", "c", "d"} and 0 < max(measured.values()) < 50

    # but what an earlier pattern asks for goes before all that
    order.unlink()
    for name in "abcd":
        (project.folder / f"{name}.txt").unlink()
    shutil.rmtree(project.folder / ".dvc" / "cache")
    assert run(project, "-j", "1", "--here", "b", "d", "*").returncode == 0
    assert order.read_text().split() == ["b", "c", "d", "a"]


def rows(project, *names):
    """Data, a stage for each row whose metrics git holds, and a table of these: each notes that it runs."""
    project.stages(
        data=dict(cmd="echo data >> order; mkdir data; cat machine > data/all.txt", outs=["data"]),
        train=dict(
            foreach=list(names),
            do=dict(
                cmd="echo ${item} >> order; echo -n ${item} of '' | cat - data/all.txt > ${item}.pth; "
                "echo '{}' > results/${item}.json",
                deps=["data"],
                outs=["${item}.pth"],
                metrics=[{"results/${item}.json": dict(cache=False)}],
            ),
        ),
        table=dict(cmd="echo table >> order; ls results > table.md", deps=["results"], outs=["table.md"]),
    )


def ran(project):
    """The stages that have run since this was last asked."""
    order = project.folder / "order"
    names = order.read_text().split() if order.exists() else []
    order.unlink(missing_ok=True)
    return names


def test_in_a_clone_what_has_run_elsewhere_is_made_only_where_it_is_read(project):
    project.write(".gitignore", "/order\n/machine\n/.fasa\n/.site\n")
    project.write("results/.gitignore", "")
    project.write("machine", "the first")
    rows(project, "a", "b")
    for names in (["data", "train@a", "table"], ["train@b"], ["table"]):  # a folder that grows is another
        assert run(project, "-j", "1", "--only", *names).returncode == 0
        assert ran(project) == [name.removeprefix("train@") for name in names]
    commit = "git add . && git -c user.name=t -c user.email=t@example.org commit -qm rows"
    assert project.call("sh", "-c", f"{commit} && git clone -q . ../clone").returncode == 0
    project.folder = project.folder.with_name("clone")
    lock = project.folder / "dvc.lock"
    before = lock.read_text()

    nothing = run(project)
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout.startswith(
        "nothing to do: 4 stages up to date; of 4 stages the outputs are elsewhere"
    )

    # a row more, where other bytes come out: a and b would be of other data than c
    rows(project, "a", "b", "c")
    for machine in ("the second", "the third"):
        project.write("machine", machine)
        done = run(project)
        assert done.returncode == 1 and "data: makes other bytes here than dvc.lock has" in done.stdout
        assert done.stderr == "error: data failed, see above; the same command goes on from there\n"
        assert ran(project) == ["data"] and lock.read_text() == before

    project.write("machine", "the first")
    done = run(project, "-j", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 stages of 5 to run, ")
    assert ran(project) == ["data", "c", "table"]
    assert (project.folder / "table.md").read_text().split() == ["a.json", "b.json", "c.json"]
    old, new = (yaml.safe_load(text)["stages"] for text in (before, lock.read_text()))
    assert new.keys() == {*old, "train@c"}
    assert {name for name in old if old[name] != new[name]} == {"table"}
    status = project.call(sys.executable, "-m", "fasa", "status").stdout.splitlines()
    assert status[-3].split() == ["all", "3", "2", "-", "-", "-"]
    assert status[-1].startswith("`fasa run --here` makes here what is away, too: 2 stages at most, ")

    # what git holds and is gone runs again, what is in the cache comes back, and the rest if it is asked for
    (project.folder / "results" / "b.json").unlink()
    (project.folder / "c.pth").write_text("edited")
    assert run(project).returncode == 0
    assert ran(project) == ["b"] and (project.folder / "c.pth").read_text() == "c of the first"
    assert run(project, "--here").returncode == 0
    assert ran(project) == ["a"]
    assert run(project, "--here").stdout == "nothing to do: 5 stages up to date\n"


def test_a_folder_of_results_that_no_row_has_run_into_is_empty(project):
    done = "mkdir -p results/cost; echo 1 > results/cost/a.json"
    project.stages(
        cost=dict(cmd=done, outs=["results/cost/a.json"]),
        table=dict(cmd="ls results/* > table.md", deps=["results/cost", "results/none"], outs=["table.md"]),
    )
    assert run(project, "--only", "table").returncode == 0
    assert (project.folder / "table.md").read_text().split() == ["results/cost:", "results/none:"]
    assert run(project).returncode == 0
    assert "a.json" in (project.folder / "table.md").read_text()


def test_stages_that_want_to_be_alone_run_one_after_the_other_and_beside_nothing(project):
    # each refuses to run beside another, by a folder that exists as long as it runs
    guarded = "mkdir busy && sleep 0.5 && rmdir busy && touch {0}.txt"
    lonely = {name: dict(cmd=guarded.format(name), outs=[f"{name}.txt"]) for name in "abc"}
    for name in "ab":
        lonely[name]["meta"] = dict(alone=True)
    project.stages(**lonely)
    done = run(project, "-j", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:-1]] == ["c", "a", "b"]


def test_what_has_begun_when_a_stage_fails_ends_and_nothing_else_begins(project):
    # `good` ends when DVC's process of `bad` has: before, nobody can know that it failed
    bad = "echo $PPID > bad.pid; python meet.py bad good; echo 'error: out of luck'; exit 1"
    good = "python meet.py good bad && while kill -0 $(cat bad.pid); do sleep 0.02; done; touch good.txt"
    project.stages(
        bad=dict(cmd=bad, outs=["bad.out"]),
        good=dict(cmd=good, outs=["good.txt"]),
        later=dict(cmd="touch later.txt", deps=["good.txt"], outs=["later.txt"]),
    )
    done = run(project, "-j", "2")
    assert done.returncode == 1
    assert done.stderr == "error: bad failed, see above; the same command goes on from there\n"
    assert "bad: error: out of luck" in done.stdout.splitlines()
    assert (project.folder / "good.txt").exists() and not (project.folder / "later.txt").exists()
    assert locked(project) == {"good"}


def test_each_of_several_gpus_goes_to_one_stage_and_all_to_one_that_is_alone(project):
    show = "python meet.py {0} {1}; echo $CUDA_VISIBLE_DEVICES > {0}.gpu"
    project.stages(
        a=dict(cmd=show.format("a", "b"), outs=["a.gpu"]),
        b=dict(cmd=show.format("b", "a"), outs=["b.gpu"]),
        c=dict(cmd=show.format("c", ""), outs=["c.gpu"], meta=dict(alone=True)),
    )
    done = run(project, CUDA_VISIBLE_DEVICES="3,5")
    assert done.returncode == 0, done.stdout
    seen = {name: (project.folder / f"{name}.gpu").read_text().strip() for name in "abc"}
    assert {seen["a"], seen["b"]} == {"3", "5"} and seen["c"] == "3,5"


@pytest.mark.parametrize("launch", ["torchrun --nproc_per_node=2", "srun -n16"])
def test_a_stage_with_a_launcher_takes_as_many_gpus_as_it_starts_ranks(project, launch):
    """And counts as so many stages; where Slurm finds the GPUs it is one, and told nothing of them."""
    srun = launch.startswith("srun")
    together = "python meet.py a b c", "python meet.py b a c", "python meet.py c a b"
    apart = "mkdir busy && sleep 0.5 && rmdir busy"
    commands = together if srun else (apart, apart, "true")
    show, stages = "{0} && echo $CUDA_VISIBLE_DEVICES > {1}.gpu", {}
    for name, command in zip("abc", commands, strict=True):
        outs = [f"{name}.gpu"]
        stages[name] = dict(cmd=show.format(command, name), outs=outs, meta=dict(ranks=name < "c"))
    project.stages(**stages)
    done = run(project, CUDA_VISIBLE_DEVICES="3,5,7", FASA_LAUNCH=launch)
    assert done.returncode == 0, done.stdout
    gpus = {name: set((project.folder / f"{name}.gpu").read_text().strip().split(",")) for name in "abc"}
    assert len(gpus["c"]) == 1
    if srun:
        assert gpus["a"] == gpus["b"] == {"3", "5", "7"}
    else:
        assert len(gpus["a"]) == len(gpus["b"]) == 2


def test_ctrl_c_ends_stages_in_order_and_the_same_command_goes_on(project, wait_until):
    project.stages(
        fast=dict(cmd="touch fast.txt", outs=["fast.txt"]),
        slow=meet("slow", "never", deps=["fast.txt"]),
        also=meet("also", "never", deps=["fast.txt"]),
    )
    process = project.start(sys.executable, "-m", "fasa", "run", "-j", "2")
    wait_until(lambda: len(list(project.folder.glob("*.begun"))) == 2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4  # two dvc, two commands
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "error: interrupted; the same command goes on from there\n")
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert locked(project) == {"fast"}

    project.write("never.begun", "")
    again = run(project)
    assert again.returncode == 0 and locked(project) == {"fast", "slow", "also"}


@pytest.mark.parametrize(
    ("arguments", "threads", "message"),
    [
        (["two"], 1, "no stage of dvc.yaml is called 'two'; dvc stage list names them"),
        (
            ["many"],
            1,
            "no stage of dvc.yaml is called 'many', but there are 'many@*'; dvc stage list names them",
        ),
        (["one", "One"], 1, "no stage of dvc.yaml is called 'One'; dvc stage list names them"),
        (["--jobs", "0"], 1, "--jobs 0: must be at least 1"),
        ([], 0, "params.yaml: tiny.threads is 0; it must be a whole number from 1"),
        ([], -1, "params.yaml: tiny.threads is -1; it must be a whole number from 1"),
        ([], True, "params.yaml: tiny.threads is True; it must be a whole number from 1"),
        ([], "2", "params.yaml: tiny.threads is '2'; it must be a whole number from 1"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(project, arguments, threads, message, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    project.write("params.yaml", yaml.safe_dump(dict(profiles=["tiny"], tiny=dict(threads=threads))))
    many = dict(foreach=["a"], do=dict(cmd="touch ${item}.txt", outs=["${item}.txt"]))
    project.stages(one=dict(cmd="touch one.txt", outs=["one.txt"]), many=many)
    assert main(arguments) == 1
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert not (project.folder / "one.txt").exists()


def test_a_dvc_yaml_that_dvc_cannot_read_is_one_line(project):
    project.write("dvc.yaml", "stages:\n  one: {cmd: true, depz: [x]}\n")
    done = run(project)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ") and "dvc.yaml" in done.stderr


QUIET = """
import time
print("6/48", "loud.py:7: UserWarning: too loud", "  loud()", sep="\\n", flush=True)
time.sleep(2)
"""


def test_how_far_a_stage_is_outlasts_a_warning(project, monkeypatch, capsys):
    project.write("quiet.py", QUIET)
    project.stages(quiet=dict(cmd="python quiet.py"))
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("fasa.pipeline.side_by_side.HEARTBEAT", 1)
    main(["quiet"])
    said = {line for line in capsys.readouterr().out.splitlines() if line.startswith("  ... ")}
    assert "  ... quiet: 6/48" in said and not any("loud" in line for line in said)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (11100, "3 h 05 min")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_of_what_failed_our_own_line_is_shown_else_the_last_ones():
    lines = ["Running stage 'a':", "error: a.json: no such file; make it", "ERROR: failed to reproduce 'a'"]
    assert failure(lines, 1) == ["error: a.json: no such file; make it"]
    assert failure([str(i) for i in range(30)], 1) == [str(i) for i in range(10, 30)]
    assert failure([], -9) == ["ended with status -9 and without a word"]


def test_stages_of_other_files_are_meant_by_their_file_alone(project):
    """Tuning would cost hours that nobody asked for."""
    project.stages(first=meet("first"))
    second = dict(cmd="touch second.txt", outs=["second.txt"])
    project.write("tuning/dvc.yaml", yaml.safe_dump(dict(stages=dict(second=second))))
    assert run(project, "*").returncode == 0 and locked(project) == {"first"}
    assert not (project.folder / "tuning/second.txt").exists()
    assert run(project, "tuning/dvc.yaml:sec*").returncode == 0
    assert (project.folder / "tuning/second.txt").exists()


class Meta:
    """A graph that says the same of every stage."""

    def __init__(self, seconds):
        self.seconds = seconds

    def meta(self, name, key):
        return self.seconds


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("train@mine-plain-0", {"mine": 7}, 40),  # measured itself
        ("train@mine-fasa-0", {"mine": 7}, 50),  # the mean of its family at its scale
        ("evaluate@mine-plain-0", {"mine": 7}, 7),
        ("train@lvis-plain-0", {"mine": 7}, None),  # a laptop's seconds say nothing of it
        ("plan", 7, 7),
    ],
)
def test_how_long_a_stage_takes_is_known_from_its_own_scale(name, said, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".fasa").mkdir()
    measured = {"train@mine-plain-0": 40, "train@mine-plain-1": 60, "train@other-plain-0": 1}
    (tmp_path / ".fasa" / "seconds.json").write_text(json.dumps(measured))
    assert Durations(Meta(said)).of(name) == expected
