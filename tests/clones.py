"""A clone of this checkout, work in progress included, for tests of the whole pipeline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | dict(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
yaml = YAML()


def change(folder, **values):
    """Put values into params.yaml; returns what it was."""
    path = folder / "params.yaml"
    before = path.read_text()
    yaml.dump(yaml.load(before) | values, path)
    return before


def clone(folder, **values):
    """Make a clone with these values in params.yaml, committed, and nothing run; returns its folder."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file() and name not in ("dvc.lock", "tuning/dvc.lock"):
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
