"""The evaluator as an mmdet metric: ``val_evaluator = dict(type="FASALVISMetric", ann_file=...)``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.registry import METRICS
from torch import Tensor

from fasa.detection.inference import encode_masks
from fasa.errors import UserError
from fasa.evaluation.inputs import FARTHEST, Detections, GroundTruth, read_ground_truth
from fasa.evaluation.instruments import instruments
from fasa.evaluation.protocols import OLD, PROTOCOLS

TIDE = (None, "lvis", "stock")


def plain(value: Any) -> Any:
    """Predictions as tensors without a graph, also out of the types that mmdet has for them."""
    value = getattr(value, "tensor", value)  # of HorizontalBoxes
    value = getattr(value, "masks", value)  # of BitmapMasks
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value.detach() if isinstance(value, Tensor) else value


@METRICS.register_module(force=True)
class FASALVISMetric(BaseMetric):
    """AP_Old, AP_Fixed, AP_Pool and TIDE of LVIS, from the predictions of all ranks.

    Metrics are named as in the pipeline, behind a prefix: ``lvis/segm_AP``, which ``save_best`` takes,
    ``lvis/segm_fixed_APr``, ``lvis/bbox_tide_Cls``. AP_Fixed and
    AP_Pool ask for a model whose test settings do not cap an image's detections (``max_per_img=-1``); mmdet
    then holds masks of all of them, so for LVIS's classes use `fasa.detection.inference.detect` instead.

    Args:
        ann_file: LVIS v1 annotations of the data set evaluated.
        iou_types: of "bbox" and "segm", both where neither this nor `metric` is given. The order of the
            file's categories is that of the model's labels.
        protocols: of "old", "fixed" and "pool".
        tide: whether to say where AP50 was lost: "lvis", or "stock" as tidecv would; None: not.
        metric: mmdet's name for `iou_types`, which its own configs set.
        format_only: mmdet's; must be False.
        backend_args: how mmengine opens `ann_file`.
        collect_device, prefix: see mmengine's BaseMetric.

    Raises:
        UserError: an unknown protocol, kind of IoU or reading of TIDE; with the first batch, annotations of
            other classes or images than the model's, predictions without masks or that are not finite.
    """

    default_prefix = "lvis"

    def __init__(
        self,
        ann_file: str,
        iou_types: Sequence[str] | None = None,
        protocols: Sequence[str] = ("old",),
        tide: str | None = None,
        metric: Sequence[str] | None = None,
        format_only: bool = False,
        backend_args: dict | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ):
        super().__init__(collect_device, prefix)
        iou_types = iou_types or metric or ("bbox", "segm")
        iou_types, protocols = ([one] if isinstance(one, str) else one for one in (iou_types, protocols))
        if format_only:
            raise UserError("FASALVISMetric: format_only=True judges nothing; leave it out")
        if not protocols or (unknown := set(protocols) - PROTOCOLS.keys()):
            told = repr(min(unknown)) if protocols else f"in {protocols!r}"
            raise UserError(f"FASALVISMetric: no protocol {told}; known: {', '.join(PROTOCOLS)}")
        if tide not in TIDE:
            raise UserError(f"FASALVISMetric: tide is {tide!r}; known: {', '.join(map(str, TIDE))}")
        with get_local_path(ann_file, backend_args=backend_args) as path:
            self.gt = {kind: read_ground_truth(path, kind) for kind in iou_types}
        gt = self.gt[iou_types[0]]
        self.sizes = dict(zip(gt.image_ids.tolist(), gt.sizes.tolist(), strict=True))
        places = np.searchsorted(gt.category_ids, gt.listed)
        self.names, self.compared = [gt.names[place] for place in places.tolist()], False
        self.protocols, self.tide = [PROTOCOLS[name] for name in protocols], tide

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what the metric needs of a batch's predictions; masks as run-lengths."""
        gt = next(iter(self.gt.values()))
        self._compare_classes(gt.name)
        for sample in data_samples:
            found = {key: plain(value) for key, value in sample["pred_instances"].items()}
            self._check(gt, sample["img_id"], found)
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
                    masks = encode_masks(masks)
                counts = (code["counts"] for code in masks)
                one["segm"] = [code.encode() if isinstance(code, str) else code for code in counts]
            self.results.append(one)

    def _compare_classes(self, file: str) -> None:
        """Labels count the file's categories: the model's classes must be these, where they are known."""
        classes = (self.dataset_meta or {}).get("classes")
        if classes is not None and not self.compared:
            if len(classes) != len(self.names):
                raise UserError(f"{file}: {len(self.names)} categories for {len(classes)} classes")
            for place, name in enumerate(classes):  # a name that is not there at all may be a spelling
                if name != self.names[place] and name in self.names:
                    raise UserError(
                        f"{file}: category {place} is {self.names[place]!r}, the model's class {place} is "
                        f"{name!r}: the order differs; train and judge on files of one order"
                    )
        self.compared = True

    def _check(self, gt: GroundTruth, image: int, found: dict) -> None:
        """Refuse predictions that cannot be evaluated, with the first batch, not after the last."""
        if image not in self.sizes:
            raise UserError(f"{gt.name}: no image {image}; ann_file must be that of the data set evaluated")
        labels, n = found["labels"], len(found["scores"])
        if found["bboxes"].shape != (n, 4) or labels.shape != (n,) or found["scores"].shape != (n,):
            shapes = ", ".join(
                f"{name} {tuple(found[name].shape)}" for name in ("bboxes", "labels", "scores")
            )
            raise UserError(
                f"predictions of image {image} do not fit each other: {shapes}, not (N, 4), (N,), (N,)"
            )
        if labels.is_floating_point():
            raise UserError(f"labels of image {image} are {labels.dtype}; they must be whole numbers")
        if len(wrong := labels[(labels < 0) | (labels >= len(self.names))]):
            raise UserError(
                f"{gt.name}: label {int(wrong[0])}, but {len(self.names)} categories; "
                "num_classes of the head must be their number"
            )
        for name, most in (("scores", np.inf), ("bboxes", FARTHEST)):
            if not (found[name].isfinite() & (found[name].abs() <= most)).all():
                raise UserError(
                    f"{name} of image {image} are not finite, or far outside of it: has training diverged?"
                )
        if "segm" not in self.gt:
            return
        if "masks" not in found:
            raise UserError('FASALVISMetric: no masks in the predictions; set iou_types="bbox"')
        if len(masks := found["masks"]) != n:
            raise UserError(f"image {image} has {len(masks)} masks for {n} scores")
        if n and isinstance(masks, list) and not isinstance(masks[0], dict):
            raise UserError(
                f"masks of image {image} are a list of {type(masks[0]).__name__}; they must be run-lengths, "
                "or an array (N, H, W)"
            )
        if n:
            size = list(masks[0]["size"] if isinstance(masks, list) else masks.shape[1:])
            if size != self.sizes[image]:
                raise UserError(f"masks of image {image} are {size}, in {gt.name} it is {self.sizes[image]}")

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
