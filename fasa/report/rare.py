"""Figure 2: what a detector without and with FASA says of rare objects (appendix H).

Shapes: G rare objects, S of them with a picture.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pycocotools.mask
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fasa.data import lvis, source
from fasa.evaluation import GroundTruth, read_ground_truth
from fasa.record import SHOWN, Record
from fasa.report.style import COLOUR, row_colour
from fasa.report.tables import seeds

PICKED = 6
RULE = (
    "The pictures were picked by rank, not by eye: rare objects spread evenly over val were sorted by how "
    f"much FASA raises their score in the first seed, and {PICKED} taken at equal steps, the smallest gain "
    "left. Each shows the best detection of the class that lies on the object, and its score, however small."
)
WITHOUT, WITH = (row_colour(row) for row in ("mask_rcnn", "mask_rcnn_fasa"))


def pick(without: Record, with_fasa: Record) -> np.ndarray:
    """Which pictures to show by `RULE`, as places among the S, fewest gained first."""
    places = without.rare.pictured
    gain = np.nan_to_num(with_fasa.rare.score[places]) - np.nan_to_num(without.rare.score[places])
    order = np.argsort(gain, kind="stable")
    ranks = np.linspace(0, len(order) - 1, min(PICKED, len(order)) + 2)[1:-1]
    return order[ranks.round().astype(int)]


def figure(
    without: Sequence[Record], with_fasa: Sequence[Record], data: Path, names: Sequence[str]
) -> Figure:
    """Pictures of some rare objects, and beside them the distribution of the best scores of all.

    Args:
        without, with_fasa: the runs of two rows, one for each of the same seeds; pictures are of the first.
        data: the prepared data set; where it is not, the distribution alone is drawn.
        names: of the classes, short.
    """
    annotations = data / "annotations" / "val.json"
    places = pick(without[0], with_fasa[0]) if annotations.exists() else []
    if not len(places):
        drawn, axes = plt.subplots(figsize=(6, 4.2))
        _distribution(axes, without, with_fasa)
        return drawn
    drawn = plt.figure(figsize=(11.5, 4.6))
    left, right = drawn.subfigures(1, 2, width_ratios=(1.25 * len(places), 3.6))
    panels = left.subplots(3, len(places), squeeze=False)
    gt = read_ground_truth(
        annotations, "segm" if any((*without[0].rare.mask, *with_fasa[0].rare.mask)) else "bbox"
    )
    images = source(data).images
    rare = np.flatnonzero((gt.frequency[gt.label] == "r") & ~gt.ignore)
    files = {one["id"]: one for one in lvis.read_annotations(annotations)["images"]}
    for column, place in enumerate(places):
        g = rare[without[0].rare.pictured[place]]
        image = files[int(gt.image_ids[gt.image[g]])]
        sizes = dict(height=image["height"], width=image["width"])
        truth = gt.shape[int(g)]
        left_edge, right_edge, top, bottom = _frame(truth, sizes)
        pixels = plt.imread(lvis.image_path(images, image))[top:bottom, left_edge:right_edge]
        extent = (left_edge - 0.5, right_edge - 0.5, bottom - 0.5, top - 0.5)
        name = names[gt.label[g]]
        panels[0, column].set_title(name if len(name) < 14 else f"{name[:12]}…", fontsize=11)
        found = (truth, *(_shape(one[0], place, gt) for one in (without, with_fasa)))
        for axes, shape, what in zip(panels[:, column], found, ("truth", "right", "right"), strict=True):
            axes.imshow(pixels, cmap="gray", extent=extent, interpolation="none")
            outline(axes, shape, sizes, COLOUR[what])
            axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
        for axes, runs in zip(panels[1:, column], (without, with_fasa), strict=True):
            score = runs[0].rare.score[runs[0].rare.pictured[place]]
            axes.set_xlabel("nothing" if np.isnan(score) else percent(score), fontsize=10)
    for axes, label in zip(panels[:, 0], ("truth", "without", "with FASA"), strict=True):
        axes.set_ylabel(label, fontsize=11)
    _distribution(right.subplots(), without, with_fasa)
    drawn.suptitle("Rare objects of val: the truth in black, the best detection in blue")
    return drawn


def percent(score: float) -> str:
    """``12%``, ``<1%``."""
    return f"{100 * score:.0f}%" if score >= 0.005 else "<1%"


def reading(without: Sequence[Record], with_fasa: Sequence[Record]) -> str:
    """How the best scores of rare objects differ, in a sentence."""
    rows = (without, with_fasa)
    scores = [np.concatenate([one.rare.score for one in runs]) for runs in rows]
    each, missed = map(np.nan_to_num, scores), [100 * np.isnan(one).mean() for one in scores]
    (before, lost), (after, still) = ((one.mean(), 100 * (one < SHOWN).mean()) for one in each)
    return (
        f"**Read:** of {len(without[0].rare.score)} rare objects, {seeds(len(without))}, the best score is "
        f"{100 * before:.1f}% on average without FASA and {100 * after:.1f}% with it, one that was not found "
        f"counting 0. {100 - lost:.0f}% and {100 - still:.0f}% of them have a score of {100 * SHOWN:.0f}% or "
        f"more, {missed[0]:.0f}% and {missed[1]:.0f}% have no detection at all."
    )


def _distribution(axes: Axes, without: Sequence[Record], with_fasa: Sequence[Record]) -> None:
    """Which share of rare objects has at least a score: a line for each seed, a thick one for all."""
    scores = np.linspace(0.01, 1, 100)
    for runs, colour, label in ((without, WITHOUT, "without"), (with_fasa, WITH, "with FASA")):
        each = [[100 * (np.nan_to_num(run.rare.score) >= s).mean() for s in scores] for run in runs]
        for line in each:
            axes.plot(100 * scores, line, color=colour, linewidth=0.8, alpha=0.5)
        axes.plot(100 * scores, np.mean(each, axis=0), color=colour, linewidth=2.5, label=label)
    axes.axvline(100 * SHOWN, color="0.4", linestyle="--", linewidth=1)
    axes.text(100 * SHOWN + 2, 45, "detections are\noften shown\nfrom here on", color="0.35", fontsize=9)
    axes.set(
        xlabel="score [%]",
        ylabel="rare objects with that score or more [%]",
        xlim=(0, 100),
        ylim=(0, 100),
    )
    axes.legend(loc="upper right", title="all rare objects\n(thin: one seed,\nthick: their mean)")


def _shape(run: Record, place: int, gt: GroundTruth) -> bytes | np.ndarray | None:
    """The mask of a detection, or its box; None where nothing was found."""
    if gt.iou_type == "segm":
        return run.rare.mask[place] or None
    box = run.rare.box[place]
    return None if np.isnan(box).any() else box


def box_of(shape: bytes | np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    """x, y, w, h."""
    if isinstance(shape, bytes):
        return pycocotools.mask.toBbox(dict(size=[sizes["height"], sizes["width"]], counts=shape))
    return shape


def _frame(truth: bytes | np.ndarray, sizes: dict[str, int]) -> tuple[int, int, int, int]:
    """A square of the image around an object, with some of what is around it: left, right, top, bottom."""
    x, y, width, height = box_of(truth, sizes)
    side = int(min(1.7 * max(width, height), sizes["width"], sizes["height"]))
    left = int(np.clip(x + width / 2 - side / 2, 0, sizes["width"] - side))
    top = int(np.clip(y + height / 2 - side / 2, 0, sizes["height"] - side))
    return left, left + side, top, top + side


def outline(axes: Axes, shape: bytes | np.ndarray | None, sizes: dict[str, int], colour: str) -> None:
    """Draw around a mask, or a box; nothing where there is none."""
    if shape is None:
        return
    if isinstance(shape, bytes):
        mask = pycocotools.mask.decode(dict(size=[sizes["height"], sizes["width"]], counts=shape))
        for width, one in ((4, "white"), (2, colour)):
            axes.contour(mask, [0.5], colors=one, linewidths=width)
    else:
        axes.add_patch(plt.Rectangle(shape[:2], *shape[2:], fill=False, edgecolor=colour, linewidth=2))
