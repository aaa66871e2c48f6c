"""Two rows side by side: the paired bootstrap and the text of the table."""

import json
from collections.abc import Sequence
from pathlib import Path

from fasa.evaluation import Matches, paired_bootstrap
from fasa.report import tables


def compare(runs: str | Path, a: str, b: str, seeds: Sequence[int], resamples: int) -> dict[str, dict]:
    """Row b minus row a, for masks and boxes: ``{"segm": {"APr": Interval, ...}, "bbox": ...}``.

    Args:
        runs: the folder of a profile's runs.
        seeds: that both rows have.
    """

    def matches(row: str, kind: str) -> list[Matches]:
        return [Matches.load(Path(runs, "evaluate", f"{row}-{seed}", f"{kind}.npz")) for seed in seeds]

    return {
        kind: paired_bootstrap(matches(a, kind), matches(b, kind), resamples) for kind in ("segm", "bbox")
    }


def read_histories(runs: str | Path, row: str, seeds: Sequence[int]) -> list[list[dict]]:
    """The adaptation passes of each seed of a row."""
    paths = [Path(runs, "history", f"{row}-{seed}.json") for seed in seeds]
    return [json.loads(path.read_text())["passes"] for path in paths]


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
