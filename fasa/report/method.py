"""What FASA does, as a drawing."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PLAIN, OURS, HELD_OUT = "0.92", "#DCEBF7", "#FBE9D0"
ALT = (
    "A drawing of FASA. In training, embeddings of image regions go to the classifier; FASA keeps their mean "
    "and variance by class, draws virtual embeddings of a class with its probability, and gives them to the "
    "same classifier with a tenth of the weight. On held-out images the loss of each group of classes is "
    "measured at intervals: where it has fallen the group's probabilities rise by a tenth, where it has "
    "risen they fall by a tenth."
)


def drawing() -> Figure:
    """The training step above, what FASA adds to it below, the adaptation lowest."""
    figure, axes = plt.subplots(figsize=(9, 4.6))
    axes.set(xlim=(0, 100), ylim=(0, 54))
    axes.axis("off")
    image = _box(axes, 1, 42, 15, 9, "training\nimage", PLAIN)
    regions = _box(axes, 24, 42, 19, 9, "backbone, regions,\nshared layers", PLAIN)
    embeddings = _box(axes, 51, 42, 19, 9, "embedding z\nof each object", PLAIN)
    classifier = _box(axes, 78, 42, 21, 9, "classifier:\ncross-entropy", PLAIN)
    moments = _box(
        axes, 38, 22, 23, 10, "running mean $\\mu_c$,\nvariance $\\sigma_c^2$ of z\nby class c", OURS
    )
    drawn = "$\\mu_c + \\sigma_c\\,\\varepsilon$, $\\varepsilon$ from N(0, 1),\nwith probability $p_c$"
    virtual = _box(axes, 70, 22, 29, 10, f"virtual embeddings of c\n{drawn}", OURS)
    held = _box(axes, 1, 2, 21, 10, "held-out images:\nthe detector's loss,\nat intervals", HELD_OUT)
    groups = _box(
        axes,
        32,
        2,
        31,
        10,
        "loss of each group of classes;\ngroups: Mean-shift on\nthe class means",
        HELD_OUT,
    )
    change = _box(axes, 71, 2, 28, 10, "it fell: $p_c \\times 1.1$\nit rose: $p_c \\times 0.9$", HELD_OUT)
    for a, b in (
        (image, regions),
        (regions, embeddings),
        (embeddings, classifier),
        (moments, virtual),
        (held, groups),
        (groups, change),
    ):
        _arrow(axes, a["right"], b["left"])
    _arrow(axes, embeddings["bottom"], moments["top"])
    _arrow(axes, virtual["top"], classifier["bottom"], "loss × 0.1, to the classifier alone")
    _arrow(axes, moments["bottom"], groups["top"])
    _arrow(axes, change["top"], virtual["bottom"])
    for y, text, colour in (
        (52, "training, as ever", "0.35"),
        (33.3, "feature augmentation", "#1F5C8A"),
        (13.3, "sampling adaptation", "#9A5B00"),
    ):
        axes.text(1, y, text, fontsize=11, style="italic", color=colour, va="bottom")
    return figure


def _box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> dict:
    """Draw a box; returns the middles of its sides."""
    patch = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", fc=colour, ec="0.4"
    )
    axes.add_patch(patch)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10.5)
    middle = x + width / 2
    return dict(
        left=(x, y + height / 2),
        right=(x + width, y + height / 2),
        top=(middle, y + height),
        bottom=(middle, y),
    )


def _arrow(axes: Axes, start: tuple, end: tuple, text: str = "") -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color="0.3", shrinkA=0, shrinkB=0)
    )
    if text:
        axes.text(
            end[0] - 4, (start[1] + end[1]) / 2, text, ha="right", va="center", fontsize=9.5, color="0.3"
        )
