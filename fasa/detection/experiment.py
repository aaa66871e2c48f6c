"""A job becomes a run: config and training."""

import copy
from importlib import import_module
from os.path import relpath
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process

from fasa import traits
from fasa.data import source
from fasa.data.compact import annotations
from fasa.detection.head import STAGE_SEED
from fasa.detection.overridden import overridden
from fasa.detection.ranks import agreed, for_ranks
from fasa.detection.training import save_history, save_model, start_from, train
from fasa.detection.weights import initial_weights
from fasa.errors import UserError
from fasa.job import Job, Optimizer, Schedule, method
from fasa.sections import read


class Classes(NamedTuple):
    """What a config is told of the data set's classes, in order of their ids."""

    names: list[str]
    frequencies: list[str]  # "r", "c" or "f"


def model_config(job: Job) -> Config:
    """The mmengine config of a job's model and data; the classes are those of the annotation file."""
    path = Path(traits.CONFIGS, job.configs, f"{job.model}.py")
    if not path.exists():
        raise UserError(
            f"params.yaml: there is no {path}, which profile {job.profile!r} and row {job.row!r} ask for"
        )
    cfg = overridden(path, job.config, job.profile)
    if "segm" not in source(job.data).iou_types:
        without_masks(cfg)
    found = annotations(job.data, "train", thorough=is_main_process())
    classes = Classes(found.names.tolist(), found.frequency.tolist())
    for loader, part in ((cfg.train_dataloader, "train"), (cfg.held_out_dataloader, "val")):
        place = part_of(job.data, part)
        traits.innermost(loader.dataset).update(place, metainfo=dict(classes=classes.names))
    for mask_head in filter(None, traits.listed(cfg.model.roi_head.mask_head)):
        mask_head.num_classes = len(classes.names)
    for stage, head in enumerate(traits.box_heads(cfg)):
        head.num_classes = len(classes.names)
        head.type = f"Augmented{head.type.removeprefix('Augmented')}"
        # Stages draw on their own, or all would draw the same.
        head.augmenter = job.augmenter and job.augmenter | {"seed": job.seed + STAGE_SEED * stage}
    cfg.classes, cfg.data = classes._asdict(), job.data
    return cfg


def without_masks(cfg: Config) -> None:
    """Make a config that of a detector of boxes, for data that have no masks."""
    cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    for step in traits.innermost(cfg.train_dataloader.dataset).pipeline:
        if step.type == "LoadAnnotations":
            step.with_mask = False


def training_config(job: Job, schedule: Schedule, work_dir: Path) -> Config:
    """The mmengine config of a run: the model's, and how it is trained."""
    cfg = model_config(job)
    by_epoch = schedule.epochs is not None
    loop = dict(type="EpochBasedTrainLoop", max_epochs=schedule.epochs)
    cfg.train_cfg = loop if by_epoch else dict(type="IterBasedTrainLoop", max_iters=schedule.iterations)
    cfg.train_dataloader.batch_size = schedule.batch
    cfg.optim_wrapper.update(optimizers(job.optimizer))
    cfg.param_scheduler = schedulers(schedule)
    # Not on a GPU: bilinear upsampling has no deterministic backward there and would refuse.
    cfg.randomness = dict(seed=job.seed, deterministic=not torch.cuda.is_available())
    cfg.work_dir, cfg.experiment_name = str(work_dir), Path(work_dir).name
    classes = Classes(**cfg.classes)
    hooks = []
    for name, settings in job.traits.items():
        trait = traits.load(name)
        for module in trait.imports:
            import_module(module)
        trait.apply(cfg, classes, read(trait.Settings, settings, name))
    if job.augmenter:
        adapt = held_out(cfg, "adapt") if job.adapt_every is not None else None
        hooks.append(
            dict(type="AdaptationHook", dataloader=adapt, every=job.adapt_every or None, signal=job.signal)
        )
        if job.augmenter.get("phase"):
            hooks.append(dict(type="PhasesHook"))
            # torch's fused SGD fails where a parameter gets its first gradient later than others.
            optimizer = cfg.optim_wrapper.optimizer
            for one in filter(None, (optimizer, optimizer.get("classifier"))):
                one.fused = one.type != "SGD"
        # What is frozen, or bypassed by scores of another kind, gets no gradient.
        cfg.find_unused_parameters = method(job.augmenter).changes_scores
    cfg.custom_hooks = [*hooks, *cfg.get("custom_hooks", [])]
    return cfg


