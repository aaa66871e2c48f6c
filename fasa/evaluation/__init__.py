"""How good detections are, by the four instruments of the appendix: AP_Old, AP_Fixed, AP_Pool and TIDE.

``inputs`` reads and checks, ``matches`` decides which detection found which object, ``ap`` makes that
precision by one of the ``protocols``, ``tide`` says where the rest was lost, ``found`` how sure a detector is
of each object, and ``bootstrap`` whether a difference between two rows is more than the choice of images.
"""

from fasa.evaluation.ap import Result, evaluate, judge
from fasa.evaluation.bootstrap import (
    Interval,
    Spread,
    bootstrap,
    draws,
    fingerprint,
    interval,
    paired_bootstrap,
    replicates,
)
from fasa.evaluation.found import best_detections
from fasa.evaluation.inputs import (
    Detections,
    GroundTruth,
    read_detections,
    read_ground_truth,
    save_detections,
)
from fasa.evaluation.instruments import instruments
from fasa.evaluation.matches import Matcher, Matches, match
from fasa.evaluation.protocols import FIXED, OLD, POOL, PROTOCOLS, Protocol
from fasa.evaluation.tide import ERRORS, Example, by_class, examples, tide
from fasa.evaluation.tide import replicates as tide_replicates

__all__ = [
    "ERRORS",
    "Example",
    "FIXED",
    "OLD",
    "POOL",
    "PROTOCOLS",
    "Detections",
    "GroundTruth",
    "Interval",
    "Matcher",
    "Matches",
    "Protocol",
    "Result",
    "Spread",
    "best_detections",
    "bootstrap",
    "by_class",
    "draws",
    "evaluate",
    "examples",
    "fingerprint",
    "instruments",
    "interval",
    "judge",
    "match",
    "paired_bootstrap",
    "read_detections",
    "read_ground_truth",
    "replicates",
    "save_detections",
    "tide",
    "tide_replicates",
]
