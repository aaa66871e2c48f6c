"""What FASA costs in training Mask and Cascade R-CNN at the paper's size (Table 5), with mmdet's own models.

1,203 classes, images of 800 pixels, twelve objects each, random weights. The proposals of a random RPN miss
most objects, and mask heads would have little to do: ten moved copies of every object are put among them, so
that up to a quarter of the sampled RoIs is foreground, as in a trained model.
"""

import gc
import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.agreement import stops, timed, wait

OBJECTS, COPIES = 12, 10


class Size(NamedTuple):
    """How large all is."""

    classes: int = 1203
    height: int = 800
    width: int = 1333
    warm: int = 3  # iterations that are not counted
    tiny: bool = False

    @property
    def padded(self) -> tuple[int, int]:
        """To multiples of 32, as the models pad."""
        return -self.height % 32 + self.height, -self.width % 32 + self.width


TINY = Size(classes=30, height=64, width=96, warm=1, tiny=True)
MODELS = {
    "mask_rcnn_r50": ("mask-rcnn_r50_fpn", 50),
    "mask_rcnn_r101": ("mask-rcnn_r50_fpn", 101),
    "cascade_mask_rcnn_r101": ("cascade-mask-rcnn_r50_fpn", 101),
}


def build(name: str, with_fasa: bool, size: Size, device: torch.device):
    """A model in training mode; with FASA every class has been seen, and about one is drawn an iteration."""
    from mmdet.registry import MODELS as REGISTRY
    from mmengine.config import Config
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope

    import fasa.detection  # noqa: F401 registers heads and methods
    from fasa.detection.adaptation import box_heads

    base, depth = MODELS[name]
    init_default_scope("mmdet")
    MMLogger.get_current_instance().setLevel("WARNING")  # or it tells how every weight was drawn
    cfg = Config.fromstring(f'_base_ = ["mmdet::_base_/models/{base}.py"]', ".py").model
    cfg.backbone.update(depth=18 if size.tiny else depth, init_cfg=None)
    if size.tiny:
        cfg.neck.in_channels = [64, 128, 256, 512]
        for rcnn in cfg.train_cfg.rcnn if isinstance(cfg.train_cfg.rcnn, list) else [cfg.train_cfg.rcnn]:
            rcnn.sampler.num = 8
        for proposals in (cfg.train_cfg.rpn_proposal, cfg.test_cfg.rpn):
            proposals.max_per_img = 8
    heads = cfg.roi_head.bbox_head
    for stage, head in enumerate(heads if isinstance(heads, list) else [heads]):
        head.update(type="AugmentedShared2FCBBoxHead", num_classes=size.classes)
        if with_fasa:
            head.augmenter = dict(type="FASA", seed=stage)
    masks = cfg.roi_head.mask_head
    for head in masks if isinstance(masks, list) else [masks]:
        head.num_classes = size.classes
    torch.manual_seed(0)
    model = REGISTRY.build(cfg)
    model.init_weights()
    model.to(device).train()
    counts = (100 * size.classes / torch.arange(1, size.classes + 1)).ceil().long()
    for head in box_heads(model) if with_fasa else []:
        head.augmenter.initialise(counts)
        head.augmenter.moments.seen.fill_(True)
        head.augmenter.moments.var.fill_(0.1)
    _find_objects(model.rpn_head)
    return model


def _find_objects(rpn) -> None:
    from mmengine.structures import InstanceData

    def near(boxes: Tensor, like: InstanceData) -> InstanceData:
        boxes = boxes.tensor if hasattr(boxes, "tensor") else boxes
        copies = boxes.repeat(COPIES, 1)
        sides = (copies[:, 2:] - copies[:, :2]).repeat(1, 2)
        steps = torch.linspace(-0.1, 0.1, len(copies), device=boxes.device)[:, None]
        found = dict(bboxes=copies + steps * sides, scores=like.scores.new_full((len(copies),), 0.99))
        labels = like.labels.new_zeros(len(copies))
        return InstanceData(**{key: found.get(key, labels) for key in like.keys()})  # noqa: SIM118

    def loss_and_predict(features, samples, *args, **kwargs):
        losses, results = original(features, samples, *args, **kwargs)
        pairs = zip(results, samples, strict=True)
        return losses, [InstanceData.cat([one, near(s.gt_instances.bboxes, one)]) for one, s in pairs]

    original, rpn.loss_and_predict = rpn.loss_and_predict, loss_and_predict


