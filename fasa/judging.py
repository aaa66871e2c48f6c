"""A trained row becomes detections, matches and metrics."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from fasa.evaluation import OLD, Detections, Matcher, Matches, read_ground_truth
from fasa.experiments import detector_config, held_out
from fasa.rows import Schedule, read_row

KINDS = ("segm", "bbox")


class Detected(NamedTuple):
    """What a checkpoint found on a split, for masks and boxes."""

    matches: dict[str, Matches]  # "segm" and "bbox": all that any protocol takes
    best: dict[str, Detections]  # the best 300 of each image


def detect_split(
    profile: str,
    rows: dict,
    row: str,
    checkpoint: Path,
    split: str,
    threads: int,
    results: Path | None = None,
) -> Detected:
    """Detect on ``val`` or ``adapt``, and match to its objects as the detections come.

    No cap per image, as AP_Fixed asks; what is kept of a mask beyond an image's best 300 is whether it fits.

    Args:
        rows, row: that the checkpoint is of.
        results: where to write those in LVIS's results format.
    """
    from fasa.detection.inference import detect, load_model

    torch.set_num_threads(threads)
    schedule = Schedule(iterations=0, batch=1, lr=0)
    cfg = detector_config(profile, schedule, read_row(rows, row), seed=0, work_dir=Path("unused"))
    dataloader = held_out(cfg, split)
    annotations = Path(dataloader.dataset.data_root, dataloader.dataset.ann_file)
    matchers = {kind: Matcher(read_ground_truth(annotations, kind)) for kind in KINDS}
    gt = matchers["segm"].gt
    size = dict(zip(gt.image_ids.tolist(), gt.sizes.tolist(), strict=True))
    best = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        writer = stack.enter_context(Writer(results)) if results else None
        for found in detect(load_model(cfg, checkpoint), dataloader, matcher=matchers["segm"]):
            ids = np.full(len(found.score), found.image_id)
            first = np.argsort(-found.score, kind="stable")[: OLD.per_image]
            for kind, shape in (("segm", np.array(found.rle, dtype=object)), ("bbox", found.box)):
                here = Detections(ids, found.category_id, found.score, shape)
                matchers[kind].add(here)
                best[kind].append([column[first] for column in here])
            if writer:
                writer.write(size[found.image_id], *best["bbox"][-1], best["segm"][-1][-1])
    return Detected(
        {kind: matcher.matches() for kind, matcher in matchers.items()},
        {kind: Detections(*map(np.concatenate, zip(*best[kind], strict=True))) for kind in KINDS},
    )


class Writer:
    """Writes LVIS's results an image at a time, beside `path`, and renames when all are there."""

    def __init__(self, path: Path):
        self.path, self.part = path, path.with_name(path.name + ".part")

    def __enter__(self) -> "Writer":
        self.file, self.separator = self.part.open("wb"), b"["
        return self

    def write(self, size: list[int], image, category, score, box, rle) -> None:
        """The detections of an image of `size` (height, width), as columns."""
        for i, k, s, b, r in zip(
            *(column.tolist() for column in (image, category, score, box, rle)), strict=True
        ):
            segmentation = dict(size=size, counts=r.decode())
            one = dict(image_id=i, category_id=k, score=s, bbox=b, segmentation=segmentation)
            self.file.write(self.separator + msgspec.json.encode(one))
            self.separator = b",\n"

    def __exit__(self, error, *_) -> None:
        self.file.write(b"[]\n" if self.separator == b"[" else b"]\n")
        self.file.close()
        if error is None:
            os.replace(self.part, self.path)
        else:
            self.part.unlink()


def measured(kind: str, instrument: str, values: dict[str, float]) -> dict[str, float]:
    """An instrument's numbers as ``segm_AP`` (of AP_Old), ``segm_fixed_AP``, ``segm_tide_Cls``; no NaN."""
    prefix = kind if instrument == OLD.name else f"{kind}_{instrument}"
    return {f"{prefix}_{name}": value for name, value in values.items() if not np.isnan(value)}
