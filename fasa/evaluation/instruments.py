"""All of the appendix's instruments from one reading and one matching of the same detections."""

from collections.abc import Iterable
from typing import NamedTuple

from fasa.errors import UserError
from fasa.evaluation.ap import Result, judge
from fasa.evaluation.inputs import read_detections, read_ground_truth
from fasa.evaluation.matches import match
from fasa.evaluation.native import in_threads
from fasa.evaluation.protocols import PROTOCOLS, Protocol, checked
from fasa.evaluation.tide import Tide, tide

READINGS = ("lvis", "stock", None)  # of TIDE


class Measured(NamedTuple):
    """What `measure` returns."""

    results: dict[str, Result]  # by the names of the protocols
    tide: Tide | None


def instruments(
    gt,
    detections,
    iou_type: str = "segm",
    protocols: Iterable[Protocol] = tuple(PROTOCOLS.values()),
    with_tide: str | None = "lvis",
    progress: bool = False,
) -> dict[str, dict[str, float]]:
    """``{"old": {"AP": .., "APr": ..}, "fixed": .., "pool": .., "tide": {"Cls": ..}}``, in percent.

    TIDE's are points of AP50 that would be gained, its false positives and negatives among them.
    Arguments and errors are those of `measure`.
    """
    measured = measure(gt, detections, iou_type, protocols, with_tide, progress)
    numbers = {name: result.summary for name, result in measured.results.items()}
    if measured.tide:
        numbers["tide"] = measured.tide.main | measured.tide.special
    return numbers


def measure(
    gt,
    detections,
    iou_type: str = "segm",
    protocols: Iterable[Protocol] = tuple(PROTOCOLS.values()),
    with_tide: str | None = "lvis",
    progress: bool = False,
) -> Measured:
    """All that the instruments say, not only their numbers.

    Args:
        with_tide: which of TIDE's readings: "lvis" or "stock"; None: neither.

    The other arguments and the errors are those of `match`; an unknown reading is one more.
    """
    protocols = checked(protocols)
    if with_tide not in READINGS:
        raise UserError(f"with_tide is {with_tide!r}; choose 'lvis', 'stock' or None")
    gt = read_ground_truth(gt, iou_type)
    detections = read_detections(detections, gt)

    def precision() -> dict[str, Result]:
        matches = match(gt, detections, iou_type, protocols, progress)
        results = in_threads(lambda protocol: judge(matches, protocol), protocols)
        return {protocol.name: result for protocol, result in zip(protocols, results, strict=True)}

    def errors() -> Tide | None:
        return tide(gt, detections, iou_type, stock=with_tide == "stock") if with_tide else None

    return Measured(*in_threads(lambda part: part(), [precision, errors]))
