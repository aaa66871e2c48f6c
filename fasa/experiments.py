"""A row of params.yaml becomes a run: config and training."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from fasa.data.lvis import check_images, read_annotations
from fasa.errors import UserError
from fasa.rows import Row, Schedule, method, read_row
from fasa.sections import strict

STAGE_SEED = 1_000_000  # between the seeds of two stages of a cascade


def schedulers(schedule: Schedule) -> list[dict]:
    """mmengine's `param_scheduler`."""
    ramp = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=schedule.ramp)
    cosine = dict(
        type="CosineAnnealingLR",
        eta_min_ratio=schedule.final,
        by_epoch=False,
        begin=schedule.ramp,
        T_max=schedule.iterations - schedule.ramp,
    )
    return [ramp] * (schedule.ramp > 0) + [cosine] * (schedule.final < 1)


def detector_config(
    profile: str, schedule: Schedule, row: Row, seed: int, work_dir: Path, data_root: Path | None = None
) -> Config:
    """The mmengine config of one run; class count, names and frequencies come from the annotation file.

    Args:
        data_root: in place of the profile's own.
    """
    path = Path("configs", profile, f"{row.model}.py")
    if not path.exists():
        raise UserError(f"params.yaml: there is no {path}, which profile {profile!r} and its row ask for")
    cfg = Config.fromfile(path)
    if data_root:
        for dataloader in (cfg.train_dataloader, cfg.held_out_dataloader):
            dataloader.dataset.data_root = str(data_root)
    categories = checked_annotations(cfg.train_dataloader.dataset, train=True)["categories"]
    classes = [category["name"] for category in categories]
    cfg.merge_from_dict(
        dict(
            train_dataloader=dict(batch_size=schedule.batch, dataset=dict(metainfo=dict(classes=classes))),
            held_out_dataloader=dict(dataset=dict(metainfo=dict(classes=classes))),
            optim_wrapper=dict(optimizer=dict(lr=schedule.lr)),
            param_scheduler=schedulers(schedule),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=schedule.iterations),
            # Not on a GPU: bilinear upsampling has no deterministic backward there and would refuse.
            randomness=dict(seed=seed, deterministic=not torch.cuda.is_available()),
            work_dir=str(work_dir),
            experiment_name=Path(work_dir).name,
        )
    )
    cfg.model.roi_head.mask_head.num_classes = len(classes)
    heads = cfg.model.roi_head.bbox_head
    for stage, head in enumerate(heads if isinstance(heads, list) else [heads]):
        head.num_classes = len(classes)
        head.update(classifier(row, len(classes)))
        # Stages draw on their own, or all would draw the same.
        head.augmenter = row.augmenter and row.augmenter | {"seed": seed + STAGE_SEED * stage}
    resample(cfg, row, [category["frequency"] for category in categories])
    if row.augmenter:
        adapt = held_out(cfg, "adapt") if row.adapt_every else None
        cfg.custom_hooks = [
            dict(type="AdaptationHook", dataloader=adapt, every=row.adapt_every, signal=row.signal)
        ]
        if row.augmenter.get("phase"):
            cfg.custom_hooks.append(dict(type="PhasesHook"))
        # What is frozen, or bypassed by scores of another kind, gets no gradient.
        cfg.find_unused_parameters = method(row.augmenter).changes_scores
    return cfg


def classifier(row: Row, num_classes: int) -> dict:
    """What of a box head's config a row's `classifier` and `loss` change."""
    changes = {}
    if row.classifier == "normed":
        changes["cls_predictor_cfg"] = dict(type="NormedLinear", tempearture=20)  # mmdet's spelling
    if row.loss == "seesaw":
        changes["loss_cls"] = dict(type="SeesawLoss", p=0.8, q=2.0, num_classes=num_classes)
    return changes


def resample(cfg: Config, row: Row, frequencies: list[str]) -> None:
    """Change what a row draws or makes of images and proposals.

    Args:
        frequencies: "r", "c" or "f" of each class.
    """
    pipeline = cfg.train_dataloader.dataset.pipeline
    if row.rfs:
        cfg.train_dataloader.sampler = dict(type="RepeatFactorSampler", **row.rfs)
    if row.nms_resampling:
        cfg.model.rpn_head.update(type="NMSResamplingRPNHead", frequencies=frequencies)
        pipeline.append(dict(type="KeepLabels"))  # mmdet hides the classes from the RPN
    if row.instaboost:
        pipeline.insert(1, dict(type="CompatibleInstaBoost"))  # between image and annotations


