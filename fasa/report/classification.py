"""The runs of the stage `classify`, and their tables."""

import json
from collections.abc import Sequence
from pathlib import Path

from fasa.errors import UserError
from fasa.report import tables
from fasa.report.summary import spread

TABLES = ("table3", "table4", "baselines")

RUNS = Path("results", "classify")  # of all sets, so that the claims may depend on one folder

Records = dict[str, dict[int, dict]]  # by row and seed: what `fasa.classification.experiment.run` says


def read_records(set_name: str, rows: Sequence[str], seeds: Sequence[int]) -> Records:
    """All runs on a set by row and seed; rows of which none has run are left out."""
    found = {}
    for row in rows:
        paths = {seed: RUNS / set_name / f"{row}-{seed}.json" for seed in seeds}
        if there := {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}:
            found[row] = there
    return found


def summarise(records: Records) -> dict[str, dict[str, dict]]:
    """``{row: {metric: {"mean", "std", "n", "each"}}}`` over seeds."""
    return {row: spread([run["metrics"] for run in runs.values()]) for row, runs in records.items()}


def report(set_name: str, records: Records, summary: dict[str, dict[str, dict]]) -> str:
    """Tables 3 and 4 and the baselines of a set, in Markdown.

    Raises:
        UserError: there are no runs at all.
    """
    if not records:
        raise UserError(f"{RUNS / set_name}: nothing has run yet; run: dvc repro classification@{set_name}")
    firsts = {row: next(iter(runs.values())) for row, runs in records.items()}
    counts = next(iter(firsts.values()))["counts"]
    parts = [
        f"# {set_name}\n\n{len(counts)} classes of {max(counts)} to {min(counts)} images in training, "
        f"{sum(counts):,} in all.\n"
    ]
    if leaky := [row for row, run in firsts.items() if run["leaky"]]:
        parts.append(f"Leaky, adapted to the very images they are judged on: {', '.join(leaky)}.\n")
    return "\n".join(parts + [tables.section(name, summary) for name in TABLES])
