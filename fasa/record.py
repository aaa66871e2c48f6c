"""What is kept of an evaluated run, small enough to commit: all that tables, figures and claims are made of.

Shapes: K classes, R resamples of the images, G rare objects, S of them with a picture, T adaptation passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fasa.errors import UserError
from fasa.files import UNREADABLE, replacing

SHOWN = 0.3  # the score from which on mmdet draws a detection
STEP = 0.005  # percent: replicates are kept to this, in 16 bits
UNMEASURED = np.iinfo(np.uint16).max
PASS = "pass "  # before the name of a column of the adaptation passes


class Rare(NamedTuple):
    """What was found of each rare object, in the order of the annotations (appendix H, Figure 2).

    Of some of them, spread evenly, there is what a picture needs.
    """

    score: np.ndarray  # (G,) the best, see `fasa.evaluation.best_detections`; NaN where nothing was found
    iou: np.ndarray  # (G,) of that detection with the object; NaN likewise
    pictured: np.ndarray  # (S,) which
    box: np.ndarray  # (S, 4) of the detection, x, y, w, h in pixels; NaN where there is none
    mask: list[bytes]  # S "counts" of pycocotools; empty where there is none

    @classmethod
    def none(cls) -> "Rare":
        """Of no object."""
        return cls(np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros((0, 4)), [])


@dataclass(frozen=True, eq=False)
class Record:
    """A run, judged.

    Args:
        metrics: every number, by names such as ``segm_fixed_APr``; AP in percent, errors in points.
        images: equal in runs whose replicates are of the same draws of the same images.
        replicates: of some metrics the values on each resample, (R,), NaN where there is none.
        class_ap: "segm" and "bbox": AP_Old of each class in percent, (K,), NaN for one without objects.
        rare: what was found of rare objects.
        passes: a record of each adaptation pass, see `fasa.detection.adaptation`.
        machine: on what it was judged.
    """

    metrics: dict[str, float]
    images: int
    replicates: dict[str, np.ndarray]
    class_ap: dict[str, np.ndarray]
    rare: Rare = field(default_factory=Rare.none)
    passes: list[dict[str, Any]] = field(default_factory=list)
    machine: str = ""

    def save(self, path: str | Path) -> None:
        """Write an npz without pickles; equal records, equal bytes. Values are rounded, metrics are not."""
        kept = np.array(list(self.replicates.values()), dtype=np.float64)
        arrays = dict(
            metric_names=np.array(list(self.metrics), dtype=np.str_),
            metrics=np.array(list(self.metrics.values()), dtype=np.float64),
            images=np.array(self.images, dtype=np.int64),
            step=np.array(STEP),
            replicate_names=np.array(list(self.replicates), dtype=np.str_),
            replicates=np.where(np.isnan(kept), UNMEASURED, np.nan_to_num(kept / STEP).round()),
            machine=np.array(self.machine),
            **{f"rare {name}": column for name, column in self._columns().items()},
            **{f"class_ap {kind}": np.asarray(ap, np.float32) for kind, ap in self.class_ap.items()},
        )
        arrays["replicates"] = arrays["replicates"].astype(np.uint16)
        for name in dict.fromkeys(name for one in self.passes for name in one):
            column = np.array([one.get(name, 0) for one in self.passes], dtype=np.float64)  # None becomes NaN
            whole = (column == column.round()).all()
            arrays[PASS + name] = column.astype(np.int32 if whole else np.float32)
        with replacing(path) as file:
            np.savez_compressed(file, **arrays)

    def _columns(self) -> dict[str, np.ndarray]:
        score, iou, pictured, box, mask = self.rare
        return dict(
            score=np.asarray(score, np.float16),
            iou=np.asarray(iou, np.float16),
            pictured=np.asarray(pictured, np.int32),
            box=np.asarray(box, np.float32),
            length=np.array([len(one) for one in mask], np.int32),
            mask=np.frombuffer(b"".join(mask), np.uint8),
        )

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read what `save` wrote.

        Raises:
            UserError: that is not what the file holds.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls._of(dict(arrays))
        except UNREADABLE as error:
            raise UserError(f"{path}: cannot read a run's record ({error}); evaluate again") from None

    @classmethod
    def _of(cls, arrays: Mapping[str, np.ndarray]) -> "Record":
        kept = arrays["replicates"]
        values = np.where(kept == UNMEASURED, np.nan, kept * arrays["step"])
        passes = {
            name.removeprefix(PASS): column.tolist()
            for name, column in arrays.items()
            if name.startswith(PASS)
        }
        rows = zip(*passes.values(), strict=True)
        ends = np.cumsum(arrays["rare length"])[:-1]
        return cls(
            metrics=dict(zip(arrays["metric_names"].tolist(), arrays["metrics"].tolist(), strict=True)),
            images=int(arrays["images"]),
            replicates=dict(zip(arrays["replicate_names"].tolist(), values, strict=True)),
            class_ap={
                name.partition(" ")[2]: ap for name, ap in arrays.items() if name.startswith("class_ap ")
            },
            rare=Rare(
                *(arrays[f"rare {name}"].astype(np.float64) for name in ("score", "iou")),
                arrays["rare pictured"],
                arrays["rare box"],
                [part.tobytes() for part in np.split(arrays["rare mask"], ends)][
                    : len(arrays["rare length"])
                ],
            ),
            machine=str(arrays["machine"]),
            passes=[dict(zip(passes, row, strict=True)) for row in rows],
        )
