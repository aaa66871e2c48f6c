"""Two rows side by side, from what is kept of their runs: bootstrap, gains by class, the main table."""

from collections.abc import Iterable, Sequence
from statistics import mean

import numpy as np

from fasa.errors import UserError
from fasa.evaluation import Interval, interval
from fasa.record import Record
from fasa.report import tables
from fasa.report.summary import Records

MAIN = tuple(f"{kind}_{name}" for kind in ("segm", "bbox") for name in ("AP", "APr", "APc", "APf"))


def compare(a: Sequence[Record], b: Sequence[Record], names: Iterable[str] = MAIN) -> dict[str, Interval]:
    """Row b minus row a over the images of val, as `fasa.evaluation.paired_bootstrap` has it.

    Args:
        a, b: the runs of a row, one for each of the same seeds.
        names: of metrics; those that a run lacks are left out.

    Raises:
        UserError: runs that were not evaluated on the same images and resamples.
    """
    refuse_other_images([*a, *b])
    there = [name for name in names if all(name in run.replicates for run in (*a, *b))]
    return {name: interval(*difference(a, b, name)) for name in there}


def refuse_other_images(runs: Iterable[Record]) -> None:
    """Refuse runs whose replicates do not belong together."""
    if len({run.images for run in runs}) > 1:
        raise UserError("runs were evaluated on different images or resamples; evaluate them again")


def difference(a: Sequence[Record], b: Sequence[Record], name: str) -> tuple[float, np.ndarray]:
    """Mean of b minus mean of a in one metric: on the images as they are, and on each resample, (R,)."""
    actual = mean(run.metrics[name] for run in b) - mean(run.metrics[name] for run in a)
    resampled = np.mean([run.replicates[name] for run in b], 0) - np.mean(
        [run.replicates[name] for run in a], 0
    )
    # rounded: equal means that were summed in another order are not a difference
    return round(actual, 9), np.round(resampled, 9)


def class_gains(records: Records, against: dict[str, str], kind: str = "segm") -> dict[str, np.ndarray]:
    """What each class of a row has above another row's: by a title, mean over the seeds that both have, (K,).

    Args:
        against: each row's other row; pairs without a common seed are left out.
        kind: "segm" or "bbox".
    """
    gains = {}
    for row, base in against.items():
        mine, theirs = records.get(row, {}), records.get(base, {})
        if seeds := sorted(mine.keys() & theirs.keys()):
            each = [mine[seed].class_ap[kind] - theirs[seed].class_ap[kind] for seed in seeds]
            gains[f"{row}\nover {base}"] = np.mean(each, axis=0)
    return gains


def report(summary: dict, intervals: dict[str, Interval]) -> str:
    """The main table, masks and boxes, and the differences, in Markdown."""
    boxes = [column.replace("segm", "bbox") for column in tables.definition("main")["columns"]]
    return "\n\n".join(
        [
            "Mask AP in percent, mean ± standard deviation over n seeds; in brackets the paper's on LVIS v1:",
            tables.appendix("main", summary),
            "Box AP:",
            tables.appendix("main", summary, boxes),
            "FASA minus Mask R-CNN, in points; paired bootstrap over the images of val:",
            tables.differences(intervals),
            "",
        ]
    )