def optimizers(optimizer: Optimizer) -> dict:
    """Of mmengine's `optim_wrapper` what says how to optimise."""
    settings = msgspec.to_builtins(optimizer)
    settings = {name: value for name, value in settings.items() if name != "classifier" and value is not None}
    built = dict(optimizer=settings | dict(fused=True))  # a loop over parameters is slower
    if optimizer.classifier:
        built["optimizer"]["classifier"] = optimizers(optimizer.classifier)["optimizer"]
        built["constructor"] = "ClassifierApart"
    return built


def schedulers(schedule: Schedule) -> list[dict]:
    """mmengine's `param_scheduler`."""
    by_epoch = schedule.epochs is not None
    ramp = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=schedule.ramp)
    falls = []
    if schedule.steps:
        falls = [dict(type="MultiStepLR", milestones=schedule.steps, gamma=0.1, by_epoch=by_epoch)]
    elif schedule.final < 1:
        rest = schedule.length - schedule.ramp
        cosine = dict(type="CosineAnnealingLR", eta_min_ratio=schedule.final, by_epoch=False)
        falls = [cosine | dict(begin=schedule.ramp, T_max=rest)]
    return [ramp] * (schedule.ramp > 0) + falls


def part_of(data: str, part: str) -> dict:
    """Where a part's annotations and images are, as an mmdet data set takes it."""
    images = source(data).images
    prefix = images if Path(images).is_absolute() and not Path(data).is_absolute() else relpath(images, data)
    return dict(data_root=data, data_prefix=dict(img=prefix), ann_file=f"annotations/{part}.json")


def held_out(cfg: Config, part: str) -> dict:
    """The data loader of ``adapt`` or ``val``, of a config of `model_config`."""
    annotations(cfg.data, part, thorough=is_main_process())
    dataloader = copy.deepcopy(cfg.held_out_dataloader)
    dataloader.dataset.update(part_of(cfg.data, part))
    return dataloader


def train_warmup(job: Job, work_dir: Path, out: Path) -> None:
    """Train the part that all rows of a seed share: moments are gathered, nothing is drawn.

    Writes the checkpoint `out`; one without weights where the profile's rows share nothing.
    """
    if job.warmup is None:
        print(f"{job.profile} has no warm-up: each row is one run from initial weights")
        save_model(torch.nn.Module(), [], out)
    else:
        _warm_up(job, work_dir, out)


def train_row(job: Job, warmup: Path, work_dir: Path, out: Path, history: Path) -> None:
    """Train one row from the warm-up of its seed, or from one of its own where its network is another.

    Writes the checkpoint `out` and, as JSON, what augmenters did, see `save_history`.

    Args:
        warmup: the shared checkpoint.
    """
    start = warmup
    if job.warmup is None:
        start = None
    elif job.own_warmup:
        start = Path(work_dir, "warmup.pth")
        if not agreed(start.exists()):
            _warm_up(job, Path(work_dir, "warmup"), start)
    save_history(_train(job, job.train, work_dir, out, start), history)


def _warm_up(job: Job, work_dir: Path, out: Path) -> None:
    """Train a row's network on plain images, its augmenter gathering statistics only."""
    augmenter = job.augmenter and job.augmenter | dict(warmup=job.warmup.length)
    kept = {name: settings for name, settings in job.traits.items() if traits.load(name).warmup}
    plain = msgspec.structs.replace(job, augmenter=augmenter, adapt_every=None, traits=kept)
    _train(plain, job.warmup, work_dir, out)


def _train(job: Job, schedule: Schedule, work_dir: Path, out: Path, branch_from: Path | None = None):
    settle(job.threads)
    cfg = training_config(job, schedule, work_dir)
    if branch_from is None and job.pretrained:
        start_from(cfg, job.pretrained)
    elif branch_from is None:
        cfg.model.backbone.init_cfg = initial_weights(job.weights, cfg.model.backbone)
    runner = train(for_ranks(cfg, get_world_size(), schedule.batch), branch_from)
    save_model(runner.model, cfg.classes["names"], out)
    return runner


def settle(threads: int) -> None:
    """Set what torch computes with in this process."""
    torch.set_num_threads(threads)  # the sums of a convolution depend on it
    torch.utils.deterministic.fill_uninitialized_memory = False  # it finds bugs, for 12% of the time


def augmenter_metrics(history: dict) -> dict[str, float]:
    """What an augmenter did in a run: virtual samples per iteration, adaptation passes, groups at the end."""
    metrics = {}
    if history["drawn"]:
        metrics["virtual_per_iteration"] = sum(history["drawn"]) / history["iterations"]
    if history["passes"]:
        metrics["fasa_adaptations"] = len({one["iteration"] for one in history["passes"]})
        metrics["fasa_groups"] = max(history["passes"][-1]["group"]) + 1
    return metrics
