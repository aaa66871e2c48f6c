"""From a model to detections, image by image, with no cap on how many an image may have.

N detections of an image.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pycocotools.mask
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from fasa.detection.resume import check_model, read_checkpoint
from fasa.detection.two_stage import TwoStage
from fasa.errors import UserError
from fasa.evaluation.inputs import Detections
from fasa.evaluation.matches import Matcher

MASKS_AT_ONCE = 100  # of one image: with a mask for each of LVIS's classes they take 0.8 GB on their way


class Found(NamedTuple):
    """The detections of one image, best first."""

    image_id: int
    category_id: np.ndarray  # (N,) int64
    score: np.ndarray  # (N,) float64 in [0, 1]
    box: np.ndarray  # (N, 4) float64, x, y, w, h in pixels of the file
    rle: list[bytes]  # N compressed run-lengths, column by column; empty for one that was not segmented

    def detections(self, kind: str) -> Detections:
        """With masks, "segm", or boxes, "bbox", for a `Matcher`."""
        ids = np.full(len(self.score), self.image_id)
        return Detections(ids, self.category_id, self.score, self.rle if kind == "segm" else self.box)


def load_model(cfg: Config, path: Path) -> nn.Module:
    """The model of `cfg` with the state of `path`; on a GPU where there is one.

    Raises:
        UserError: the checkpoint cannot be read, is of another model, or of other classes than the config's.
    """
    checkpoint = read_checkpoint(path)
    state, theirs = (
        checkpoint["state_dict"],
        checkpoint.get("meta", {}).get("dataset_meta", {}).get("classes"),
    )
    if theirs and "classes" in cfg and (differ := set(theirs) ^ set(cfg.classes["names"])):
        raise UserError(
            f"{path}: was trained on other classes than those of the data: {min(differ)!r} and "
            f"{len(differ) - 1} more are in one of them only; train anew, or judge it on its own data"
        )
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    check_model(model, state, path)
    model.load_state_dict(state)
    return model.to(get_device()).eval()


@torch.no_grad()
def detect(
    model: nn.Module, dataloader: dict | DataLoader, masks: bool = True, matcher: Matcher | None = None
) -> Iterator[Found]:
    """Detect on each image of a data loader; of the model's test settings all but `max_per_img` holds.

    AP_Fixed needs what a cap per image would cut off. Of several ranks each detects on its share of the
    images, the one that the data loader deals to it.

    Args:
        model: a two-stage detector of mmdet, see `two_stage`, in eval mode.
        dataloader: or its config.
        masks: whether to segment the boxes too.
        matcher: what it would leave out is left out, and no mask made that it would not look at.
    """
    if not isinstance(dataloader, DataLoader):
        dataloader = Runner.build_dataloader(dataloader, seed=0)
    categories = np.array(dataloader.dataset.cat_ids, dtype=np.int64)
    batches = tqdm(
        dataloader, desc="detect", unit="batch", mininterval=5, file=sys.stdout, disable=not is_main_process()
    )
    for batch in batches:
        images = TwoStage(model, batch)
        for i, (boxes, meta) in enumerate(zip(images.boxes(), images.metas, strict=True)):
            category = categories[boxes.labels.cpu().numpy()]
            score = boxes.scores.cpu().double().numpy()
            segmented = np.full(len(score), masks)
            if matcher is not None:
                keep = matcher.wanted(category, score)
                boxes, category, score = boxes[torch.from_numpy(keep)], category[keep], score[keep]
                segmented = matcher.is_best(score) | matcher.needs_shape(meta["img_id"], category)
            rle = np.full(len(score), b"", dtype=object)
            if masks:
                chosen = boxes[torch.from_numpy(segmented)]
                rle[segmented] = encode(images, i, chosen)
            scale = boxes.bboxes.new_tensor(meta["scale_factor"]).repeat(2)
            box = (boxes.bboxes / scale).cpu().double().numpy()
            box[:, 2:] -= box[:, :2]
            yield Found(meta["img_id"], category, score, box, rle.tolist())


def placed(found: Iterable[Found], dataloader: DataLoader) -> Iterator[tuple[np.ndarray, Found]]:
    """Give each detection, (N,), its place among those of all ranks, which is that of one process's order.

    Args:
        found: what `detect` gives.
        dataloader: that it took, without a batch sampler of its own.
    """
    for index, one in zip(dataloader.sampler, found, strict=True):
        yield (index << 32) + np.arange(len(one.score)), one


def encode(images: TwoStage, image: int, found: InstanceData) -> list[bytes]:
    """Segment boxes of one image: N compressed run-lengths."""
    boxes, labels, same = found.bboxes, found.labels, torch.arange(len(found))
    if images.one_mask_a_box:
        boxes, same = boxes.unique(dim=0, return_inverse=True)
        labels = labels.new_zeros(len(boxes))
    rle = []
    for start in range(0, len(boxes), MASKS_AT_ONCE):
        part = slice(start, start + MASKS_AT_ONCE)
        found = InstanceData(bboxes=boxes[part].clone(), labels=labels[part], scores=labels[part])
        rle += [code["counts"] for code in encode_masks(images.masks(image, found))]
    return [rle[i] for i in same.tolist()]


def encode_masks(masks: Tensor) -> list[dict]:
    """Compressed run-lengths, as pycocotools', of masks (N, H, W) of 0 and 1."""
    if not len(masks):
        return []
    turned = np.zeros((len(masks), masks.size(2), masks.size(1)), dtype=np.uint8)
    for mask, out in zip(masks.to(torch.uint8).cpu().numpy(), turned, strict=True):
        x, y, w, h = cv2.boundingRect(mask)  # most of an image is background, and turning takes longest
        if w:
            cv2.transpose(mask[y : y + h, x : x + w], out[x : x + w, y : y + h])
    return pycocotools.mask.encode(turned.transpose(2, 1, 0))
