"""What is kept of an evaluated run, small enough to commit: all that tables, figures and claims are made of.

Shapes: K classes, R resamples of the images, G rare objects, T adaptation passes.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fasa.errors import UserError
from fasa.files import replacing

STEP = 0.005  # percent: replicates are kept to this, in 16 bits
UNMEASURED = np.iinfo(np.uint16).max
PASS = "pass "  # before the name of a column of the adaptation passes


@dataclass(frozen=True, eq=False)
class Record:
    """A run, judged.

    Args:
        metrics: every number, by names such as ``segm_fixed_APr``; AP in percent, errors in points.
        images: equal in runs whose replicates are of the same draws of the same images.
        replicates: of some metrics the values on each resample, (R,), NaN where there is none.
        class_ap: "segm" and "bbox": AP_Old of each class in percent, (K,), NaN for one without objects.
        best_scores: of each rare object, see `fasa.evaluation.found`, (G,), NaN where nothing was found.
        passes: a record of each adaptation pass, see `fasa.detection.adaptation`.
    """

    metrics: dict[str, float]
    images: int
    replicates: dict[str, np.ndarray]
    class_ap: dict[str, np.ndarray]
    best_scores: np.ndarray
    passes: list[dict[str, Any]] = field(default_factory=list)

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
            best_scores=np.asarray(self.best_scores, dtype=np.float16),
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
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
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
            best_scores=arrays["best_scores"].astype(np.float64),
            passes=[dict(zip(passes, row, strict=True)) for row in rows],
        )
