"""A trained row becomes detections, matches and metrics."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.runner import Runner

from fasa.data import source
from fasa.detection.experiment import held_out, settle, training_config
from fasa.detection.inference import detect, load_model, placed
from fasa.detection.ranks import gathered
from fasa.evaluation import (
    OLD,
    Detections,
    GroundTruth,
    Matcher,
    Matches,
    read_detections,
    read_ground_truth,
    save_detections,
)
from fasa.evaluation.masks import Masks
from fasa.job import Job


class Detected(NamedTuple):
    """What a checkpoint found on a split, for masks and boxes."""

    matches: dict[str, Matches]  # "segm" and "bbox": all that any protocol takes
    best: dict[str, Detections]  # the best 300 of each image

    def save(self, folder: Path) -> None:
        """Write two files a kind."""
        for kind, matches in self.matches.items():
            matches.save(Path(folder, f"{kind}-matches.npz"))
            save_detections(self.best[kind], Path(folder, f"{kind}-best.npz"))

    @classmethod
    def load(cls, folder: Path, job: Job, part: str) -> "Detected":
        """Read what `detect_part` has written for a job and a split."""
        matches, best = {}, {}
        for kind, gt in ground_truths(job, part).items():
            matches[kind] = Matches.load(Path(folder, f"{kind}-matches.npz"))
            best[kind] = read_detections(Path(folder, f"{kind}-best.npz"), gt)
        return cls(matches, best)


def ground_truths(job: Job, part: str) -> dict[str, GroundTruth]:
    """The annotations of a part, for each kind that the data can be evaluated by."""
    path = Path(job.data, "annotations", f"{part}.json")
    return {kind: read_ground_truth(path, kind) for kind in source(job.data).iou_types}


def detect_part(job: Job, checkpoint: Path, part: str, out: Path, results: Path | None = None) -> None:
    """Detect on a part, such as ``val``, and match to its objects as the detections come.

    No cap per image, as AP_Fixed asks; what is kept of a mask beyond an image's best 300 is whether it fits.
    Of several ranks each takes its share of the batches; what the first one writes is what one process would
    write, to the byte.

    Args:
        checkpoint: of the job's row.
        out: a folder to write a `Detected` to.
        results: where to write the best 300 of each image, boxes and masks in one file of columns.
    """
    settle(job.threads)
    cfg = training_config(job, job.train, Path("unused"))  # what traits change of a model stands there
    model, dataloader = load_model(cfg, checkpoint), held_out(cfg, part)
    dataloader.sampler = dict(type="WholeBatches", batch=dataloader.batch_size)
    dataloader = Runner.build_dataloader(dataloader, seed=0)
    matchers = {kind: Matcher(gt) for kind, gt in ground_truths(job, part).items()}
    first_of, masks = next(iter(matchers.values())), "segm" in matchers
    best = {kind: [] for kind in matchers}
    order = [np.zeros(0, np.int64)]
    found = detect(model, dataloader, masks=masks, matcher=first_of)
    for place, one in placed(found, dataloader):
        first = np.argsort(-one.score, kind="stable")[: OLD.per_image]
        order.append(place[: len(first)])
        for kind, matcher in matchers.items():
            here = one.detections(kind)
            matcher.add(here, place)
            best[kind].append(taken(here, first))
    shares = gathered(
        (
            np.concatenate(order),
            {kind: joined(parts, kind) for kind, parts in best.items()},
            {kind: matcher.share() for kind, matcher in matchers.items()},
        )
    )
    if shares is None:
        return  # the first rank writes for all
    orders, bests, matched = zip(*shares, strict=True)
    order = np.argsort(np.concatenate(orders))
    for share in matched[1:]:
        for kind, matcher in matchers.items():
            matcher.merge(share[kind])
    best = {kind: taken(joined([one[kind] for one in bests], kind), order) for kind in matchers}
    Detected({kind: matcher.matches() for kind, matcher in matchers.items()}, best).save(out)
    if results:
        save_detections(best["bbox"], results, best["segm"].shape if masks else None, compress=True)


def taken(detections: Detections, which: np.ndarray) -> Detections:
    """Some of the detections; masks as columns."""
    *columns, shape = detections
    shape = Masks.of([shape[i] for i in which.tolist()]) if isinstance(shape, list) else shape[which]
    return Detections(*(column[which] for column in columns), shape)


def joined(parts: Iterable[Detections], kind: str) -> Detections:
    """Those of several images or ranks, with masks as columns, "segm", or boxes, "bbox"."""
    ids, masks = np.zeros(0, np.int64), kind == "segm"
    nothing = Detections(ids, ids, np.zeros(0), Masks.of([]) if masks else np.zeros((0, 4)))
    *columns, shapes = zip(nothing, *parts, strict=True)
    return Detections(*map(np.concatenate, columns), (Masks.joined if masks else np.concatenate)(shapes))


def measured(kind: str, instrument: str, values: dict[str, float | np.ndarray]) -> dict:
    """An instrument's numbers as ``segm_AP`` (of AP_Old), ``segm_fixed_AP``, ``segm_tide_Cls``; no NaN."""
    prefix = kind if instrument == OLD.name else f"{kind}_{instrument}"
    return {f"{prefix}_{name}": value for name, value in values.items() if not np.isnan(value).all()}
