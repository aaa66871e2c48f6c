"""The evaluator as an mmdet metric: ``val_evaluator = dict(type="FASALVISMetric", ann_file=...)``."""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from fasa.errors import UserError
from fasa.evaluation.inputs import Detections, read_ground_truth
from fasa.evaluation.instruments import instruments
from fasa.evaluation.protocols import OLD, PROTOCOLS


@METRICS.register_module(force=True)
class FASALVISMetric(BaseMetric):
    """AP_Old, AP_Fixed, AP_Pool and TIDE of LVIS, from the predictions of all ranks.

    Metrics are named as in the pipeline: ``segm_AP``, ``segm_fixed_APr``, ``bbox_tide_Cls``. AP_Fixed and
    AP_Pool ask for a model whose test settings do not cap an image's detections (``max_per_img=-1``); mmdet
    then holds masks of all of them, so for LVIS's classes use `fasa.detection.inference.detect` instead.

    Args:
        ann_file: LVIS v1 annotations of the data set evaluated.
        iou_types: of "bbox" and "segm". The order of the file's categories is that of the model's labels.
        protocols: of "old", "fixed" and "pool".
        tide: whether to say where AP50 was lost: "lvis", or "stock" as tidecv would; None: not.
        collect_device, prefix: see mmengine's BaseMetric.

    Raises:
        UserError: an unknown protocol or kind of IoU, or annotations of more or fewer classes than the
            model's.
    """

    default_prefix = "lvis"

    def __init__(
        self,
        ann_file: str,
        iou_types: Sequence[str] = ("bbox", "segm"),
        protocols: Sequence[str] = ("old",),
        tide: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ):
        super().__init__(collect_device, prefix)
        iou_types, protocols = ([one] if isinstance(one, str) else one for one in (iou_types, protocols))
        if unknown := set(protocols) - PROTOCOLS.keys():
            raise UserError(f"FASALVISMetric: no protocol {min(unknown)!r}; known: {', '.join(PROTOCOLS)}")
        self.gt = {kind: read_ground_truth(ann_file, kind) for kind in iou_types}
        self.protocols, self.tide = [PROTOCOLS[name] for name in protocols], tide

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what the metric needs of a batch's predictions; masks as run-lengths."""
        for gt in self.gt.values():
            if len(classes := self.dataset_meta["classes"]) != len(gt.listed):
                raise UserError(f"{gt.name}: {len(gt.listed)} categories for {len(classes)} classes")
        for sample in data_samples:
            found = sample["pred_instances"]
            box = found["bboxes"].cpu().double().numpy()
            box[:, 2:] -= box[:, :2]
            one = dict(
                image_id=sample["img_id"],
                label=found["labels"].cpu().numpy(),
                score=found["scores"].cpu().double().numpy(),
                bbox=box,
            )
            if "segm" in self.gt:
                masks = found["masks"]
                if not isinstance(masks, list):  # a test model may have encoded them
                    pixels = masks.cpu().numpy().transpose(1, 2, 0)
                    masks = pycocotools.mask.encode(np.asfortranarray(pixels, np.uint8))
                one["segm"] = [code["counts"] for code in masks]
            self.results.append(one)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Evaluate what all ranks found; without the means over no class at all."""
        metrics = {}
        for kind, gt in self.gt.items():
            nothing = dict(
                image_id=0, label=np.zeros(0, np.int64), score=np.zeros(0), bbox=np.zeros((0, 4)), segm=[]
            )
            image, label, score, shape = zip(
                *((one["image_id"], one["label"], one["score"], one[kind]) for one in [nothing, *results]),
                strict=True,
            )
            detections = Detections(
                np.repeat(np.array(image, np.int64), [len(one) for one in score]),
                gt.listed[np.concatenate(label)],
                np.concatenate(score),
                np.concatenate(shape) if kind == "bbox" else [rle for part in shape for rle in part],
            )
            for name, values in instruments(gt, detections, kind, self.protocols, self.tide).items():
                prefix = kind if name == OLD.name else f"{kind}_{name}"
                metrics |= {f"{prefix}_{key}": value for key, value in values.items() if value == value}
        return metrics
