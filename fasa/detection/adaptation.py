"""When and on what FASA adapts: a pass over held-out images, with no trace in the model.

Shapes: K classes, P foreground RoIs of a batch.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import HOOKS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from fasa.class_stats import all_reduce_sum
from fasa.detection.inference import detect, placed
from fasa.detection.ranks import gathered
from fasa.detection.resume import check_every, rng_state, sampler, set_rng_state
from fasa.detection.two_stage import TwoStage, augmenters, box_heads, unwrap
from fasa.errors import UserError
from fasa.evaluation.ap import judge
from fasa.evaluation.inputs import GroundTruth, read_ground_truth
from fasa.evaluation.matches import Matcher
from fasa.evaluation.protocols import OLD
from fasa.evaluation.reading import read
from fasa.files import readable_errors, replacing

KEPT = "passes.json"


def instance_counts(dataset, num_classes: int) -> Tensor:
    """Instances of each class, (K,) int64, in what an mmdet data set yields, repeats left out."""
    if len(parts := bases(dataset)) > 1 or parts[0] is not dataset:
        return sum(instance_counts(part, num_classes) for part in parts)
    if not hasattr(dataset, "full_init"):
        raise UserError(f"{type(dataset).__name__} tells no instances; train on a data set of mmdet's")
    dataset.full_init()
    labels = [
        instance["bbox_label"]
        for i in range(len(dataset))
        for instance in dataset.get_data_info(i)["instances"]
        if not instance.get("ignore_flag")
    ]
    if labels and max(labels) >= num_classes:
        raise UserError(
            f"{type(dataset).__name__}: label {max(labels)}, but the head has {num_classes} classes; set its "
            "num_classes to those of the data set"
        )
    return torch.bincount(torch.tensor(labels, dtype=torch.int64), minlength=num_classes)


@torch.no_grad()
def class_losses(model: nn.Module, dataloader) -> list[Tensor]:
    """Mean cross-entropy of each class's foreground RoIs over a data loader, all ranks together.

    Plain cross-entropy, not the head's loss, whose counters must not see held-out data.

    Returns:
        For each box head (K,) float32 in nats, NaN where a class has no RoI.
    """
    model, heads = unwrap(model), box_heads(model)
    num_classes = heads[0].num_classes
    device = next(model.parameters()).device
    total, n = torch.zeros(2, len(heads), num_classes, dtype=torch.float64, device=device)
    training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):  # a data loader draws from the generator that training uses
        for batch in dataloader:
            for head, (scores, labels) in enumerate(TwoStage(model, batch).foreground_scores()):
                losses = F.cross_entropy(scores.float(), labels, reduction="none").double()
                total[head].index_add_(0, labels, losses)
                n[head] += torch.bincount(labels, minlength=num_classes)
    model.train(training)
    return list((all_reduce_sum(total) / all_reduce_sum(n)).float())


def class_precisions(model: nn.Module, dataloader, gt: GroundTruth) -> Tensor:
    """Box AP of each class over a data loader, all ranks together.

    Boxes, not masks: what virtual features move is the classification, and boxes take a fraction of the time.

    Args:
        gt: of the data loader's images, for "bbox".

    Returns:
        (K,) float32 in [0, 1], NaN where a class has no object.
    """
    model = unwrap(model)
    training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):  # as above
        matcher = Matcher(gt, [OLD])  # which holds no more than what takes part
        for place, one in placed(detect(model, dataloader, masks=False, matcher=matcher), dataloader):
            matcher.add(one.detections("bbox"), place)
    model.train(training)
    shares = gathered(matcher.share())
    cat_ids = dataloader.dataset.cat_ids
    ap = torch.zeros(len(cat_ids), device=next(model.parameters()).device)
    if shares is not None:  # the first rank judges for all
        for share in shares[1:]:
            matcher.merge(share)
        per_class = judge(matcher.matches()).per_class / 100
        order = np.searchsorted(gt.category_ids, cat_ids)
        ap.copy_(torch.from_numpy(per_class[order]))
    return all_reduce_sum(ap)


SIGNALS = dict(loss=("class_loss", 1), metric=("class_ap", -1))  # name in a record; lower is better


@HOOKS.register_module()
class AdaptationHook(Hook):
    """Gives augmenters the class counts before training, and adapts them on held-out data during it.

    Args:
        dataloader: what differs from the config's `val_dataloader`, if it has one: at the least the data
            set's `ann_file` (and `data_prefix`) of images held out from training. Wrappers that repeat or mix
            images are taken off: the pass sees each once. A data set of another type than the config's stands
            for itself. None: class counts only, no adaptation.
        every: iterations between passes; None: after every epoch, in a loop by iterations after as many as
            take the number of the images.
        signal: what an augmenter adapts to: "loss", or "metric", the box AP of a class (appendix B.2).

    Attributes:
        history: one record per pass and box head, plain data: iteration, stage of a cascade (0 without), and
            per class loss or AP and what the augmenter records, for FASA probability and group.
    """

    def __init__(self, dataloader: dict | None = None, every: int | None = None, signal: str = "loss"):
        if not isinstance(signal, str) or signal not in SIGNALS:
            raise UserError(f"AdaptationHook: signal is {signal!r}; known: {', '.join(SIGNALS)}")
        check_every("AdaptationHook", every)
        if dataloader is not None and not (isinstance(dataloader, dict) and dataloader.get("dataset")):
            raise UserError(
                f"AdaptationHook: dataloader is {dataloader!r}; it must say what is held out, such as "
                'dict(dataset=dict(ann_file="annotations/adapt.json"))'
            )
        if dataloader is not None and not isinstance(dataloader["dataset"], dict):
            raise UserError(
                f"AdaptationHook: dataloader.dataset is {dataloader['dataset']!r}; it must be a dict"
            )
        self.overrides, self.dataloader, self.every, self.signal = dataloader, None, every, signal
        self.gt: GroundTruth | None = None
        self.history: list[dict] = []

    def before_train(self, runner: Runner) -> None:
        """Build the loader; give the augmenters their class counts unless they have them from a resumed run.

        Raises:
            UserError: there is no augmenter, or one with stages and no `PhasesHook`; a loop by epochs whose
                first would never end; images to adapt on of other classes, without an object or not there.
        """
        if isinstance(runner.train_loop, EpochBasedTrainLoop) and isinstance(
            sampler(runner), InfiniteSampler
        ):
            raise UserError(
                f"{type(sampler(runner)).__name__}: an epoch of it never ends; set train_cfg to an "
                "IterBasedTrainLoop, or, to repeat images, wrap the data set in a ClassBalancedDataset"
            )
        if not any(augmenters(runner.model)):
            raise UserError("AdaptationHook: no box head has an augmenter; use AugmentedShared2FCBBoxHead's")
        phased = [one for one in augmenters(runner.model) if one and one.phase]
        if phased and not any(type(hook).__name__ == "PhasesHook" for hook in runner.hooks):
            raise UserError(
                f"{type(phased[0]).__name__}: a phase is given, but nothing freezes what it is not to train; "
                'add dict(type="PhasesHook") to custom_hooks'
            )
        if self.overrides is not None:
            cfg = held_out_loader(runner.cfg.get("val_dataloader"), self.overrides)
            self.dataloader = Runner.build_dataloader(cfg, seed=0)
            dataset = self.dataloader.dataset
            check_held_out(dataset, runner.train_dataloader.dataset, box_heads(runner.model)[0].num_classes)
            if self.signal == "metric":
                self.gt = judged_by(dataset)
        if self.every is None and isinstance(runner.train_loop, IterBasedTrainLoop):
            loader = runner.train_dataloader
            self.every = max(1, len(loader.dataset) // (loader.batch_sampler.batch_size * get_world_size()))
        if runner.iter == 0:
            self.history = []
        for augmenter in filter(None, augmenters(runner.model)):
            if self.overrides is not None and augmenter.warmup >= runner.max_iters:
                runner.logger.warning(
                    f"{type(augmenter).__name__} draws nothing: its warmup is {augmenter.warmup} iterations, "
                    f"the training {runner.max_iters}"
                )
            if runner.iter == 0 or augmenter.counts[0] < 0:  # else a resumed run's, probabilities among them
                augmenter.initialise(instance_counts(runner.train_dataloader.dataset, augmenter.num_classes))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Adapt every `every` iterations."""
        if self.every and self.every_n_train_iters(runner, self.every):
            self.adapt(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Adapt after every epoch where `every` is None; a loop by iterations calls this once, at its end."""
        if self.every is None:
            self.adapt(runner, runner.iter)

    def adapt(self, runner: Runner, iteration: int) -> None:
        """One pass and one step of every augmenter."""
        if self.dataloader is None:
            return
        with runner.optim_wrapper.optim_context(runner.model):  # in mixed precision where training is
            values = self.measure(runner.model)
        name, sign = SIGNALS[self.signal]
        for stage, (augmenter, value) in enumerate(zip(augmenters(runner.model), values, strict=True)):
            if augmenter is None or not augmenter.adapts():
                continue
            augmenter.adapt(sign * value)
            record = dict(iteration=iteration, stage=stage) | augmenter.record() | {name: value.tolist()}
            self.history.append(record)
        if is_main_process():
            with replacing(Path(runner.work_dir, KEPT), "w") as file:
                json.dump(dict(passes=self.history), file)

    def measure(self, model: nn.Module) -> list[Tensor]:
        """The signal of each box head, (K,); a metric is that of them all together."""
        if self.signal == "metric":
            return [class_precisions(model, self.dataloader, self.gt)] * len(box_heads(model))
        return class_losses(model, self.dataloader)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """The history travels with the checkpoint."""
        checkpoint["adaptation_history"] = self.history

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take up the history of the run that is resumed."""
        self.history = list(checkpoint.get("adaptation_history", []))


def check_held_out(dataset, trained_on, num_classes: int) -> None:
    """Refuse images that cannot be adapted on, before hours of training and not after them.

    Args:
        dataset: of the images held out; of mmdet's data sets, else nothing is looked at.
        trained_on: the data set that labels are of, wrapped or not.

    Raises:
        UserError: labels mean other classes there, there is no object, or the first image cannot be loaded.
    """
    held_out, trained_on = bases(dataset), bases(trained_on)
    if not all(hasattr(one, "full_init") for one in (*held_out, *trained_on)):
        return
    for mine in held_out:
        for theirs in trained_on:
            if labels(mine) != labels(theirs) and names(mine) != names(theirs):
                raise UserError(
                    f"AdaptationHook: labels mean other classes in {told(mine)} than in {told(theirs)}; give "
                    "both files the same categories in one order, and both data sets one metainfo"
                )
    if not instance_counts(dataset, num_classes).any():
        raise UserError(f"AdaptationHook: {told(held_out[0])} has no object to adapt on")
    before = rng_state()
    with readable_errors(told(held_out[0])):
        dataset[0]
    set_rng_state(before)


def bases(dataset) -> list:
    """The data sets that a wrapped one is made of."""
    if hasattr(dataset, "datasets"):  # ConcatDataset
        return [one for part in dataset.datasets for one in bases(part)]
    # ClassBalancedDataset, RepeatDataset, MultiImageMixDataset
    return bases(dataset.dataset) if hasattr(dataset, "dataset") else [dataset]


def labels(dataset) -> list:
    """What each label stands for: the id of its category in the file, or the name of a class."""
    dataset.full_init()
    return list(getattr(dataset, "cat_ids", None) or dataset.metainfo.get("classes", ()))


class _Category(msgspec.Struct):
    id: int | float
    name: Any = None


class _Categories(msgspec.Struct):
    categories: list[_Category]


def names(dataset) -> list:
    """The class of each label by name."""
    if not getattr(dataset, "cat_ids", None):
        return labels(dataset)
    _, file = read(dataset.ann_file, "", _Categories)
    known = {category.id: category.name for category in file.categories}
    return [known[one] for one in dataset.cat_ids]


def told(dataset) -> str:
    """A data set as it stands in a message."""
    return str(getattr(dataset, "ann_file", "") or type(dataset).__name__)


def judged_by(dataset) -> GroundTruth:
    """The annotations by which a data set's boxes are judged.

    Raises:
        UserError: it is not of one file, or not of all of that file's images.
    """
    if not hasattr(dataset, "ann_file"):
        kind = type(dataset).__name__
        raise UserError(f'AdaptationHook: signal="metric" takes a data set of one ann_file, not a {kind}')
    gt = read_ground_truth(dataset.ann_file, "bbox")
    if len(dataset) != len(gt.image_ids):
        raise UserError(
            f'AdaptationHook: signal="metric" judges by all {len(gt.image_ids):,} images of '
            f"{dataset.ann_file}, of which the data set has {len(dataset):,}; give it a file of its own"
        )
    return gt


def held_out_loader(base: dict | None, overrides: dict) -> Config:
    """The config of the loader that a pass reads: each image once, its boxes with it.

    Args:
        base: the config's `val_dataloader`; None: it has none.
        overrides: see `AdaptationHook`.

    Raises:
        UserError: no data set, or no pipeline, is said anywhere.
    """
    base, overrides = Config(dict(base or {})), Config(dict(overrides))
    template = base.get("dataset") and unwrapped(base.dataset)
    mine = overrides.get("dataset", {})
    if template and "datasets" in template and mine:  # of parts that are alike: what differs is said
        template = template.datasets[0]
    pipeline = template and template.get("pipeline")
    if mine.get("type", template and template.type) == (template and template.type):
        dataset = Config(dict(template or {}))
        dataset.merge_from_dict(mine)
    else:
        dataset = Config(dict(unwrapped(mine)))
    parts = dataset.datasets if "datasets" in dataset else [dataset]
    for part in parts:
        if "type" not in part or not part.get("pipeline", pipeline):
            raise UserError(
                "AdaptationHook: no val_dataloader to take the data set and its pipeline from; "
                "give dataloader=dict(dataset=dict(type=..., ann_file=..., pipeline=[...]))"
            )
        part["pipeline"] = boxes_first(part.get("pipeline", pipeline))
    cfg = Config({key: value for key, value in base.items() if key not in ("dataset", "batch_sampler")})
    cfg.merge_from_dict({key: value for key, value in overrides.items() if key != "dataset"})
    cfg.dataset, cfg.sampler = dataset.to_dict(), dict(type="DefaultSampler", shuffle=False, round_up=False)
    return cfg


def unwrapped(dataset: dict) -> dict:
    """The config of a data set without wrappers that repeat or mix its images; parts of several too."""
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    if "datasets" in dataset:
        dataset = ConfigDict(dataset, datasets=[unwrapped(part) for part in dataset["datasets"]])
    return dataset


def boxes_first(pipeline: list[dict]) -> list[dict]:
    """A test pipeline that loads boxes right after the image, so that a resize takes them along.

    mmdet's own load annotations after the resize, at the size of the file: right for evaluation, but RoIs at
    such boxes would miss their objects.
    """
    boxes = dict(type="LoadAnnotations", with_bbox=True)
    names = [str(step["type"]).rpartition(".")[2] for step in pipeline]
    kinds = [name.startswith("Load") and ("image" if "Image" in name else "other") for name in names]
    images = [step for step, kind in zip(pipeline, kinds, strict=True) if kind == "image"]
    rest = [step for step, kind in zip(pipeline, kinds, strict=True) if not kind]
    return [*images, boxes, *rest]
