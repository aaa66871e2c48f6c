"""What is kept of an evaluated run, small enough to commit: all that tables, figures and claims are made of.

Shapes: K classes, R resamples of the images, G rare objects, S of them with a picture, T adaptation passes, N
scenes, M detections in them.
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


class Scenes(NamedTuple):
    """What was found in some images, with a score of `SHOWN` or more: a picture of what a detector does."""

    image: np.ndarray  # (N,) ids of the images
    place: np.ndarray  # (M,) which of the N
    category: np.ndarray  # (M,) id of the class
    score: np.ndarray  # (M,)
    box: np.ndarray  # (M, 4) x, y, w, h in pixels
    mask: list[bytes]  # M "counts" of pycocotools; empty where there are no masks

    @classmethod
    def none(cls) -> "Scenes":
        """Of no image."""
        return cls(*(np.zeros(0, int) for _ in range(3)), np.zeros(0), np.zeros((0, 4)), [])


@dataclass(frozen=True, eq=False)
class Record:
    """A run, judged.

    Args:
        metrics: every number, by names such as ``segm_fixed_APr``; AP in percent, errors in points.
        images: equal in runs whose replicates are of the same draws of the same images.
        replicates: of some metrics the values on each resample, (R,), NaN where there is none.
        class_ap: "segm" and "bbox": AP_Old of each class in percent, (K,), NaN for one without objects.
        rare: what was found of rare objects.
        scenes: what was found in a few images.
        passes: a record of each adaptation pass, see `fasa.detection.adaptation`.
        machine: on what it was judged.
    """

    metrics: dict[str, float]
    images: int
    replicates: dict[str, np.ndarray]
    class_ap: dict[str, np.ndarray]
    rare: Rare = field(default_factory=Rare.none)
    scenes: Scenes = field(default_factory=Scenes.none)
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
            **_columns("rare", self.rare, score=np.float16, iou=np.float16, pictured=np.int32),
            **_columns("scenes", self.scenes, score=np.float16, place=np.int32),
            **{f"class_ap {kind}": np.asarray(ap, np.float32) for kind, ap in self.class_ap.items()},
        )
        arrays["replicates"] = arrays["replicates"].astype(np.uint16)
        for name in dict.fromkeys(name for one in self.passes for name in one):
            column = np.array([one.get(name, 0) for one in self.passes], dtype=np.float64)  # None becomes NaN
            whole = (column == column.round()).all()
            arrays[PASS + name] = column.astype(np.int32 if whole else np.float32)
        with replacing(path) as file:
            np.savez_compressed(file, **arrays)

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
        return cls(
            metrics=dict(zip(arrays["metric_names"].tolist(), arrays["metrics"].tolist(), strict=True)),
            images=int(arrays["images"]),
            replicates=dict(zip(arrays["replicate_names"].tolist(), values, strict=True)),
            class_ap={
                name.partition(" ")[2]: ap for name, ap in arrays.items() if name.startswith("class_ap ")
            },
            rare=_of_columns(Rare, "rare", arrays),
            scenes=_of_columns(Scenes, "scenes", arrays),
            machine=str(arrays["machine"]),
            passes=[dict(zip(passes, row, strict=True)) for row in rows],
        )


def _columns(what: str, found: Rare | Scenes, **kinds: type) -> dict[str, np.ndarray]:
    """Arrays for an npz, ``{"rare score": ...}``; masks end to end, with the length of each."""
    kinds |= dict(box=np.float32)
    masks = dict(
        length=np.array([len(one) for one in found.mask], np.int32),
        mask=np.frombuffer(b"".join(found.mask), np.uint8),
    )
    columns = {name: np.asarray(x, kinds.get(name)) for name, x in found._asdict().items() if name != "mask"}
    return {f"{what} {name}": column for name, column in (columns | masks).items()}


def _of_columns(kind: type[Rare] | type[Scenes], what: str, arrays: Mapping[str, np.ndarray]):
    """What `_columns` took apart; numbers of 16 bits become 64."""
    columns = {name: arrays[f"{what} {name}"] for name in kind._fields if name != "mask"}
    columns = {name: x.astype(np.float64) if x.dtype == np.float16 else x for name, x in columns.items()}
    lengths = arrays[f"{what} length"]
    parts = np.split(arrays[f"{what} mask"], np.cumsum(lengths)[:-1])[: len(lengths)]
    return kind(**columns, mask=[part.tobytes() for part in parts])
