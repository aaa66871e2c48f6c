"""An evaluated run becomes the record that is kept of it.

Shapes: R resamples or B weightings of I images, G rare objects, S of them with a picture.
"""

import platform
import re
from pathlib import Path

import numpy as np
import torch

from fasa.data import lvis
from fasa.data.repeat_factors import by_frequency, image_classes, repeat_factors
from fasa.detection import partners
from fasa.detection.evaluate import Detected, measured
from fasa.detection.experiment import augmenter_metrics
from fasa.evaluation import (
    OLD,
    PROTOCOLS,
    Detections,
    GroundTruth,
    best_detections,
    draws,
    fingerprint,
    judge,
    read_ground_truth,
    replicates,
    tide,
    tide_replicates,
)
from fasa.job import Job
from fasa.record import SHOWN, Rare, Record, Scenes

PICTURES = 200  # rare objects of which a record keeps mask and box: some 15 KB
SCENES = 12  # of which it keeps the detections: some 5 KB


def record(job: Job, detected: Detected, checkpoint: Path, history: dict, resamples: int) -> Record:
    """All that the reports tell of a run, from its detections on ``val``.

    Args:
        job: of the run.
        checkpoint, history: what training it gave.
        resamples: R, of the images; the same for runs on the same images.
    """
    annotations = Path(job.data, "annotations", "val.json")
    first = next(iter(detected.matches))  # what the paper reports: masks, where there are any
    metrics, kept, class_ap = {}, {}, {}
    for kind, matches in detected.matches.items():
        for protocol in PROTOCOLS.values():
            result = judge(matches, protocol)
            metrics |= measured(kind, protocol.name, result.summary)
            if protocol == OLD:
                class_ap[kind] = result.per_class
            if kind == first or protocol == OLD:
                kept |= measured(kind, protocol.name, replicates(matches, protocol, resamples))
        errors = tide(annotations, detected.best[kind], kind)
        metrics |= measured(kind, "tide", errors.main | errors.special)
    gt = read_ground_truth(annotations, first)
    weights = draws(len(gt.image_ids), resamples)
    kept |= measured(first, "tide", tide_replicates(gt, detected.best[first], weights, first))
    rare = (gt.frequency[gt.label] == "r") & ~gt.ignore
    found = rare_objects(gt, detected.best, np.flatnonzero(rare))
    best = found.score
    metrics |= measured(first, "rare", seen(best, gt.image[rare], np.ones((1, len(gt.image_ids)))))
    kept |= measured(first, "rare", seen(best, gt.image[rare], weights))
    metrics = {name: float(np.squeeze(value)) for name, value in metrics.items()}
    metrics |= augmenter_metrics(history) | remarks(job, checkpoint)
    return Record(
        metrics,
        images=fingerprint(detected.matches[first], resamples),
        replicates={name: values for name, values in kept.items() if name in metrics},
        class_ap=class_ap,
        rare=found,
        scenes=scenes(gt, detected.best),
        passes=history["passes"],
        machine=machine(),
    )


def rare_objects(gt: GroundTruth, best: dict[str, Detections], rare: np.ndarray) -> Rare:
    """The best-scoring detection of each rare object, and what a picture of some of them needs.

    Args:
        gt: by masks, where there are any.
        best: the same detections for each kind, "segm" and "bbox".
        rare: which objects are, (G,).
    """
    dt = best[gt.iou_type]
    which, score, iou = (column[rare] for column in best_detections(gt, dt, gt.iou_type))
    pictured = np.unique(np.linspace(0, len(rare) - 1, PICTURES).round().astype(int)) if len(rare) else rare
    shown = which[pictured]
    boxes = np.array([best["bbox"].shape[k] if k >= 0 else [np.nan] * 4 for k in shown]).reshape(-1, 4)
    masks = [dt.shape[int(k)] if k >= 0 and gt.iou_type == "segm" else b"" for k in shown]
    return Rare(score, iou, pictured, boxes, masks)


def scenes(gt: GroundTruth, best: dict[str, Detections]) -> Scenes:
    """What was found in images with an object of a rare class, and of these in those with the fewest objects.

    The annotations pick them, so that they are those of every run on the same images; fewer objects are
    easier to look at.

    Args:
        gt, best: as `rare_objects` takes them.
    """
    images = len(gt.image_ids)
    rare = np.bincount(gt.image[(gt.frequency[gt.label] == "r") & ~gt.ignore], minlength=images) > 0
    picked = np.lexsort((np.arange(images), np.bincount(gt.image, minlength=images), ~rare))[:SCENES]
    dt, ids = best[gt.iou_type], gt.image_ids[picked]
    shown = np.flatnonzero(np.isin(dt.image_id, ids) & (dt.score >= SHOWN))
    order = np.argsort(ids)
    return Scenes(
        ids,
        order[np.searchsorted(ids[order], dt.image_id[shown])],
        dt.category_id[shown],
        dt.score[shown],
        np.array([best["bbox"].shape[k] for k in shown]).reshape(-1, 4),
        [dt.shape[int(k)] if gt.iou_type == "segm" else b"" for k in shown],
    )


def machine() -> str:
    """What computes here, as far as it may move the last digits: the GPU or the processor, and torch."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        cpus = Path("/proc/cpuinfo")
        told = re.search(r"^model name\s*: (.+)$", cpus.read_text() if cpus.exists() else "", re.MULTILINE)
        name = told[1] if told else platform.machine()
    return f"{name}, torch {torch.__version__}"


def seen(best: np.ndarray, image: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """How visible objects are where image i counts weights[b, i] times (appendix H), in percent.

    Args:
        best: of each object the best score, (G,), NaN where it was not found.
        image: of each, (G,).
        weights: (B, I).

    Returns:
        score, the mean of best, an object that was not found having 0; low, the share of objects without a
        score from `SHOWN` on; missed, of those that were not found at all: (B,), NaN without objects.
    """
    score = np.nan_to_num(best)
    mine = weights[:, image]
    each = dict(score=score, low=score < SHOWN, missed=np.isnan(best))
    with np.errstate(invalid="ignore"):
        return {name: 100 * (mine @ values) / mine.sum(axis=1) for name, values in each.items()}


def remarks(job: Job, checkpoint: Path) -> dict[str, float]:
    """What appendix F says of a row's method and only its data and checkpoint tell.

    Returns:
        Of a row with RFS ``rfs_r`` and so on, the mean factor by which images of rare, common and frequent
        classes are repeated, and ``rfs_up_r``, rounded up as rows do; of CAM mixing ``cam_some_8`` and
        ``cam_every_8``, the shares of `partners.shares` in batches of 8, in percent.
    """
    found = {}
    if "rfs" not in job.traits and not partners.mixes(job):
        return found
    annotations = lvis.read_annotations(Path(job.data, "annotations", "train.json"))
    images, frequencies = image_classes(annotations), lvis.frequencies(annotations)
    if "rfs" in job.traits:
        factors = repeat_factors(images, len(frequencies), job.traits["rfs"]["threshold"])
        for name, these in dict(rfs=factors, rfs_up=np.ceil(factors)).items():
            means = by_frequency(these, images, frequencies)
            found |= {f"{name}_{group}": value for group, value in means.items()}
    if partners.mixes(job):
        tail, confusing = partners.confusion(checkpoint, job)
        for size in (size for size in partners.BATCHES if size <= len(images)):
            some, every = partners.shares(images, tail, confusing, size, batches=400)
            found |= {f"cam_some_{size}": 100 * some, f"cam_every_{size}": 100 * every}
    return {name: value for name, value in found.items() if not np.isnan(value)}
