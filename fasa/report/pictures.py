"""Pictures of detections beside the truth, as mmdet's visualizer draws them.

Shapes: N objects or detections of an image.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pycocotools.mask
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from fasa.data import source
from fasa.data.lvis import image_path, read_annotations
from fasa.evaluation import Detections, Example, GroundTruth, examples, read_detections, read_ground_truth
from fasa.record import SHOWN
from fasa.report.explore import Classes

SIDE = 480  # pixels that an image is enlarged to at least, or outlines would cover it
FONT = 8  # points of a label, as it is shown
OFFERED = 1000  # images


class Visualizer(DetLocalVisualizer):
    """mmdet's, with labels that can be read on small images too."""

    font = FONT

    def draw_texts(self, *args, **settings) -> DetLocalVisualizer:
        """Draw them all as large."""
        return super().draw_texts(*args, **settings | dict(font_sizes=self.font))


class Found(NamedTuple):
    """What a run has detected, in one order; masks None where the data have none."""

    boxes: Detections
    masks: Detections | None

    @property
    def judged(self) -> Detections:
        """Of the kind that the paper reports."""
        return self.masks or self.boxes


class Pictures:
    """The images of a part with their objects.

    Args:
        profile: that has been prepared.
        part: of its data.

    Attributes:
        truth: its objects: masks, where the data have them.
    """

    def __init__(self, profile: str, classes: Classes, part: str = "val"):
        path, found = f"data/{profile}/annotations/{part}.json", source(f"data/{profile}")
        self.root, self.classes = found.images, classes
        self.images = {image["id"]: image for image in read_annotations(path)["images"]}
        self.boxes = read_ground_truth(path, "bbox")
        self.truth: GroundTruth = read_ground_truth(path, "segm") if "segm" in found.iou_types else self.boxes
        with plt.rc_context({"figure.constrained_layout.use": False}):  # it lays out its figures itself
            self.visualizer = Visualizer(alpha=0.5)
        palette = [tuple(int(255 * c) for c in to_rgb(classes.colour(k))) for k in range(len(classes.census))]
        names = [one["shown"] for one in classes.census]
        self.visualizer.dataset_meta = dict(classes=names, palette=palette)

    def read(self, path: Path) -> Found:
        """Read a run's ``detections.npz``."""
        masks = read_detections(path, self.truth) if self.truth is not self.boxes else None
        return Found(read_detections(path, self.boxes), masks)

    def options(self) -> list[tuple[str, int]]:
        """Images, each with a label to choose it by, those with most rare objects first; some at most."""
        gt, n = self.truth, len(self.truth.image_ids)
        objects = np.bincount(gt.image, minlength=n).tolist()
        rare = np.bincount(gt.image[gt.frequency[gt.label] == "r"], minlength=n)
        order = np.argsort(-rare, kind="stable")[:OFFERED].tolist()
        return [
            (f"{gt.image_ids[i]}: {objects[i]} objects, {rare[i]} rare", int(gt.image_ids[i])) for i in order
        ]

    def beside(
        self, image_id: int, found: Found, which: np.ndarray | None = None, width: int = 480
    ) -> np.ndarray:
        """The truth of an image, left, and detections, right: an image.

        Args:
            which: places in the results; None: those of the image from a score of `SHOWN` on.
            width: pixels that each of the two has where it is shown.
        """
        if which is None:
            which = np.flatnonzero((found.boxes.image_id == image_id) & (found.boxes.score >= SHOWN))
        image = plt.imread(image_path(self.root, self.images[image_id]))
        image = (255 * image).astype(np.uint8) if image.dtype.kind == "f" else image
        image = np.dstack([image] * 3) if image.ndim == 2 else image[..., :3]
        scale = max(1, -(-SIDE // min(image.shape[:2])))
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        label = np.searchsorted(self.truth.category_ids, found.boxes.category_id[which])
        counts = found.masks.shape[which].counts() if found.masks else None
        detected = self._instances(image_id, scale, label, found.boxes.shape[which], counts)
        detected.scores = torch.as_tensor(found.boxes.score[which])
        sample = DetDataSample(gt_instances=self._objects(image_id, scale), pred_instances=detected)
        self.visualizer.font = FONT * large.shape[1] / width
        with warnings.catch_warnings(action="ignore"):  # of boxes that reach beyond the image
            self.visualizer.add_datasample("", large, sample, pred_score_thr=-1)
        return self.visualizer.get_image()

    def _objects(self, image_id: int, scale: int) -> InstanceData:
        gt = self.truth
        mine = np.flatnonzero(gt.image_ids[gt.image] == image_id)
        if gt is self.boxes:
            return self._instances(image_id, scale, gt.label[mine], gt.shape[mine], None)
        counts = gt.shape[mine].counts()
        boxes = pycocotools.mask.toBbox(self._rle(image_id, counts)) if counts else np.zeros((0, 4))
        return self._instances(image_id, scale, gt.label[mine], boxes, counts)

    def _instances(
        self, image_id: int, scale: int, label: np.ndarray, box: np.ndarray, counts: list[bytes] | None
    ) -> InstanceData:
        box = torch.as_tensor(scale * box, dtype=torch.float32)
        box[:, 2:] += box[:, :2]
        instances = InstanceData(bboxes=box, labels=torch.as_tensor(label))
        if counts:
            masks = pycocotools.mask.decode(self._rle(image_id, counts)).transpose(2, 0, 1)
            instances.masks = torch.as_tensor(masks.repeat(scale, 1).repeat(scale, 2).astype(bool))
        return instances

    def _rle(self, image_id: int, counts: list[bytes]) -> list[dict]:
        image = self.images[image_id]
        return [dict(size=[image["height"], image["width"]], counts=one) for one in counts]

    def scene(self, image_id: int, path: Path) -> Figure:
        """An image, the truth left, and right what a run has found, read from its ``detections.npz``."""
        figure, axes = plt.subplots(figsize=(10, 5.4))
        axes.imshow(self.beside(image_id, self.read(path)))
        axes.axis("off")
        axes.set_title(f"the truth, and what {path.parent.name} found")
        return figure

    def errors(self, found: Found, k: int) -> Figure:
        """The costliest error of each of TIDE's kinds of a class: the truth left, the error right.

        Beside an object that was missed are all detections from a score of `SHOWN` on.
        """
        category = int(self.truth.category_ids[k])
        shown = examples(self.truth, found.judged, 1, self.truth.iou_type, category)
        lines = max(-(-len(shown) // 2), 1)
        figure, panels = plt.subplots(lines, 2, figsize=(10, 3 * lines), squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        for axes, one in zip(panels.flat, shown, strict=False):
            which = None if one.entry is None else np.array([one.entry])
            axes.imshow(self.beside(one.image_id, found, which, width=240))
            axes.set_title(self._said(one), fontsize=10)
        if not shown:
            panels[0, 0].text(0, 0.5, f"no errors with {self.classes.shown(k)} on val", va="center")
        return figure

    def _said(self, one: Example) -> str:
        name = {int(i): self.classes.shown(k) for k, i in enumerate(self.truth.category_ids)}
        what = f"{name[one.category_id]}" + ("" if one.score is None else f" {one.score:.2f}")
        near = name.get(one.object_category_id)
        where = (
            f", IoU {one.iou:.2f} with {near}" if near and one.iou else ", at nothing" if near is None else ""
        )
        return f"{one.kind}: {what}{where}; cured: {one.cost:+.2f} AP50"
