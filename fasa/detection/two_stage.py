"""All that reaches into one of mmdet's two-stage detectors: Mask R-CNN, Cascade R-CNN, HTC and their like.

Shapes: K classes, N boxes of an image, P foreground RoIs of a batch.
"""

import copy

import torch
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.model import is_model_wrapper
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fasa.augmenter import Augmenter
from fasa.errors import UserError

LAYERS = ("shared_convs", "shared_fcs", "cls_convs", "cls_fcs", "fc_branch")  # of box heads, before `fc_cls`


def unwrap(model: nn.Module) -> nn.Module:
    """The detector itself, of one that runs on several ranks."""
    return model.module if is_model_wrapper(model) else model


def box_heads(model: nn.Module) -> list[nn.Module]:
    """The box heads of a two-stage detector, one for each stage of a cascade.

    Raises:
        UserError: it has none with a linear classifier on RoIs: it has one stage, or works on queries.
    """
    model = unwrap(model)
    roi_head = getattr(model, "roi_head", None)
    heads = getattr(roi_head, "bbox_head", None)
    heads = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
    if isinstance(roi_head, SparseRoIHead) or not all(
        isinstance(getattr(head, "fc_cls", None), nn.Linear) for head in heads
    ):
        raise UserError(
            f"{type(model).__name__} is not a two-stage detector with a linear classifier on RoIs (fc_cls of "
            "roi_head.bbox_head); one-stage and query-based detectors cannot be augmented"
        )
    return heads


def augmenters(model: nn.Module) -> list[Augmenter | None]:
    """The augmenter of each box head."""
    return [getattr(head, "augmenter", None) for head in box_heads(model)]


def feature_layers(model: nn.Module, head: nn.Module) -> list[nn.Module]:
    """What the embeddings of a box head come from: backbone, neck and the head's layers before `fc_cls`."""
    model = unwrap(model)
    parts = [model.backbone, getattr(model, "neck", None), getattr(model.roi_head, "shared_head", None)]
    parts += [getattr(head, name, None) for name in LAYERS]
    return [part for part in parts if part is not None]


def class_scores(head: nn.Module, scores: Tensor) -> Tensor:
    """Those of the scores, (N, >= K), that a softmax over classes takes, background last if it is one."""
    own_background = head.custom_cls_channels and head.fc_cls.out_features != head.num_classes + 1
    return scores[:, : head.num_classes] if own_background else scores


class TwoStage:
    """A batch's way through a two-stage detector in eval mode.

    Args:
        model: the detector.
        batch: as a data loader gives it.

    Attributes:
        samples: the images' `DetDataSample`.
        metas: their meta information.

    Raises:
        UserError: the detector has other stages, or finds no proposals itself.
    """

    def __init__(self, model: nn.Module, batch: dict):
        self.model = unwrap(model)
        self.heads, self.roi_head = box_heads(model), self.model.roi_head
        if not self.model.with_rpn:
            raise UserError(f"{type(self.model).__name__} finds no proposals itself; use one with an RPN")
        data = self.model.data_preprocessor(batch, training=False)
        self.samples = data["data_samples"]
        self.metas = [sample.metainfo for sample in self.samples]
        self.features = self.model.extract_feat(data["inputs"])
        # HTC adds a map of the whole image to the features of its RoIs, where it has one.
        self.htc = hasattr(self.roi_head, "with_semantic")
        semantic = self.htc and self.roi_head.with_semantic
        self.semantic = self.roi_head.semantic_head(self.features)[1] if semantic else None

    def proposals(self) -> list[InstanceData]:
        """The RPN's of each image."""
        return self.model.rpn_head.predict(self.features, self.samples, rescale=False)

    def boxes(self) -> list[InstanceData]:
        """All detections of each image, whatever cap the test settings have, at the size of the input."""
        settings = copy.deepcopy(self.roi_head.test_cfg)
        settings.max_per_img = -1
        more = dict(semantic_feat=self.semantic) if self.htc else {}
        return self.roi_head.predict_bbox(
            self.features, self.metas, self.proposals(), settings, rescale=False, **more
        )

    def masks(self, image: int, found: InstanceData) -> Tensor:
        """Masks, (N, H, W) bool at the size of the file, of boxes of one image."""
        part = slice(image, image + 1)
        inputs = [[level[part] for level in self.features]]
        if self.htc:
            inputs.append(self.semantic if self.semantic is None else self.semantic[part])
        return self.roi_head.predict_mask(*inputs, [self.metas[image]], [found], rescale=True)[0].masks

    @property
    def one_mask_a_box(self) -> bool:
        """Whether a box has the same mask whatever its class.

        Raises:
            UserError: there is no mask head.
        """
        if not self.roi_head.with_mask:
            raise UserError(f"{type(self.model).__name__} has no mask head; detect with masks=False")
        heads = self.roi_head.mask_head
        return bool(
            getattr(heads[-1] if isinstance(heads, nn.ModuleList) else heads, "class_agnostic", False)
        )

    def foreground_scores(self) -> list[tuple[Tensor, Tensor]]:
        """Class scores (P, >= K) and labels (P,) of all RoIs that the model's assigner calls foreground.

        The RoIs are the proposals of test time and the objects themselves; nothing is sampled, so a model and
        a batch always give the same. A stage of a cascade takes the proposals that the one before refined.

        Returns:
            One pair for each box head.
        """
        boxes, found = [one.bboxes for one in self.proposals()], []
        cascade = isinstance(self.roi_head.bbox_head, nn.ModuleList)
        for stage, head in enumerate(self.heads):
            assigner = self.roi_head.bbox_assigner[stage] if cascade else self.roi_head.bbox_assigner
            which = (stage,) if cascade else ()
            rois, labels = foreground(boxes, self.samples, assigner)
            if len(labels) == 0:
                found.append((self.features[0].new_zeros(0, head.num_classes + 1), labels))
            else:
                found.append((class_scores(head, self._forward(*which, rois=rois)["cls_score"]), labels))
            if stage + 1 < len(self.heads):
                boxes = refine(head, self._forward(stage, rois=boxes), boxes, self.metas)
        return found

    def _forward(self, *stage: int, rois: list[Tensor]) -> dict:
        more = dict(semantic_feat=self.semantic) if self.htc else {}
        return self.roi_head._bbox_forward(*stage, self.features, bbox2roi(rois), **more)


def foreground(boxes: list[Tensor], samples: list, assigner) -> tuple[list[Tensor], Tensor]:
    """RoIs of each image, its objects first, and the labels, (P,), of all."""
    rois, labels = [], []
    for proposals, sample in zip(boxes, samples, strict=True):
        objects = sample.gt_instances
        assigned = assigner.assign(InstanceData(priors=proposals), objects).gt_inds
        rois.append(torch.cat([objects.bboxes, proposals[assigned > 0]]))
        labels.append(torch.cat([objects.labels, objects.labels[assigned[assigned > 0] - 1]]))
    return rois, torch.cat(labels)


def refine(head: nn.Module, outputs: dict, boxes: list[Tensor], metas: list[dict]) -> list[Tensor]:
    """The boxes of each image as this stage's regression moves them."""
    sizes = [len(one) for one in boxes]
    best = outputs["cls_score"][:, : head.num_classes].argmax(1).split(sizes)  # where boxes differ by class
    moves = outputs["bbox_pred"].split(sizes)
    return [
        head.regress_by_class(before, label, move, meta)
        for before, label, move, meta in zip(boxes, best, moves, metas, strict=True)
    ]
