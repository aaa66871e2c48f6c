"""The runs of the stage `classify`, and their tables."""

import json
from collections.abc import Sequence
from pathlib import Path

from fasa.errors import UserError
from fasa.report import tables
from fasa.report.summary import spread

TABLES = ("table3", "table4", "baselines")

Records = dict[str, list[dict]]  # by row and seed: what `fasa.classification.experiment.run` says


def read_records(set_name: str, rows: Sequence[str], seeds: Sequence[int]) -> Records:
    """All runs on a set by row, a list over seeds; rows of which none has run are left out.

    Raises:
        UserError: there are none at all.
    """
    found = {}
    for row in rows:
        paths = [Path("runs", set_name, "classify", f"{row}-{seed}.json") for seed in seeds]
        if there := [json.loads(path.read_text()) for path in paths if path.exists()]:
            found[row] = there
    if not found:
        raise UserError(
            f"runs/{set_name}/classify: nothing has run yet; run: dvc repro classification@{set_name}"
        )
    return found


def summarise(records: Records) -> dict[str, dict[str, dict]]:
    """``{row: {metric: {"mean", "std", "n"}}}`` over seeds."""
    return {row: spread([run["metrics"] for run in runs]) for row, runs in records.items()}


def report(set_name: str, records: Records, summary: dict[str, dict[str, dict]]) -> str:
    """Tables 3 and 4 and the baselines of a set, in Markdown."""
    counts = next(iter(records.values()))[0]["counts"]
    parts = [
        f"# {set_name}\n\n{len(counts)} classes of {max(counts)} to {min(counts)} images in training, "
        f"{sum(counts):,} in all.\n"
    ]
    if leaky := [row for row, runs in records.items() if runs[0]["leaky"]]:
        parts.append(f"Leaky, adapted to the very images they are judged on: {', '.join(leaky)}.\n")
    return "\n".join(parts + [tables.section(name, summary) for name in TABLES])
