"""All of the appendix's instruments from one reading and one matching of the same detections."""

from collections.abc import Iterable

from fasa.errors import UserError
from fasa.evaluation.ap import judge
from fasa.evaluation.inputs import read_detections, read_ground_truth
from fasa.evaluation.matches import match
from fasa.evaluation.protocols import PROTOCOLS, Protocol, checked
from fasa.evaluation.tide import tide

READINGS = ("lvis", "stock", None)  # of TIDE


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

    Args:
        with_tide: which of TIDE's readings: "lvis" or "stock"; None: neither.

    The other arguments and the errors are those of `match`; an unknown reading is one more.
    """
    protocols = checked(protocols)
    if with_tide not in READINGS:
        raise UserError(f"with_tide is {with_tide!r}; choose 'lvis', 'stock' or None")
    gt = read_ground_truth(gt, iou_type)
    detections = read_detections(detections, gt)
    matches = match(gt, detections, iou_type, protocols, progress)
    measured = {protocol.name: judge(matches, protocol).summary for protocol in protocols}
    if with_tide:
        errors = tide(gt, detections, iou_type, stock=with_tide == "stock")
        measured["tide"] = errors.main | errors.special
    return measured
