"""Whole scenes: the truth, and what detectors show of them without and with FASA.

Shapes: N objects and M detections of a scene.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pycocotools.mask
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fasa.data import lvis, source
from fasa.evaluation import read_ground_truth
from fasa.record import SHOWN, Record
from fasa.report.figures import line, mark, nothing_ran
from fasa.report.rare import box_of, outline, percent
from fasa.report.style import COLOUR

PICKED = 4
RULE = (
    "The scenes were picked by the annotations, not by eye: of those of val with an object of a rare class "
    f"the first {PICKED} with the fewest objects, since more are hard to look at. All detections with a "
    f"score of {100 * SHOWN:.0f}% or more are shown, of the first seed."
)
FOUND = 0.5  # the IoU from which on a detection is at an object


def figure(without: Record, with_fasa: Record, data: Path, names: Sequence[str]) -> Figure:
    """The truth of a few scenes, above what two runs show of them; a word where there are no images.

    Args:
        without, with_fasa: runs on the same images.
        data: the prepared data set.
        names: of the classes, short, in the order of their ids.
    """
    annotations = data / "annotations" / "val.json"
    if not annotations.exists() or not len(without.scenes.image):
        return nothing_ran("the images of val are not here")
    gt = read_ground_truth(
        annotations, "segm" if any((*without.scenes.mask, *with_fasa.scenes.mask)) else "bbox"
    )
    files = {one["id"]: one for one in lvis.read_annotations(annotations)["images"]}
    images = source(data).images
    picked = without.scenes.image[:PICKED]
    drawn, panels = plt.subplots(3, len(picked), figsize=(2.9 * len(picked) + 0.4, 9.6), squeeze=False)
    for place, image_id in enumerate(picked):
        image = files[int(image_id)]
        sizes = dict(height=image["height"], width=image["width"])
        pixels = plt.imread(lvis.image_path(images, image))
        for axes in panels[:, place]:
            axes.imshow(pixels, cmap="gray", interpolation="none")
            axes.set(
                xticks=[], yticks=[], xlim=(-0.5, sizes["width"] - 0.5), ylim=(sizes["height"] - 0.5, -0.5)
            )
        mine = np.flatnonzero(gt.image_ids[gt.image] == image_id)
        objects, labels = [gt.shape[int(g)] for g in mine], gt.label[mine]
        for shape, label in zip(objects, labels, strict=True):
            _draw(panels[0, place], shape, sizes, COLOUR["truth"], names[label], gt.frequency[label] == "r")
        for axes, run in zip(panels[1:, place], (without, with_fasa), strict=True):
            found = np.flatnonzero(run.scenes.place == place)
            label = np.searchsorted(gt.category_ids, run.scenes.category[found])
            shapes = [run.scenes.mask[k] or run.scenes.box[k] for k in found]
            score = run.scenes.score[found]
            good = right(shapes, label, score, objects, labels, sizes)
            for k in np.argsort(score, kind="stable"):
                colour = COLOUR["right" if good[k] else "wrong"]
                told = f"{names[label[k]]} {percent(score[k])}"
                _draw(axes, shapes[k], sizes, colour, told, gt.frequency[label[k]] == "r")
    for axes, row in zip(panels[:, 0], ("truth", "without FASA", "with FASA"), strict=True):
        axes.set_ylabel(row, fontsize=12)
    drawn.suptitle(f"Scenes of val, and what is detected in them with a score of {100 * SHOWN:.0f}% or more")
    entries = dict(
        truth="object", right="detection of the right class, at its place", wrong="any other detection"
    )
    handles = [line(label, COLOUR[key], linewidth=2) for key, label in entries.items()]
    handles.append(mark("$a$", "boxed: a rare class", "0.2"))
    handles.append(mark("", "without an outline above: scraps, no objects"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=3)
    return drawn


def right(
    shapes: Sequence[bytes | np.ndarray],
    label: np.ndarray,
    score: np.ndarray,
    objects: Sequence[bytes | np.ndarray],
    labels: np.ndarray,
    sizes: dict[str, int],
) -> np.ndarray:
    """Which detections are right, (M,): best score first each takes the nearest free object of its class.

    Args:
        shapes, label, score: M masks or boxes of detections, their classes and scores.
        objects, labels: N of the truth.
        sizes: height and width of the image.
    """
    good, taken = np.zeros(len(shapes), bool), np.zeros(len(objects), bool)
    if not len(shapes) or not len(objects):
        return good
    iou = pycocotools.mask.iou(_plain(shapes, sizes), _plain(objects, sizes), [0] * len(objects))  # (M, N)
    for k in np.argsort(-score, kind="stable"):
        free = np.where((labels == label[k]) & ~taken, iou[k], 0)
        if free.max() >= FOUND:
            good[k] = taken[free.argmax()] = True
    return good


def _plain(shapes: Sequence[bytes | np.ndarray], sizes: dict[str, int]) -> list:
    """As pycocotools takes them."""
    size = [sizes["height"], sizes["width"]]
    return [dict(size=size, counts=one) if isinstance(one, bytes) else list(one) for one in shapes]


def _draw(axes: Axes, shape: bytes | np.ndarray, sizes: dict, colour: str, told: str, rare: bool) -> None:
    outline(axes, shape, sizes, colour)
    x, y, *_ = box_of(shape, sizes)
    box = dict(facecolor="white", edgecolor=colour if rare else "none", alpha=0.85, pad=1.2, linewidth=1.2)
    x, y = np.clip(x, 2, sizes["width"] * 0.78), np.clip(y, sizes["height"] * 0.07, None)
    axes.text(x, y, told, fontsize=9, color="black", va="bottom", bbox=box, clip_on=True)
