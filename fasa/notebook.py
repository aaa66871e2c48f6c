"""What a notebook calls to live in two worlds: run by the pipeline, or opened in JupyterLab.

The pipeline computes. By hand a notebook reads and draws what the pipeline has left:

from fasa import notebook
from fasa.notebook import made, output, start, under_pipeline, work_dir

start()

job = notebook.job("data@embedded")  # in the cell tagged "parameters"; the pipeline's own comes after it

if under_pipeline():
    output("results/numbers.json").write_text(slow(job, work_dir()))

made("results/numbers.json").read_text()
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from fasa.errors import UserError
from fasa.pipeline.project import read_job, root

_opened = ""  # the stage whose job a notebook that was opened by hand has asked for


def under_pipeline() -> bool:
    """Whether `fasa.pipeline.run` executes this notebook; otherwise a person has opened it."""
    return "FASA_WORK_DIR" in os.environ


def start() -> None:
    """Go to the repository's root, which all paths start from: JupyterLab starts in the notebook's folder.

    By hand a `UserError` then says its line, without a traceback, and ends the run of all cells.
    """
    os.chdir(root())
    ipython = sys.modules.get("IPython")  # which a stage need not depend on
    if under_pipeline():
        return
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # mmengine's matter
    if ipython and (shell := ipython.get_ipython()):
        shell.set_custom_exc((UserError,), _say)


def _say(shell: Any, kind: type, error: UserError, traceback: Any, tb_offset: int | None = None) -> None:
    print(error)


def job(stage: str) -> dict[str, Any]:
    """The settings of a stage, to look at by hand: ``job("train@embedded-mask_rcnn_fasa-0")``.

    Nothing under the runner, whose own cell comes next.

    Raises:
        UserError: nothing of that name is planned.
    """
    global _opened
    if under_pipeline():
        return {}
    _opened = stage
    return read_job(stage)["settings"]


def output(path: str | Path) -> Path:
    """Where to write an output of the pipeline: there if DVC runs this, else below ``scratch/``.

    Makes the folder it lies in.
    """
    path = Path(path) if "DVC_STAGE" in os.environ else Path("scratch", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def made(path: str | Path) -> Path:
    """Where to read what the pipeline makes: what this run has just made, or else what it has left.

    Raises:
        UserError: it is not there.
    """
    path = Path(path)
    if under_pipeline() and (mine := output(path)).exists():
        return mine
    if not path.exists():
        raise UserError(
            f"{path} is not here yet: the pipeline makes it. In a terminal: fasa run --here '{_opened}'"
        )
    return path


def work_dir(*parts: str) -> Path:
    """A folder for checkpoints and logs of unfinished work, made if need be; under the runner alone.

    It survives an interruption, belongs to these very inputs (code, data, parameters), and is removed when
    the stage succeeds. ``parts`` name a folder in it, such as ``"seed-0"``.
    """
    folder = Path(os.environ["FASA_WORK_DIR"], *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
