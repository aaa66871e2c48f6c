"""In which images a detection of a class counts, and the objects there."""

import numpy as np

from fasa.evaluation import native
from fasa.evaluation.inputs import GroundTruth
from fasa.evaluation.overlap import contains


class Cells:
    """Those cells in which detections count: the class has an object in the image, or is known to be absent.

    C cells in ascending order, G objects by cell, then as in the annotations.

    Attributes:
        objects: (G,) objects, those of a cell together.
        first, found: (C,) where in ``objects`` those of a cell begin, and how many they are.
        partial: (C,) bool, whether there may be more objects than annotated.
    """

    def __init__(self, gt: GroundTruth):
        n_classes = len(gt.category_ids)
        self.objects = np.argsort(gt.cell, kind="stable")
        of_object = gt.cell[self.objects]
        known = np.union1d(of_object, gt.absent)
        self.first = np.searchsorted(of_object, known)
        self.found = np.searchsorted(of_object, known, side="right") - self.first
        self.partial = contains(gt.not_exhaustive, known)
        self._known, self._n_classes = known, n_classes
        self._label = (known % max(n_classes, 1)).astype(np.int32)
        self._bounds = np.searchsorted(known, n_classes * np.arange(len(gt.image_ids) + 1))

    def find(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The cell of each detection, (N,) int32, -1 where it does not count, given images and classes."""
        if native.core:
            cell = np.empty(len(image), dtype=np.int32)
            image, label = (np.ascontiguousarray(column, np.int32) for column in (image, label))
            native.core("cells", len(image), image, label, self._n_classes, self._bounds, self._label, cell)
            return cell
        cell = image.astype(np.int64) * self._n_classes + label
        place = np.searchsorted(self._known, cell).astype(np.int32)
        return np.where(np.append(self._known, -1)[place] == cell, place, np.int32(-1))
