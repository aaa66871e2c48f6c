"""What a training tells, while it runs and afterwards: its losses, and what its adaptation did.

The table of losses is written anew with every line that a training prints, see `fasa.detection.progress`, and
the passes beside it with every pass, so to look at them is to watch it.
"""

import asyncio
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from fasa.errors import UserError
from fasa.report.figures import adaptation, nothing_ran
from fasa.report.style import GROUP_COLOURS

LINES = ("-", "--", ":")
EVERY = 5  # seconds


def under_way(stage: str, kept: Path) -> Path | None:
    """The table of a stage that trains at this moment, or was interrupted; None where it has ended.

    Args:
        kept: what it leaves; older tables are of trainings that were given up, with other settings.
    """
    ended = kept.stat().st_mtime if kept.exists() else 0
    tables = {path: path.stat().st_mtime for path in Path(".fasa", stage).glob("*/**/losses.tsv")}
    last = max(tables, key=tables.get, default=None)
    return last if last and tables[last] > ended else None


def read_losses(path: Path) -> dict[str, list[float]]:
    """Columns by name, "iteration" or "epoch" first; without a value where nothing was trained."""
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}


def losses(columns: dict[str, list[float]], title: str) -> Figure:
    """Each loss over iterations, or epochs, means since the point before: all together, and by part.

    Without parts there is one panel.

    Args:
        columns: as from `read_losses`.
    """
    if not columns:
        return nothing_ran(f"{title}: nothing was trained")
    step, *names = columns
    parts = [name for name in names if name != "loss"]
    panels = {"all together": 2, "by part": 3} if parts else {"all together": 2}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(10, 3.8), width_ratios=list(panels.values()), squeeze=False
    )
    figure.suptitle(f"Losses of {title}")
    for panel, label in zip(axes[0], panels, strict=True):
        panel.set(title=label, xlabel=step, ylabel="loss")
    marks = dict(marker="o", markersize=3)
    axes[0, 0].plot(columns[step], columns["loss"], color="black", **marks)
    for i, name in enumerate(parts):
        n = len(GROUP_COLOURS)
        style = dict(linestyle=LINES[i // n % len(LINES)], color=f"C{i % n}", label=name)
        axes[0, -1].plot(columns[step], columns[name], **style, **marks)
    for panel in axes[0]:
        panel.set(xlim=(0, None), ylim=(0, None))
    if parts:
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def show_losses(stage: str, kept: str | Path) -> None:
    """Draw the losses of a stage; while it trains anew every few seconds, without holding up other cells.

    Args:
        stage: ``train@embedded-mask_rcnn-0``.
        kept: the table that it leaves.

    Raises:
        UserError: it has not begun.
    """

    def draw(live: Path | None) -> Figure:
        return losses(read_losses(live or Path(kept)), f"{stage}{', under way' if live else ''}")

    _show(stage, Path(kept), draw)


def show_adaptation(stage: str, kept: str | Path, frequency: Sequence[str]) -> None:
    """Draw what the adaptation of a stage did, as `show_losses` does its losses.

    Args:
        stage: ``train@embedded-mask_rcnn_fasa-0``.
        kept: the history that it leaves, see `fasa.detection.training.save_history`.
        frequency: the group of each class, K.

    Raises:
        UserError: it has not begun.
    """

    def draw(live: Path | None) -> Figure:
        path = live.with_name("passes.json") if live else Path(kept)
        return adaptation([json.loads(path.read_text())["passes"] if path.exists() else []], frequency)

    _show(stage, Path(kept), draw)


def _show(stage: str, kept: Path, draw: Callable[[Path | None], Figure]) -> None:
    def drawn() -> Figure:
        live = under_way(stage, kept)
        if not (live or kept.exists()):
            raise UserError(f"{stage} has not trained here yet. In a terminal: fasa run --here '{stage}'")
        figure = draw(live)
        plt.close(figure)  # or it is shown a second time when the cell ends
        return figure

    async def follow() -> None:
        last = under_way(stage, kept)
        while last:
            changed = last.stat().st_mtime
            while last.exists() and last.stat().st_mtime == changed:
                await asyncio.sleep(EVERY)
            shown.update(drawn())
            last = under_way(stage, kept)

    shown = display(drawn(), display_id=True)
    if under_way(stage, kept):
        _tasks.add(task := asyncio.get_running_loop().create_task(follow()))
        task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task] = set()  # which Python would otherwise forget