def held_out(cfg: Config, split: str) -> dict:
    """The data loader of a split that is not trained on, ``adapt`` or ``val``."""
    dataloader = copy.deepcopy(cfg.held_out_dataloader)
    dataloader.dataset.ann_file = f"annotations/{split}.json"
    checked_annotations(dataloader.dataset)
    return dataloader


def checked_annotations(dataset: dict, train: bool = False) -> dict:
    """The annotations of a data set's config, which are complete and whose images are there."""
    annotations = read_annotations(Path(dataset.data_root, dataset.ann_file), train=train)
    check_images(dataset.data_root, annotations)
    return annotations


def train_warmup(profile: str, schedule: dict, seed: int, threads: int, work_dir: Path, out: Path) -> None:
    """Train the part that all rows of a seed share: moments are gathered, nothing is drawn.

    Writes the checkpoint `out`.
    """
    row = Row(augmenter=dict(type="FASA"))
    _warm_up(profile, strict(Schedule, schedule, "warmup"), row, seed, threads, work_dir, out)


def train_row(
    profile: str,
    schedules: dict[str, dict],
    rows: dict,
    row: str,
    seed: int,
    threads: int,
    warmup: Path,
    work_dir: Path,
    out: Path,
) -> dict:
    """Train one row from the warm-up of its seed, or from one of its own where its network is another.

    Writes the checkpoint `out`.

    Args:
        schedules: the sections `warmup` and `train` of params.yaml.
        warmup: the shared checkpoint.

    Returns:
        iterations; drawn, the virtual samples of each class, of all stages together; passes, a record of each
        adaptation pass and stage. The latter two are empty for a row without an augmenter.
    """
    from fasa.detection.adaptation import box_heads

    before, schedule = (strict(Schedule, schedules[name], name) for name in ("warmup", "train"))
    settings = read_row(rows, row)
    if not settings.shares_warmup:
        warmup = Path(work_dir, "warmup.pth")
        if not warmup.exists():
            _warm_up(profile, before, settings, seed, threads, Path(work_dir, "warmup"), warmup)
    runner = _train(detector_config(profile, schedule, settings, seed, work_dir), threads, out, warmup)
    passes = next((hook.history for hook in runner.hooks if hasattr(hook, "history")), [])
    augmenters = [head.augmenter for head in box_heads(runner.model) if head.augmenter]
    drawn = sum(augmenter.drawn for augmenter in augmenters).tolist() if augmenters else []
    return dict(iterations=schedule.iterations, drawn=drawn, passes=passes)


def _warm_up(
    profile: str, schedule: Schedule, row: Row, seed: int, threads: int, work_dir: Path, out: Path
) -> None:
    """Train a row's network on plain images, its augmenter gathering statistics only."""
    augmenter = row.augmenter and row.augmenter | dict(warmup=schedule.iterations)
    row = replace(
        row, augmenter=augmenter, adapt_every=None, rfs=None, nms_resampling=False, instaboost=False
    )
    _train(detector_config(profile, schedule, row, seed, work_dir), threads, out)


def augmenter_metrics(history: dict) -> dict[str, float]:
    """What an augmenter did in a run: virtual samples per iteration, adaptation passes, groups at the end."""
    metrics = {}
    if history["drawn"]:
        metrics["virtual_per_iteration"] = sum(history["drawn"]) / history["iterations"]
    if history["passes"]:
        metrics["fasa_adaptations"] = len({one["iteration"] for one in history["passes"]})
        metrics["fasa_groups"] = max(history["passes"][-1]["group"]) + 1
    return metrics


def class_means(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean embedding of each class in a checkpoint, (K, D), and whether the class was seen, (K,) bool."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    moments = "roi_head.bbox_head.augmenter.moments."
    return state[moments + "mean"].numpy(), state[moments + "seen"].numpy()


def _train(cfg: Config, threads: int, out: Path, branch_from: Path | None = None):
    from fasa.detection.training import save_model, train

    torch.set_num_threads(threads)  # the sums of a convolution depend on it
    torch.utils.deterministic.fill_uninitialized_memory = False  # it finds bugs, for 12% of the time
    runner = train(cfg, branch_from)
    save_model(runner.model, cfg.train_dataloader.dataset.metainfo.classes, out)
    return runner
