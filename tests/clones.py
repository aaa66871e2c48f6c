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


def one_row(row: str) -> dict:
    """What params.yaml says for one row and one seed at the tiny scale, with several batches in ``val``."""
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["tiny"]["data"]["images"]["val"] = 20
    tuning = {name: study | dict(seeds=[0]) for name, study in params["tuning"].items()}
    run = dict(rows=[row], seeds=[0])
    return dict(profiles=["tiny"], run=run, repro=[row], tuning=tuning, tiny=params["tiny"])


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


def ran(text: str, row: str) -> bool:
    """Whether all lines of a part of a report that are of a row have numbers of its own."""
    lines = [line for line in text.splitlines() if f"`{row}`" in line]
    return bool(lines) and not any("not run" in line for line in lines)
