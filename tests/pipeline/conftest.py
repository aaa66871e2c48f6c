"""A small repository of its own for each test, and notebooks to run in it."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from fasa.pipeline import strip

CHECKOUT = Path(__file__).parents[2]
FASA = CHECKOUT / "fasa"
# What a notebook that calls fasa.notebook imports, the kernel's own among it.
RUNNING = [
    "__init__.py",
    "errors.py",
    "files.py",
    "notebook.py",
    "pipeline/__init__.py",
    "pipeline/process.py",
    "pipeline/project.py",
]


class Repository:
    """A git and DVC repository in a temporary folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        # a shell that has activated nothing, and DVC's shared files in this folder too
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "FASA_"))
        }
        self.env |= {
            "DVC_SITE_CACHE_DIR": str(folder / ".site"),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
        }
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        self.write(".dvc/config", "[core]\n    analytics = false\n")
        self.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
        folder.joinpath("fasa").symlink_to(FASA)  # a checkout has it
        self.stages()

    def write(self, path: str, text: str) -> Path:
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def notebook(self, path: str, *sources: str, **tagged: str) -> Path:
        """A notebook of these code cells; first those given by a tag, ``parameters="x = 1"``."""
        new = nbformat.v4.new_code_cell
        cells = [new(source, metadata={"tags": [tag]}) for tag, source in tagged.items()]
        cells += [new(source) for source in sources]
        return self.write(path, nbformat.writes(nbformat.v4.new_notebook(cells=cells)))

    def plan(self, stage: str, notebook: str = "n", sources: list[str] = (), **settings) -> Path:
        """Write a stage's job, and the notebook where the runner looks for it."""
        source = self.folder / f"{notebook}.ipynb"
        strip.write(strip.read(source), self.folder / "build" / "notebooks" / source.name)
        hashes = {name: hashlib.md5((self.folder / name).read_bytes()).hexdigest() for name in sources}
        hashes |= {f"fasa/{name}": hashlib.md5((FASA / name).read_bytes()).hexdigest() for name in RUNNING}
        job = dict(stage=stage, notebook=notebook, settings=settings, sources=hashes, packages={})
        return self.write(f"build/jobs/{stage}.json", json.dumps(job))

    def stages(self, **stages: dict) -> None:
        """Write dvc.yaml."""
        self.write("dvc.yaml", yaml.safe_dump({"stages": stages}))

    def start(self, *command: str, **env: str) -> subprocess.Popen:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.env | env, **streams)

    def call(self, *command: str, **env: str) -> subprocess.CompletedProcess:
        process = self.start(*command, **env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run(self, stage: str, by_hand: bool = False, **env: str) -> subprocess.CompletedProcess:
        """The runner, as DVC would call it for a stage, or by hand."""
        env |= {} if by_hand else {"DVC_STAGE": stage}
        return self.call(sys.executable, "-m", "fasa.pipeline.run", *([stage] if by_hand else []), **env)

    def stdout(self, path: str) -> str:
        """All that an executed notebook's cells have printed."""
        cells = nbformat.read(self.folder / path, as_version=4).cells
        return "".join(out.text for cell in cells for out in cell.outputs if out.output_type == "stream")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def make_repository() -> type[Repository]:
    """For tests that need several."""
    return Repository


@pytest.fixture
def wait_until():
    """Waits for a condition, and fails when it does not come."""

    def wait(condition, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    return wait
