"""The command `fasa`: what it hands over to, and what it says when an extra is missing."""

import importlib
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fasa import __version__
from fasa.cli import COMMANDS, main
from fasa.pipeline import closure

ROOT = Path(__file__).parents[1]
TOML = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = TOML["project"]


def test_the_command_is_installed():
    assert PROJECT["scripts"] == {"fasa": "fasa.cli:main"}


def test_the_wheel_holds_every_file_of_the_package():
    listed = subprocess.run(["git", "ls-files", "fasa"], cwd=ROOT, capture_output=True, text=True, check=True)
    code = (".py", ".cpp")  # modules, and what is compiled into one
    names = [Path(line).name for line in listed.stdout.splitlines() if not line.endswith(code)]
    patterns = TOML["tool"]["setuptools"]["package-data"]["*"]
    assert {"py.typed", "appendix.yaml"} <= set(names)
    assert [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)] == []


def test_alone_it_lists_its_commands_and_help_and_version_exit_with_0(capsys):
    assert main([]) == 2
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    for argument, text in (("--help", listed), ("--version", f"fasa {__version__}\n")):
        with pytest.raises(SystemExit) as info:
            main([argument])
        assert (info.value.code, capsys.readouterr().out) == (0, text)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_main_that_takes_arguments(name, capsys):
    module, extra, _ = COMMANDS[name]
    assert extra in PROJECT["optional-dependencies"]
    for call in (main, lambda argv: importlib.import_module(module).main(argv[1:])):
        with pytest.raises(SystemExit) as info:
            call([name, "--help"])
        assert info.value.code == 0 and "usage:" in capsys.readouterr().out


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as info:
        main(["evluate"])
    assert info.value.code == 2 and "evluate" in capsys.readouterr().err


# only what `pip install fasa` brings: everything else cannot be imported
CORE = """
import sys
CORE = {"torch", "numpy", "sklearn", "scipy", "joblib", "threadpoolctl", "fasa"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if path is None and top not in CORE | sys.stdlib_module_names and top in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from fasa.cli import main
sys.exit(main(sys.argv[1:]))
"""
EXTRAS = [
    "cv2",
    "dvc",
    "ipykernel",
    "jupyterlab",
    "lvis",
    "matplotlib",
    "mmcv",
    "mmdet",
    "mmengine",
    "msgspec",
]
EXTRAS += [
    "nbformat",
    "papermill",
    "PIL",
    "pooch",
    "psutil",
    "pycocotools",
    "ruamel",
    "skimage",
    "tqdm",
    "yaml",
]


@pytest.mark.parametrize(("name", "extra"), [(name, extra) for name, (_, extra, _) in COMMANDS.items()])
def test_with_the_core_alone_each_command_names_its_extra(name, extra):
    program = f"EXTRAS = {EXTRAS}\n{CORE}"
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: fasa {name} needs ")
    assert (
        done.stderr.endswith(f": pip install '.[{extra}]' in a checkout\n") and done.stderr.count("\n") == 1
    )


def needed(lines):
    """The distributions that lines of pyproject.toml bring."""
    found = set()
    for one in map(Requirement, lines):
        if one.name == "fasa":
            found |= set().union(*(needed(PROJECT["optional-dependencies"][extra]) for extra in one.extras))
        else:
            found |= closure.requirements(canonicalize_name(one.name))
    return found


@pytest.mark.parametrize(("module", "extra"), [(module, extra) for module, extra, _ in COMMANDS.values()])
def test_an_extra_brings_all_that_its_commands_import(module, extra, monkeypatch):
    monkeypatch.chdir(ROOT)
    brought = needed(PROJECT["dependencies"]) | needed(PROJECT["optional-dependencies"][extra])
    _, packages = closure.closure([module])
    packages -= {"mmcv"}  # which `check` tries, and says whether it is there
    for package in packages:
        from_ = {canonicalize_name(one) for one in closure.distributions().get(package, [])}
        assert not from_ or from_ & brought, package


@pytest.mark.parametrize("command", ["status", "run"])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("profiles:", "profile:", "profile is unknown"),
        ("  - embedded\n\nrun:", "\nrun:", "params.yaml: profiles: Expected `array`, got `null`"),
        (
            "    - 0\n    - 1\n    - 2\n\nshown",
            "\nshown",
            "params.yaml: run.seeds: Expected `array`, got `null`",
        ),
    ],
)
def test_what_dvc_trips_over_is_told_of_params(command, old, new, message, tmp_path, monkeypatch, capsys):
    for name in ("dvc.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    text = (ROOT / "params.yaml").read_text()
    assert text.count(old) == 1
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["dvc", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
