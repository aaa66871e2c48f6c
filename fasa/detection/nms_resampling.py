"""NMS re-sampling: rare objects keep more of their proposals in training (appendix G, Table 8).

Source: Wu et al., "Forest R-CNN", ACM Multimedia 2020, the discrete variant.

Shapes: N boxes of an image before non-maximum suppression (NMS), M of its objects, K classes.
"""

import torch
from mmcv.ops import batched_nms
from mmcv.transforms import BaseTransform
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor, get_box_wh
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from fasa.errors import UserError

THRESHOLDS = dict(r=0.9, c=0.8, f=0.7)
OBJECTS = "objects_by_frequency"  # key of an image's meta information


@TRANSFORMS.register_module(force=True)
class KeepLabels(BaseTransform):
    """Copies the objects' labels to ``gt_instances.class_ids``, (M,); goes after `PackDetInputs`.

    mmdet's two-stage detectors set the labels themselves to zero before their RPN sees them.
    """

    def transform(self, results: dict) -> dict:
        """Add the field.

        Raises:
            UserError: nothing is packed yet.
        """
        if "data_samples" not in results:
            raise UserError("KeepLabels: no data_samples; put it after PackDetInputs in the pipeline")
        objects = results["data_samples"].gt_instances
        objects.class_ids = objects.labels
        return results


def resample(
    boxes: Tensor,
    scores: Tensor,
    levels: Tensor,
    objects: dict[str, Tensor],
    nms: dict,
    thresholds: dict[str, float] = THRESHOLDS,
    min_iou: float = 0.3,
) -> Tensor:
    """Choose proposals: NMS at the threshold of the objects that a box is near.

    A box is near a group if its IoU with any object of the group is at least `min_iou`. Chosen are the
    survivors of the rare threshold near rare objects, those of the common one near common objects, and
    those of the frequent one near neither.

    Differs from the authors' code: a box near a rare and a common object is chosen once, not twice; and, as
    everywhere in today's mmdet, boxes have no extra pixel.

    Args:
        boxes: (N, 4).
        scores: (N,).
        levels: (N,) int64, their levels of the pyramid; boxes of different levels never suppress each other.
        objects: boxes (M_g, 4) of the objects of groups "r" and "c"; M_g may be 0.
        nms: config of mmcv's `batched_nms`; its threshold is replaced.
        thresholds: IoU above which a box is suppressed, by group.
        min_iou: in [0, 1].

    Returns:
        (N,) bool.
    """

    def survivors(group: str) -> Tensor:
        _, kept = batched_nms(boxes, scores, levels, dict(nms, iou_threshold=thresholds[group]))
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[kept] = True
        return mask

    chosen = torch.zeros_like(scores, dtype=torch.bool)
    rest = ~chosen
    for group in ("r", "c"):
        if len(objects[group]):
            near = (bbox_overlaps(boxes, objects[group]) >= min_iou).any(1)
            chosen |= near & survivors(group)
            rest &= ~near
    return chosen | (rest & survivors("f"))


@MODELS.register_module(force=True)
class NMSResamplingRPNHead(RPNHead):
    """`RPNHead` with `resample` in place of NMS in training; at test time it is the unchanged head.

    Has no parameters or buffers of its own. Needs `KeepLabels` in the training pipeline.

    Args:
        frequencies: each class's group in training, "r", "c" or "f", (K,), in order of labels
            (`fasa.data.lvis.frequencies` of the annotation file).
        thresholds: NMS thresholds of the three groups; the one of "f" stands in for the config's.
        min_iou: between a box and an object that it is near.

    Raises:
        UserError: a group is unknown or has no threshold.
    """

    def __init__(
        self, *args, frequencies: list[str], thresholds: dict = THRESHOLDS, min_iou: float = 0.3, **kwargs
    ):
        super().__init__(*args, **kwargs)
        if set(thresholds) != set(THRESHOLDS) or not set(frequencies) <= set(THRESHOLDS):
            raise UserError(
                "NMSResamplingRPNHead: frequencies and the keys of thresholds are the letters r, c and f; "
                f"got {sorted(set(frequencies))} and {sorted(thresholds)}"
            )
        self.frequencies, self.thresholds, self.min_iou = frequencies, thresholds, min_iou

    def loss_and_predict(self, x: tuple[Tensor], batch_data_samples: list, *args, **kwargs) -> tuple:
        """The head's own losses, and the re-sampled proposals; only training calls it.

        Objects travel in the meta information of their image, which mmdet hands down to the NMS.
        """
        samples = [
            sample.new(metainfo={**sample.metainfo, OBJECTS: self._by_frequency(sample.gt_instances)})
            for sample in batch_data_samples
        ]
        return super().loss_and_predict(x, samples, *args, **kwargs)

    def _by_frequency(self, objects: InstanceData) -> dict[str, Tensor]:
        """Boxes of the rare and of the common objects."""
        if "class_ids" not in objects:
            raise UserError(
                "NMSResamplingRPNHead: objects without class_ids; "
                "add dict(type='KeepLabels') after PackDetInputs to the training pipeline"
            )
        labels, boxes = objects.class_ids.tolist(), get_box_tensor(objects.bboxes)
        if labels and max(labels) >= len(self.frequencies):
            raise UserError(
                f"NMSResamplingRPNHead: an object of class {max(labels)}, but {len(self.frequencies)} "
                "frequencies; give one letter for each class of the annotation file"
            )
        groups = [self.frequencies[label] for label in labels]
        return {
            group: boxes[torch.tensor([g == group for g in groups], dtype=torch.bool, device=boxes.device)]
            for group in ("r", "c")
        }

    def _bbox_post_process(
        self,
        results: InstanceData,
        cfg: ConfigDict,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """As in mmdet, with proposals chosen before: what is left to it is sorting and the cap."""
        objects = (img_meta or {}).get(OBJECTS)
        if objects is not None:
            if any(map(len, objects.values())):
                results = self._resampled(results, cfg, objects)
                cfg = ConfigDict(cfg, nms=None)
            else:  # the parent's NMS alone, so that such an image has its very proposals
                cfg = ConfigDict(cfg, nms=dict(cfg.nms, iou_threshold=self.thresholds["f"]))
        return super()._bbox_post_process(results, cfg, rescale, with_nms, img_meta)

    def _resampled(self, results: InstanceData, cfg: ConfigDict, objects: dict[str, Tensor]) -> InstanceData:
        smallest = cfg.get("min_bbox_size", -1)
        if smallest >= 0:  # before NMS, as in the parent: boxes that are dropped suppress none
            width, height = get_box_wh(results.bboxes)
            results = results[(width > smallest) & (height > smallest)]
        if len(results) == 0:
            return results
        boxes = get_box_tensor(results.bboxes)
        return results[
            resample(
                boxes, results.scores, results.level_ids, objects, cfg.nms, self.thresholds, self.min_iou
            )
        ]
