"""The three ways in which LVIS detections are judged: the appendix's AP_Old, AP_Fixed and AP_Pool.

Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details", 2021.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fasa.errors import UserError


class Protocol(NamedTuple):
    """Which detections take part, and how precision is averaged."""

    name: str
    per_image: int | None  # so many of the best detections of an image, over all classes
    per_class: int | None  # so many of the best of a class, over all images
    pooled: bool  # one curve over the detections of all classes, rather than the mean of one a class

    def takes(self, image_rank: np.ndarray, class_rank: np.ndarray) -> np.ndarray:
        """Which detections take part, (N,), given their places in their images and classes, from 0."""
        keep = np.ones(len(image_rank), dtype=bool)
        if self.per_image is not None:
            keep &= image_rank < self.per_image
        if self.per_class is not None:
            keep &= class_rank < self.per_class
        return keep


OLD = Protocol("old", per_image=300, per_class=None, pooled=False)
FIXED = Protocol("fixed", per_image=None, per_class=10_000, pooled=False)
POOL = Protocol("pool", per_image=None, per_class=10_000, pooled=True)

PROTOCOLS = {protocol.name: protocol for protocol in (OLD, FIXED, POOL)}


def checked(protocols: Iterable[Protocol]) -> list[Protocol]:
    """Protocols whose caps are whole numbers from 0, or None.

    Raises:
        UserError: one that is none, such as its name.
    """
    if isinstance(protocols, str) or not isinstance(protocols, Iterable):
        raise UserError(f"protocols are {protocols!r}, not a list of fasa.evaluation.OLD, FIXED, POOL")
    return [_checked(protocol) for protocol in protocols]


def _checked(protocol: Any) -> Protocol:
    if not isinstance(protocol, Protocol):
        raise UserError(f"{protocol!r} is no Protocol; take fasa.evaluation.OLD, FIXED or POOL")
    for cap in (protocol.per_image, protocol.per_class):
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
            raise UserError(f"{protocol}: a cap is a whole number from 0, or None")
    return protocol
