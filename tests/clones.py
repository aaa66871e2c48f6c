"""Clones of this checkout, work in progress included, to run the real pipeline in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | dict(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
yaml = YAML()


def cloned(folder: Path, **values) -> Path:
    """Make a clone with these values in its params.yaml, and nothing cached."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file() and Path(name).name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    change(folder, **values)
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "."],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "tiny"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def change(folder: Path, **values) -> str:
    """Put values into params.yaml; returns what it was."""
    path = folder / "params.yaml"
    before = path.read_text()
    yaml.dump(yaml.load(before) | values, path)
    return before


def dvc(folder: Path, *arguments, **environment) -> subprocess.CompletedProcess:
    """Run dvc there."""
    return called(folder, "dvc", *arguments, **environment)


def fasa(folder: Path, *arguments, **environment) -> subprocess.CompletedProcess:
    """Run our command there."""
    return called(folder, sys.executable, "-m", "fasa", *arguments, **environment)


def called(folder: Path, *command, **environment) -> subprocess.CompletedProcess:
    """Run a command there, with this Python's tools in reach."""
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True)
