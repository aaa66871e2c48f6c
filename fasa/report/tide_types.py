"""TIDE's six types of error, each as a scene made up for it."""

from collections.abc import Iterable
from textwrap import fill
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from fasa.evaluation import ERRORS
from fasa.report.style import COLOUR

WIDTH, HEIGHT = 100, 64  # of every scene
TRUTH, RIGHT, WRONG = (COLOUR[what] for what in ("truth", "right", "wrong"))


class Thing(NamedTuple):
    """An object, or with a score a detection, of a class that is a letter."""

    letter: str
    box: tuple[int, int, int, int]  # x, y, w, h
    score: float | None = None


A, B = Thing("A", (14, 16, 30, 36)), Thing("B", (62, 14, 26, 40))
FOUND = [Thing("A", (13, 15, 31, 37), 0.9), Thing("B", (62, 13, 27, 41), 0.8)]
SCENES = {  # what a detector says, the error last, of a picture that shows A and B
    "Cls": [FOUND[1], Thing("B", (15, 15, 29, 37), 0.9)],
    "Loc": [FOUND[1], Thing("A", (26, 22, 32, 34), 0.9)],
    "Both": [*FOUND, Thing("B", (26, 22, 32, 34), 0.7)],
    "Dupe": [*FOUND, Thing("A", (17, 20, 27, 35), 0.7)],
    "Bkg": [FOUND[1], Thing("A", (13, 15, 31, 37), 0.9), Thing("A", (46, 38, 13, 18), 0.7)],
    "Miss": [FOUND[1]],
}


def tide_types() -> Figure:
    """A panel for each type: the truth black, what is right blue and dashed, the error orange."""
    figure, panels = plt.subplots(2, 3, figsize=(9, 6))
    for axes, (name, detections) in zip(panels.flat, SCENES.items(), strict=True):
        _draw(axes, [A, B], TRUTH, "-")
        _draw(axes, detections[: None if name == "Miss" else -1], RIGHT, "--")
        if name == "Miss":
            _draw(axes, [A], WRONG, ":")
        else:
            _draw(axes, detections[-1:], WRONG, "--")
        axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), xticks=[], yticks=[], aspect="equal")
        axes.grid(False)
        axes.set_title(name, loc="left", fontweight="bold")
        axes.set_xlabel(fill(ERRORS[name], 43), loc="left", fontsize=9)
        for spine in axes.spines.values():
            spine.set(visible=True, color="0.8")
    lines = dict(
        truth="an object",
        right="a detection that is right",
        wrong="the error: a detection, or an object missed",
    )
    handles = [
        Patch(fill=False, linewidth=2, edgecolor=COLOUR[key], label=label) for key, label in lines.items()
    ]
    figure.suptitle("TIDE's types of error")
    figure.legend(handles=handles, ncols=3, loc="outside lower center")
    return figure


def _draw(axes: Axes, things: Iterable[Thing], colour: str, line: str) -> None:
    for letter, (x, y, width, height), score in things:
        if colour == TRUTH:
            glyph = TextPath((0, 0), letter, size=10)
            ink = glyph.get_extents()
            onto = Affine2D().translate(-ink.x0, -ink.y1)
            onto.scale((width - 6) / ink.width, (6 - height) / ink.height).translate(x + 3, y + 3)
            axes.add_patch(PathPatch(glyph, transform=onto + axes.transData, color="0.8"))
        frame = Rectangle((x, y), width, height, fill=False, edgecolor=colour, linestyle=line, linewidth=2)
        axes.add_patch(frame)
        if score is not None:
            place = dict(y=y - 1, va="bottom") if colour == RIGHT else dict(y=y + height + 1, va="top")
            axes.text(x + 1, s=f"{letter} {score}", color="0.2", fontsize=9, **place)
