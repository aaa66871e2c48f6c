"""InstaBoost, an augmentation that acts on images: mmdet's transform, made to run with today's NumPy.

``dict(type="CompatibleInstaBoost")`` goes between ``LoadImageFromFile`` and ``LoadAnnotations``. Half of the
images are augmented: each group of objects whose boxes overlap is cut out, the hole is inpainted, and the
group is pasted back moved, scaled and turned a little (appendix F); colours change in half of those.

All of that is mmdet's `InstaBoost` with its defaults and the authors' package, `instaboostfast` 0.1.2, both
unchanged. The package fails on the two ways in which data sets give masks:

- polygons: it traces the moved mask and stacks the contours into one array. If there are several (a hole, two
  parts), NumPy refuses since 1.24;
- compressed RLE, as in the embedded data set: it never took those.

It does take uncompressed RLE, and on that path traces nothing. So masks go in as uncompressed RLE and come
out as such, which `LoadAnnotations` reads. Holes stay holes: polygons would have filled them.
"""

import numpy as np
from mmdet.datasets.transforms import InstaBoost
from mmdet.registry import TRANSFORMS
from pycocotools import mask as mask_utils

from fasa.errors import UserError

FAR = 16  # image sizes; pycocotools walks along a polygon's edges, and takes memory for every pixel of them


def uncompressed(segmentation: list | dict, height: int, width: int) -> dict | None:
    """A mask as COCO's uncompressed RLE, from polygons or either RLE.

    Returns:
        ``size``, height and width; and ``counts``, a list of the lengths of the runs of 0, 1, 0 ... in
        column-major order. None where there is no mask of this image: polygons of fewer than 3 points, which
        mmdet ignores too, or far outside the image, RLE of another size.
    """
    if isinstance(segmentation, list):
        polygons = [one for one in segmentation if len(one) >= 6 and len(one) % 2 == 0]
        far = FAR * max(height, width)
        if not polygons or not all(np.abs(one).max() <= far for one in polygons):  # false for NaN
            return None
        segmentation = mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    elif list(segmentation.get("size", ())) != [height, width]:
        return None
    elif isinstance(segmentation["counts"], list):
        return segmentation
    pixels = mask_utils.decode(segmentation).ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=0))
    return dict(size=[height, width], counts=np.diff(starts, prepend=0, append=pixels.size).tolist())


@TRANSFORMS.register_module(force=True)
class CompatibleInstaBoost(InstaBoost):
    """mmdet's `InstaBoost` (same arguments, same defaults) for masks of any form, without flips.

    Random numbers come from the global generators of both Python and NumPy. An object of which no pixel is
    left is removed; the others keep their class, but may change their order. One without a mask, see
    `uncompressed`, stays as it is; mmdet will ignore it or refuse it.

    Args:
        **settings: those of mmdet's `InstaBoost`.

    Raises:
        UserError: `instaboostfast` cannot be imported, or objects are to be flipped: with RLE the package
            flips their pixels and not their masks.
    """

    def __init__(self, **settings):
        try:
            super().__init__(**settings)
        except ImportError as error:  # mmdet's; its context is the package's own
            # Without its requirements: opencv-python would overwrite opencv-python-headless.
            raise UserError(
                f"InstaBoost needs the package instaboostfast ({error.__context__ or error}): "
                "pip install scikit-image && pip install --no-deps instaboostfast"
            ) from error
        flips = np.isin(self.cfg.action_candidate, ["horizontal", "vertical"]) & (self.cfg.action_prob > 0)
        if flips.any():
            action = self.cfg.action_candidate[flips][0]
            raise UserError(f"CompatibleInstaBoost cannot flip: set action_prob of {action} to 0")

    def _load_anns(self, results: dict) -> tuple[list, list]:
        anns, ignored = super()._load_anns(results)
        height, width = results["img"].shape[:2]
        objects = [instance for instance in results["instances"] if instance["ignore_flag"] == 0]
        kept = []
        for ann, instance in zip(anns, objects, strict=True):
            ann["segmentation"] = uncompressed(ann["segmentation"], height, width)
            if ann["segmentation"] is None:
                ignored.append(instance)
            else:
                kept.append(ann)
        return kept, ignored
