"""What a trained row's classifier sees of objects: their embeddings.

Shapes: P objects, D the width of embeddings.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures.bbox import bbox2roi
from mmengine.runner import Runner

from fasa.detection.experiment import held_out, settle, training_config
from fasa.detection.inference import load_model
from fasa.detection.two_stage import TwoStage
from fasa.job import Job


class Embedder:
    """Embeds objects of train, boxes as annotated, with the network as it is at test time.

    The class moments are of training's RoIs instead, which lie about the objects: near these, not the same.

    Args:
        job: of the row.
        checkpoint: that it has ended with.
    """

    def __init__(self, job: Job, checkpoint: str | Path):
        settle(job.threads)
        cfg = training_config(job, job.train, Path("unused"))
        self.model, self.dataloader = load_model(cfg, Path(checkpoint)), held_out(cfg, "train")
        self.dataset = DATASETS.build(self.dataloader.dataset)

    @torch.no_grad()
    def __call__(self, labels: Sequence[int], most: int = 40) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (P, D) float32 of objects of some classes, at most so many of each, and labels (P,)."""
        found, images = Counter(), []
        for i in range(len(self.dataset)):
            here = [k for k in self.dataset.get_cat_ids(i) if k in labels and found[k] < most]
            found.update(here)
            if here:
                images.append(i)
        self.dataloader.dataset.indices = images
        parts = [self._of(batch) for batch in Runner.build_dataloader(self.dataloader, seed=0)]
        z, label = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        keep = np.concatenate([np.flatnonzero(label == k)[:most] for k in labels])
        return z[keep], label[keep]

    def _of(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Of all objects in a batch what enters the classifier, of a cascade the first stage's."""
        images, seen = TwoStage(self.model, batch), []
        objects = [sample.gt_instances for sample in images.samples]
        hook = images.heads[0].fc_cls.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0]), prepend=True
        )
        stage = (0,) if isinstance(images.roi_head.bbox_head, torch.nn.ModuleList) else ()
        rois = bbox2roi([one.bboxes for one in objects])
        images.roi_head._bbox_forward(*stage, images.features, rois)
        hook.remove()
        return seen[0], torch.cat([one.labels for one in objects])
