"""A row of params.yaml becomes a run: config and training."""

import copy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from fasa.data.lvis import check_images, read_annotations
from fasa.errors import UserError
from fasa.rows import Row, Schedule, read_row
from fasa.sections import strict


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
    """The mmengine config of one run; class count and names come from the annotation file.

    Args:
        data_root: in place of the profile's own.
    """
    path = Path("configs", f"{profile}.py")
    if not path.exists():
        raise UserError(f"params.yaml: profile {profile!r} has no {path}")
    cfg = Config.fromfile(path)
    if data_root:
        for dataloader in (cfg.train_dataloader, cfg.held_out_dataloader):
            dataloader.dataset.data_root = str(data_root)
    classes = class_names(cfg)
    cfg.merge_from_dict(
        dict(
            model=dict(
                roi_head=dict(
                    bbox_head=dict(
                        num_classes=len(classes), augmenter=row.augmenter and row.augmenter | {"seed": seed}
                    ),
                    mask_head=dict(num_classes=len(classes)),
                )
            ),
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
    if row.augmenter:
        adapt = held_out(cfg, "adapt") if row.adapt_every else None
        cfg.custom_hooks = [
            dict(type="AdaptationHook", dataloader=adapt, every=row.adapt_every, signal=row.signal)
        ]
    return cfg


def held_out(cfg: Config, split: str) -> dict:
    """The data loader of a split that is not trained on, ``adapt`` or ``val``."""
    dataloader = copy.deepcopy(cfg.held_out_dataloader)
    dataloader.dataset.ann_file = f"annotations/{split}.json"
    checked_annotations(dataloader.dataset)
    return dataloader


def class_names(cfg: Config) -> list[str]:
    """Names of the classes of a config's data, in order of category id."""
    annotations = checked_annotations(cfg.train_dataloader.dataset, train=True)
    return [category["name"] for category in annotations["categories"]]


def checked_annotations(dataset: dict, train: bool = False) -> dict:
    """The annotations of a data set's config, which are complete and whose images are there."""
    annotations = read_annotations(Path(dataset.data_root, dataset.ann_file), train=train)
    check_images(dataset.data_root, annotations)
    return annotations


def train_warmup(profile: str, schedule: dict, seed: int, threads: int, work_dir: Path, out: Path) -> None:
    """Train the part that all rows of a seed share: moments are gathered, nothing is drawn.

    Writes the checkpoint `out`.
    """
    schedule = strict(Schedule, schedule, "warmup")
    row = Row(augmenter=dict(type="FASA", warmup=schedule.iterations))
    _train(detector_config(profile, schedule, row, seed, work_dir), threads, out)


def train_row(
    profile: str,
    schedule: dict,
    rows: dict,
    row: str,
    seed: int,
    threads: int,
    warmup: Path,
    work_dir: Path,
    out: Path,
) -> dict:
    """Train one row from the warm-up of its seed.

    Writes the checkpoint `out`.

    Returns:
        iterations; drawn, the virtual features of each class; passes, a record of each adaptation pass.
        The latter two are empty for a row without an augmenter.
    """
    schedule = strict(Schedule, schedule, "train")
    runner = _train(
        detector_config(profile, schedule, read_row(rows, row), seed, work_dir), threads, out, warmup
    )
    augmenter = runner.model.roi_head.bbox_head.augmenter
    passes = next((hook.history for hook in runner.hooks if hasattr(hook, "history")), [])
    drawn = [] if augmenter is None else augmenter.drawn.tolist()
    return dict(iterations=schedule.iterations, drawn=drawn, passes=passes)


def augmenter_metrics(history: dict) -> dict[str, float]:
    """What FASA did in a run: adaptation passes, virtual features per iteration, groups at the end."""
    metrics = {}
    if history["drawn"]:
        metrics["fasa_virtual_per_iteration"] = sum(history["drawn"]) / history["iterations"]
        metrics["fasa_adaptations"] = len(history["passes"])
    if history["passes"]:
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