def images(n: int, size: Size, seed: int) -> dict[str, list]:
    """A batch as a data loader gives it: noise, objects of random classes, masks that fill their boxes."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(seed)
    shape = size.height, size.width
    inputs, samples = [], []
    for i in range(n):
        sides = rng.uniform(0.08, 0.4, (OBJECTS, 2)) * shape[::-1]
        corners = rng.uniform(0, 1, (OBJECTS, 2)) * (np.array(shape[::-1]) - sides)
        boxes = np.concatenate([corners, corners + sides], 1)
        masks = np.zeros((OBJECTS, *shape), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
            mask[y1 : y2 + 1, x1 : x2 + 1] = 1
        meta = dict(
            img_id=i,
            img_shape=shape,
            ori_shape=shape,
            pad_shape=size.padded,
            batch_input_shape=size.padded,
            scale_factor=(1.0, 1.0),
        )
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            labels=torch.tensor(rng.integers(size.classes, size=OBJECTS)),
            masks=BitmapMasks(masks, *shape),
        )
        inputs.append(torch.tensor(rng.integers(0, 256, (3, *shape), dtype=np.uint8)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def iterations(
    name: str, batch: int, count: int, size: Size, device: torch.device, amp: str | None = None
) -> Iterator[dict]:
    """Seconds, memory and stops of training iterations without and with FASA, taking turns.

    Args:
        batch: images.
        count: iterations of each that are timed.
        amp: "float16" or "bfloat16"; None: float32, in which convolutions may use TF32.
    """
    data = images(batch, size, seed=0)
    step, peak, losses, models = {}, {}, {}, {}
    for with_fasa in (False, True):
        _clear(device)
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        models[with_fasa] = model = build(name, with_fasa, size, device)
        step[with_fasa] = _trainer(model, data, amp)
        for _ in range(size.warm):
            losses[with_fasa] = step[with_fasa]()
        if device.type == "cuda":
            wait(device)
            peak[with_fasa] = (torch.cuda.max_memory_allocated() - before) / 1e9
    taken = {False: [], True: []}
    for i in range(count):
        for with_fasa in (False, True) if i % 2 else (True, False):
            taken[with_fasa].append(timed(step[with_fasa], device))
    for with_fasa, times in taken.items():
        yield dict(
            model=name,
            batch=batch,
            amp=amp,
            fasa=with_fasa,
            seconds=statistics.median(times),
            seconds_mean=statistics.mean(times),
            seconds_std=statistics.stdev(times),
            iterations=count,
            memory_gb=peak.get(with_fasa),
            stops=stops(step[with_fasa], device),
            losses={key: float(value) for key, value in losses[with_fasa].items()},
            virtual=_drawn(models[with_fasa]) / (size.warm + count + 1) if with_fasa else 0,
        )


def _drawn(model) -> int:
    from fasa.detection.adaptation import box_heads

    return sum(int(head.augmenter.drawn.sum()) for head in box_heads(model))


def _trainer(model, data: dict, amp: str | None) -> Callable[[], dict]:
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    parameters = [one for one in model.parameters() if one.requires_grad]
    # Random weights would not stand the paper's rate; what a step costs does not hang on it.
    optimizer = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9, weight_decay=1e-4)
    optim = AmpOptimWrapper(dtype=amp, optimizer=optimizer) if amp else OptimWrapper(optimizer)

    def step() -> dict:
        return model.train_step(data, optim)

    return step


def adaptation(name: str, batches: int, size: Size, device: torch.device) -> dict:
    """Seconds an image of an adaptation pass, batches of two."""
    from fasa.detection.adaptation import class_losses

    model = build(name, True, size, device)
    loader = [images(2, size, seed) for seed in range(batches)]
    class_losses(model, loader[:1])
    seconds = timed(lambda: class_losses(model, loader), device)
    return dict(model=name, images=2 * batches, seconds_per_image=seconds / (2 * batches))


def _clear(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
