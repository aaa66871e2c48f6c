"""What a notebook calls to live in two worlds: run by the pipeline, or opened in JupyterLab.

from fasa import notebook
from fasa.notebook import output, save_figure, start, style, work_dir

start()

job = notebook.job("data@embedded")  # in the cell tagged "parameters"; the pipeline's own comes after it
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasa.errors import UserError
from fasa.files import replacing
from fasa.pipeline.project import read_job, root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too; yellow left out, too pale for lines.
# One colour for one thing: a frequency group's are no row's.
FREQUENCY_COLOURS = dict(r="#D55E00", c="#009E73", f="#56B4E9")
COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#000000")
NO_DATES = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}


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


def style() -> None:
    """Set matplotlib's style: readable sizes, colours for all eyes, nothing of the user's own settings."""
    import matplotlib as mpl

    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.labelsize": 12,
            "axes.prop_cycle": mpl.cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 13,
            "figure.constrained_layout.use": True,
            "figure.figsize": (7.0, 4.2),
            "font.size": 11,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "savefig.dpi": 150,
            "svg.hashsalt": "fasa",
        }
    )


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Save a figure as SVG, PNG or PDF, the same bytes for the same figure: no date, no random ids."""
    import matplotlib as mpl

    path = Path(path)
    if path.suffix not in NO_DATES:
        raise UserError(f"{path}: figures are saved as {', '.join(NO_DATES)}")
    with mpl.rc_context({"svg.hashsalt": "fasa"}), replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], metadata=NO_DATES[path.suffix])
    return path
