"""From an mmengine config to a trained model, and from a model to detections."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pycocotools.mask
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn
from tqdm import tqdm

from fasa.detection.resume import LAST
from fasa.errors import UserError

MOMENTS = ".augmenter.moments."


class Branch(Hook):
    """Starts a run from a checkpoint's weights and class moments, once mmengine has initialised the model.

    The rest of an augmenter's state, its probabilities above all, stays the config's.
    """

    priority = "VERY_HIGH"

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def before_train(self, runner: Runner) -> None:
        """Load, unless this run is resumed."""
        if runner.iter > 0:
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        kept = {key: value for key, value in state.items() if ".augmenter." not in key or MOMENTS in key}
        missing, unexpected = runner.model.load_state_dict(kept, strict=False)
        if wrong := [key for key in missing + unexpected if ".augmenter." not in key]:
            raise UserError(
                f"{self.checkpoint} is of another model: {wrong[0]} and {len(wrong) - 1} more do not match"
            )


def train(cfg: Config, branch_from: Path | None = None) -> Runner:
    """Train as `cfg` says, taking up a killed run of the same work directory.

    Args:
        branch_from: a checkpoint to start from, see `Branch`.
    """
    last = Path(cfg.work_dir, LAST)
    if last.exists():
        cfg.merge_from_dict(dict(resume=True, load_from=str(last)))
    runner = Runner.from_cfg(cfg)
    if branch_from:
        runner.register_hook(Branch(branch_from), priority=Branch.priority)
    runner.train()
    return runner


def save_model(model: nn.Module, classes: list[str], path: Path) -> None:
    """Write a checkpoint of plain data that `mmdet.apis.init_detector` and a stock model read.

    The bytes depend on the weights alone.
    """
    checkpoint = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=classes)))
    # Through a buffer: given a path, torch.save writes the file's name into the archive.
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_bytes(buffer.getvalue())
    os.replace(path.with_suffix(".new"), path)


def load_model(cfg: Config, path: Path) -> nn.Module:
    """The model of `cfg`, without an augmenter, with the weights of `path`; on a GPU where there is one."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    model.load_state_dict({key: value for key, value in state.items() if ".augmenter." not in key})
    return model.to(get_device()).eval()


@torch.no_grad()
def detect(model: nn.Module, dataloader: dict) -> list[dict]:
    """Detections in LVIS's results format, scores in [0, 1], boxes x, y, w, h in pixels.

    Args:
        dataloader: config of the data loader.
    """
    dataloader = Runner.build_dataloader(dataloader, seed=0)
    category = dataloader.dataset.cat_ids
    detections = []
    for batch in tqdm(dataloader, desc="detect", unit="batch", mininterval=5, file=sys.stdout):
        for sample in model.test_step(batch):
            found = sample.pred_instances
            masks = found.masks.cpu().numpy().transpose(1, 2, 0)
            boxes = found.bboxes.cpu().double().numpy()
            boxes[:, 2:] -= boxes[:, :2]
            for label, score, box, rle in zip(
                found.labels.tolist(),
                found.scores.tolist(),
                boxes.tolist(),
                pycocotools.mask.encode(np.asfortranarray(masks, np.uint8)),
                strict=True,
            ):
                rle = dict(size=list(rle["size"]), counts=rle["counts"].decode())
                ids = dict(image_id=sample.img_id, category_id=category[label])
                detections.append(dict(**ids, score=score, bbox=box, segmentation=rle))
    return detections
