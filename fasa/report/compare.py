"""Two rows side by side: the paired bootstrap and the text of the table."""

import json
from collections.abc import Sequence
from pathlib import Path

from fasa.evaluation import Matches, paired_bootstrap
from fasa.report import tables
from fasa.report.summary import RUNS

HISTORIES = Path("runs", "history")


def compare(a: str, b: str, seeds: Sequence[int], resamples: int, runs: Path = RUNS) -> dict[str, dict]:
    """Row b minus row a, for masks and boxes: ``{"segm": {"APr": Interval, ...}, "bbox": ...}``."""

    def matches(row: str, kind: str) -> list[Matches]:
        return [Matches.load(runs / f"{row}-{seed}" / f"{kind}.npz") for seed in seeds]

    return {
        kind: paired_bootstrap(matches(a, kind), matches(b, kind), resamples) for kind in ("segm", "bbox")
    }


def read_histories(row: str, seeds: Sequence[int]) -> list[list[dict]]:
    """The adaptation passes of each seed of a row."""
    return [json.loads((HISTORIES / f"{row}-{seed}.json").read_text())["passes"] for seed in seeds]


def report(summary: dict, intervals: dict[str, dict]) -> str:
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
