"""The set-up script on made-up machines: a PATH that holds only what a test puts there."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

SCRIPT = Path(__file__).parents[1] / "setup.sh"
BASH = shutil.which("bash")


class Machine:
    """A folder to set up, and commands to find there."""

    def __init__(self, root: Path):
        self.root, self.bin = root / "checkout", root / "bin"
        self.root.mkdir()
        self.bin.mkdir()
        for tool in ("awk", "cut", "du", "nproc", "tail", "tee"):
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.command("python3.11", f'exec {sys.executable} "$@"')
        self.command("c++", "exit 0")
        self.disk(50)

    def command(self, name: str, script: str) -> None:
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link to the real one
        path.write_text(f"#!{BASH}\n{script}\n")
        path.chmod(0o755)

    def disk(self, gigabytes: int) -> None:
        self.command("df", f"echo Filesystem; echo disk 0 0 {gigabytes}000000 0% /")

    def run(self, call: str = "check_machine", stdin: str = "", **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [BASH, "-c", f"source {SCRIPT}; {call}"],
            cwd=self.root,
            env={"PATH": str(self.bin), **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def refusal(self, **env: str) -> str:
        """Return the one line with which the checks fail."""
        done = self.run(**env)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_that_has_all_passes_silently(machine):
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("script", ["exit 1", "echo 'no such version, install it' >&2; exit 127"])
def test_too_old_a_python_and_a_version_managers_placeholder(machine, script):
    machine.command("python3.11", script)
    assert "Python >= 3.11 not found" in machine.refusal()


def test_the_named_python_is_the_only_one_tried(machine):
    machine.command("python2", "exit 1")
    assert "(tried: python2)" in machine.refusal(PYTHON="python2")
    assert machine.run("find_python; echo $PYTHON", PYTHON="python3.11").stdout == "python3.11\n"


def test_a_later_python_is_found(machine):
    (machine.bin / "python3.11").rename(machine.bin / "python3.13")
    assert machine.run("find_python; echo $PYTHON").stdout == "python3.13\n"


def test_python_without_venv_or_headers(machine):
    real = f'exec {sys.executable} "$@"'
    machine.command("python3.11", f"[[ $2 == *ensurepip* ]] && exit 1; {real}")
    assert "python3.11 has no venv" in machine.refusal()
    machine.command("python3.11", f"[[ $2 == *Python.h* ]] && exit 1; {real}")
    assert "Python.h" in machine.refusal()


def test_missing_compiler(machine):
    (machine.bin / "c++").unlink()
    assert "no working C++17 compiler (tried: c++, g++, clang++)" in machine.refusal()


def test_broken_compiler(machine):
    machine.command("c++", "exit 1")
    assert "no working C++17 compiler" in machine.refusal()
    machine.command("clang++", "exit 0")
    assert machine.run("find_compiler; echo $CXX").stdout == "clang++\n"


def test_the_named_compiler_is_the_only_one_tried(machine):
    assert "(tried: icpx)" in machine.refusal(CXX="icpx")


def test_too_little_disk(machine):
    machine.disk(9)
    assert "9 GB of disk free" in machine.refusal()
    assert "9 GB of disk free" in machine.refusal(DISK_GB="12")
    assert machine.run(DISK_GB="4").returncode == 0


def test_disk_that_setup_has_taken_already_is_not_asked_for_again(machine):
    machine.disk(9)
    (machine.root / ".venv").mkdir()
    machine.command("du", "printf '900000\\t.venv\\n'")
    assert "9 GB of disk free" in machine.refusal()
    machine.command("du", "printf '1000000\\t.venv\\n'")
    assert machine.run().returncode == 0
    machine.disk(1)
    (machine.root / ".venv/.ready").touch()
    assert machine.run().returncode == 0


def test_gpu_without_nvcc(machine):
    machine.command("nvidia-smi", "echo 'GPU 0: NVIDIA H100 (UUID: GPU-0)'")
    toolkit = machine.root / "cuda"  # named, because this machine's own may lie in /usr/local/cuda
    assert "nvcc is not" in machine.refusal(CUDA_HOME=str(toolkit))
    assert machine.run(CUDA_HOME=str(toolkit), CUDA_VISIBLE_DEVICES="").returncode == 0
    assert machine.run(CUDA_HOME=str(toolkit), CUDA_VISIBLE_DEVICES="-1").returncode == 0
    assert machine.run(CUDA_HOME=str(toolkit), CUDA_VISIBLE_DEVICES="0").returncode == 1
    machine.command("../checkout/cuda/bin/nvcc", "exit 0")
    assert machine.run(CUDA_HOME=str(toolkit)).returncode == 0


def test_a_login_node_builds_for_the_gpus_that_are_named(machine):
    toolkit = str(machine.root / "cuda")
    assert "name them: make FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST" in machine.refusal(FORCE_CUDA="1")
    forced = dict(FORCE_CUDA="1", TORCH_CUDA_ARCH_LIST="9.0", CUDA_HOME=toolkit)
    assert f"FORCE_CUDA is 1 but nvcc is not there in {toolkit}/bin" in machine.refusal(**forced)
    machine.command("../checkout/cuda/bin/nvcc", "exit 0")
    assert machine.run(**forced).returncode == 0


def test_the_build_is_told_what_to_build_for(machine):
    (machine.root / ".venv").mkdir()
    told = machine.root / "told"
    script = f'echo "$FORCE_CUDA $TORCH_CUDA_ARCH_LIST" > {told}'
    machine.command("../checkout/.venv/bin/python", script)
    assert machine.run("install_mmcv", FORCE_CUDA="1", TORCH_CUDA_ARCH_LIST="8.0;9.0").returncode == 0
    assert told.read_text() == "1 8.0;9.0\n"


@pytest.mark.parametrize(("kept", "builds"), [("CPU", [False, True]), ("CUDA", [False])])
def test_forced_an_mmcv_for_the_cpu_is_built_anew(machine, kept, builds):
    """Its ops run on a login node, which has no GPU to try them on."""
    calls = machine.root / "calls"
    works = f"""[[ "$*" != *compiling_cuda* || {kept} == CUDA || "$(< {calls})" == *no-cache-dir* ]]"""
    script = f"""echo "$*" >> {calls}; {works}"""
    machine.command("../checkout/.venv/bin/python", script)
    done = machine.run("install_packages", FORCE_CUDA="1", TORCH_CUDA_ARCH_LIST="9.0")
    assert done.returncode == 0, done.stderr
    lines = [line for line in calls.read_text().splitlines() if line.endswith(" mmcv")]
    assert ["--no-cache-dir" in line for line in lines] == builds


def test_forced_a_torch_without_cuda_is_refused(machine):
    machine.command("../checkout/.venv/bin/python", '[[ "$*" != *torch.version.cuda* ]]')
    done = machine.run("install_packages", FORCE_CUDA="1", TORCH_CUDA_ARCH_LIST="9.0")
    assert done.returncode == 1 and "pip finds a CPU build of torch" in done.stderr


def test_a_driver_without_a_gpu_needs_no_nvcc(machine):
    machine.command("nvidia-smi", "echo 'No devices were found'; exit 6")
    assert machine.run(CUDA_HOME="/nowhere").returncode == 0


def test_progress_is_ninjas_count_alone(machine):
    log = "Collecting mmcv\n" + "".join(
        f"  [{i}/40] c++ -c {i}.cpp\nwarning: [-Wall]\n" for i in range(1, 41)
    )
    lines = machine.run("show_progress", stdin=log).stdout.splitlines()
    assert len(lines) == 11  # the first, then every tenth of the way
    assert lines[0].startswith("  [ 1/40] ")
    # how much is gone depends on the machine; nothing is left
    assert re.fullmatch(r"  \[40/40\] \d:\d\d gone, about 0:00 left *", lines[-1])


def test_a_failed_build_shows_its_last_lines_and_names_the_log(machine):
    machine.command(
        "../checkout/.venv/bin/python", "echo first; seq 20; echo 'ops.cpp: error: no such header'; exit 1"
    )
    (machine.bin / "seq").symlink_to(shutil.which("seq"))
    done = machine.run("install_mmcv")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-2:] == [
        "ops.cpp: error: no such header",
        "error: mmcv did not build; the last lines are above, all of them in .venv/mmcv-build.log",
    ]
    assert len(lines) == 16
    assert (machine.root / ".venv/mmcv-build.log").read_text().startswith("first\n")


def test_an_interrupted_setup_leaves_no_stamp_and_starts_over(machine):
    for tool in ("dirname", "rm", "touch"):
        (machine.bin / tool).symlink_to(shutil.which(tool))
    shutil.copy(SCRIPT, machine.root)
    machine.command("python3.11", f'[[ $2 != venv ]] || exit 0; exec {sys.executable} "$@"')
    machine.command("../checkout/.venv/bin/dvc", "exit 0")
    python, ready = "../checkout/.venv/bin/python", machine.root / ".venv/.ready"
    setup = f"{BASH} {machine.root / SCRIPT.name}"

    machine.command(python, '[[ "$*" != *dev* ]]')  # pip fails on the last package
    done = machine.run(setup)
    assert done.returncode != 0
    assert "Creating .venv" not in done.stdout  # there was one, and nothing known against it
    assert not ready.exists()

    machine.command(python, "exit 0")
    done = machine.run(setup)
    assert done.returncode == 0, done.stderr
    assert "Creating .venv" in done.stdout
    assert ready.exists()

    assert "Creating .venv" not in machine.run(setup).stdout


def test_a_checkout_that_was_moved_is_set_up_anew(machine):
    for tool in ("dirname", "rm", "touch"):
        (machine.bin / tool).symlink_to(shutil.which(tool))
    shutil.copy(SCRIPT, machine.root)
    (machine.root / ".venv").mkdir()
    machine.command("python3.11", f'[[ $2 != venv ]] || exit 0; exec {sys.executable} "$@"')
    for tool in ("dvc", "python"):
        machine.command(f"../checkout/.venv/bin/{tool}", "exit 0")
    setup = f"{BASH} ./{SCRIPT.name}"
    assert "Creating .venv" not in machine.run(setup).stdout
    assert (machine.root / ".venv/.ready").read_text() == f"{machine.root}/.venv\n"
    assert "Creating .venv" not in machine.run(setup).stdout
    machine.root = machine.root.rename(machine.root.with_name("moved"))
    assert "Creating .venv" in machine.run(setup).stdout
    assert (machine.root / ".venv/.ready").read_text() == f"{machine.root}/.venv\n"


def test_make_sets_up_when_the_stamp_is_missing_older_than_the_pins_or_of_another_place(tmp_path):
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(SCRIPT.with_name(name), tmp_path)
    (tmp_path / ".venv").mkdir()
    stamp = tmp_path / ".venv/.ready"

    def sets_up():
        make = ["make", "--dry-run", ".venv/.ready"]
        done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True)
        return "./setup.sh" in done.stdout

    assert sets_up()
    for place, wanted in (("/elsewhere/.venv", True), (f"{tmp_path}/.venv", False), ("", False)):
        stamp.write_text(place)
        assert sets_up() == wanted, place
    os.utime(stamp, (0, 0))
    assert sets_up()


def test_mmcv_is_built_anew_when_pips_copy_does_not_run(machine):
    calls = machine.root / "calls"
    script = f"""echo "$*" >> {calls}; [[ "$*" != *ops_error* || "$(< {calls})" == *no-cache-dir* ]]"""
    machine.command("../checkout/.venv/bin/python", script)
    done = machine.run("install_packages")
    assert done.returncode == 0, done.stderr
    builds = [line for line in calls.read_text().splitlines() if line.endswith(" mmcv")]
    assert ["--no-cache-dir" in line for line in builds] == [False, True]


def test_the_script_runs_as_make_calls_it():
    assert os.access(SCRIPT, os.X_OK)


def test_what_is_pinned_runs_on_the_oldest_python_we_promise():
    project = tomllib.loads((SCRIPT.parent / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    asked = {one.name: one.metadata.get("Requires-Python") or "" for one in distributions()}
    assert len(asked) > 50  # what `make` installed, and tests run in
    assert {name: python for name, python in asked.items() if oldest not in SpecifierSet(python)} == {}
