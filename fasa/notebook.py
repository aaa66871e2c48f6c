"""What a notebook calls to live in two worlds: run by the pipeline, or opened in JupyterLab.

from fasa import notebook
from fasa.notebook import output, start, work_dir

start()

job = notebook.job("data@embedded")  # in the cell tagged "parameters"; the pipeline's own comes after it
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from fasa.pipeline.project import read_job, root


def start() -> None:
    """Go to the repository's root, which all paths start from: JupyterLab starts in the notebook's folder."""
    os.chdir(root())


def job(stage: str) -> dict[str, Any]:
    """The settings of a stage, to look at by hand: ``job("train@embedded-mask_rcnn_fasa-0")``.

    Nothing under the runner, whose own cell comes next.

    Raises:
        UserError: nothing of that name is planned.
    """
    return {} if "FASA_WORK_DIR" in os.environ else read_job(stage)["settings"]


def output(path: str | Path) -> Path:
    """Where to write an output of the pipeline: there if DVC runs this, else below ``scratch/``.

    Makes the folder it lies in.
    """
    path = Path(path) if "DVC_STAGE" in os.environ else Path("scratch", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def work_dir(*parts: str) -> Path:
    """A folder for checkpoints and logs of unfinished work, made if need be.

    Under the pipeline it survives an interruption, belongs to these very inputs (code, data, parameters), and
    is removed when the stage succeeds. By hand it is new every time: what another run left is not taken up.
    ``parts`` name a folder in it, such as ``"seed-0"``.
    """
    work = os.environ.get("FASA_WORK_DIR")
    if work is None:
        Path("scratch").mkdir(exist_ok=True)
        work = tempfile.mkdtemp(prefix="work-", dir="scratch")
    folder = Path(work, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
