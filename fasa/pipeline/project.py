"""Where the repository is, and what the plan has written there."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from fasa.errors import UserError

JOBS, NOTEBOOKS = Path("build", "jobs"), Path("build", "notebooks")


def root() -> Path:
    """The repository's root: the nearest folder, from the current one upward, that holds dvc.yaml.

    Never taken from ``DVC_ROOT``: under ``dvc exp run --temp`` that names the user's checkout, not the copy
    in which the stage runs.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"no dvc.yaml in {here} or above it: call this from inside the repository")


def read_job(stage: str) -> dict[str, Any]:
    """What the plan says of a stage, ``train@embedded-mask_rcnn-0``; see `fasa.pipeline.plan`.

    Raises:
        UserError: it plans no such stage.
    """
    path = root() / JOBS / f"{stage}.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such job; run: dvc repro plan (dvc stage list --all names the stages)"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: cut off or not JSON ({error}); run: dvc repro -f plan") from None


def executed(stage: str) -> Path:
    """Where the executed notebook of a stage is kept: ``executed/embedded/train-mask_rcnn-0.ipynb``."""
    family, _, instance = stage.partition("@")
    profile, _, rest = instance.partition("-")
    return Path("executed", profile, f"{family}-{rest}.ipynb" if rest else f"{family}.ipynb")


def note_modules(process: str) -> None:
    """Write down, under the runner, which modules of fasa a process of a stage has imported.

    The runner compares them with the job: what is not in it would not run the stage again when it changes.
    """
    if work := os.environ.get("FASA_WORK_DIR"):
        mine = sorted(name for name in sys.modules if name.partition(".")[0] == "fasa")
        Path(work, f"modules-{process}.json").write_text(json.dumps(mine))
