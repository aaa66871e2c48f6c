"""How good detections are: LVIS AP, and whether a difference between two rows is more than chance.

``inputs`` reads and checks, ``matches`` decides which detection found which object, ``ap`` makes that
precision, ``bootstrap`` resamples the images.
"""

from fasa.evaluation.ap import Result, average_precision, evaluate, summarize
from fasa.evaluation.bootstrap import Interval, paired_bootstrap
from fasa.evaluation.matches import Matches, match

__all__ = [
    "Interval",
    "Matches",
    "Result",
    "average_precision",
    "evaluate",
    "match",
    "paired_bootstrap",
    "summarize",
]
