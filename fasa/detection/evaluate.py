"""A trained row becomes detections, matches and metrics."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from fasa.data import source
from fasa.detection.experiment import held_out, settle, training_config
from fasa.detection.inference import detect, load_model
from fasa.evaluation import OLD, Detections, Matcher, Matches, read_ground_truth
from fasa.files import replacing
from fasa.job import Job


class Detected(NamedTuple):
    """What a checkpoint found on a split, for masks and boxes."""

    matches: dict[str, Matches]  # "segm" and "bbox": all that any protocol takes
    best: dict[str, Detections]  # the best 300 of each image


def detect_part(job: Job, checkpoint: Path, part: str, results: Path | None = None) -> Detected:
    """Detect on ``val`` or ``adapt``, and match to its objects as the detections come.

    No cap per image, as AP_Fixed asks; what is kept of a mask beyond an image's best 300 is whether it fits.

    Args:
        checkpoint: of the job's row.
        results: where to write those in LVIS's results format.
    """
    settle(job.threads)
    cfg = training_config(job, job.train, Path("unused"))  # what traits change of a model stands there
    dataloader = held_out(cfg, part)
    kinds = source(job.data).iou_types
    annotations = Path(job.data, "annotations", f"{part}.json")
    matchers = {kind: Matcher(read_ground_truth(annotations, kind)) for kind in kinds}
    first_of, masks = matchers[kinds[0]], "segm" in kinds
    sizes = dict(zip(first_of.gt.image_ids.tolist(), first_of.gt.sizes.tolist(), strict=True))
    best = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        write = stack.enter_context(results_file(results, sizes)) if results else None
        for found in detect(load_model(cfg, checkpoint), dataloader, masks=masks, matcher=first_of):
            ids = np.full(len(found.score), found.image_id)
            first = np.argsort(-found.score, kind="stable")[: OLD.per_image]
            shapes = dict(segm=np.array(found.rle, dtype=object), bbox=found.box)
            for kind in kinds:
                here = Detections(ids, found.category_id, found.score, shapes[kind])
                matchers[kind].add(here)
                best[kind].append([column[first] for column in here])
            if write:
                write(best)
    return Detected(
        {kind: matcher.matches() for kind, matcher in matchers.items()},
        {kind: Detections(*map(np.concatenate, zip(*best[kind], strict=True))) for kind in kinds},
    )


@contextmanager
def results_file(path: Path, sizes: dict[int, list[int]]) -> Iterator:
    """Give a function that writes an image's detections, the last of each kind, in LVIS's results format.

    Args:
        path: where they appear when all are written.
        sizes: height and width of each image.
    """
    with replacing(path) as file:
        separator = b"["

        def write(best: dict[str, list[list[np.ndarray]]]) -> None:
            nonlocal separator
            image, category, score, box = (column.tolist() for column in best["bbox"][-1])
            rle = best["segm"][-1][-1].tolist() if "segm" in best else [None] * len(box)
            for i, k, s, b, r in zip(image, category, score, box, rle, strict=True):
                one = dict(image_id=i, category_id=k, score=s, bbox=b)
                if r is not None:
                    one["segmentation"] = dict(size=sizes[i], counts=r.decode())
                file.write(separator + msgspec.json.encode(one))
                separator = b",\n"

        yield write
        file.write(b"[]\n" if separator == b"[" else b"]\n")


def measured(kind: str, instrument: str, values: dict[str, float | np.ndarray]) -> dict:
    """An instrument's numbers as ``segm_AP`` (of AP_Old), ``segm_fixed_AP``, ``segm_tide_Cls``; no NaN."""
    prefix = kind if instrument == OLD.name else f"{kind}_{instrument}"
    return {f"{prefix}_{name}": value for name, value in values.items() if not np.isnan(value).all()}
