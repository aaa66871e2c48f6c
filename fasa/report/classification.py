"""The runs of the stage `classify`, and their tables."""

import json
from collections.abc import Sequence
from pathlib import Path

from fasa.errors import UserError
from fasa.report import tables
from fasa.report.summary import spread

RUNS = Path("runs", "classify")
TABLES = ("table3", "table4", "baselines")

Records = dict[
    str, dict[str, list[dict]]
]  # by set, row and seed: what `fasa.classification.experiment.run` says


def read_records(
    sets: Sequence[str], rows: Sequence[str], seeds: Sequence[int], runs: Path = RUNS
) -> Records:
    """All runs, by set and row, a list over seeds.

    Raises:
        UserError: one is missing.
    """

    def read(name: str) -> dict:
        path = runs / f"{name}.json"
        if not path.exists():
            raise UserError(f"{path}: no such file; run: dvc repro classify@{name}")
        return json.loads(path.read_text())

    return {one: {row: [read(f"{one}-{row}-{seed}") for seed in seeds] for row in rows} for one in sets}


def summarise(records: Records) -> dict[str, dict[str, dict[str, dict]]]:
    """``{set: {row: {metric: {"mean", "std", "n"}}}}`` over seeds."""
    return {
        one: {row: spread([run["metrics"] for run in runs]) for row, runs in rows.items()}
        for one, rows in records.items()
    }


def report(records: Records, summary: dict[str, dict[str, dict[str, dict]]]) -> str:
    """Tables 3 and 4 and the baselines of every set, in Markdown."""
    parts = []
    for one, rows in records.items():
        counts = next(iter(rows.values()))[0]["counts"]
        parts.append(
            f"# {one}\n\n{len(counts)} classes of {max(counts)} to {min(counts)} images in training, "
            f"{sum(counts):,} in all.\n"
        )
        leaky = [row for row, runs in rows.items() if runs[0]["leaky"]]
        if leaky:
            parts.append(f"Leaky, adapted to the very images they are judged on: {', '.join(leaky)}.\n")
        parts += [tables.section(name, summary[one]) for name in TABLES]
    return "\n".join(parts)
