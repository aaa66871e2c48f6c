"""The metrics of all runs as one mean and standard deviation per row."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

from fasa.errors import UserError

RUNS = Path("runs", "evaluate")


def run_metrics(row: str, seed: int, runs: Path = RUNS) -> dict[str, float]:
    """The metrics of one run, AP in percent."""
    path = runs / f"{row}-{seed}" / "metrics.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; run: dvc repro evaluate@{row}-{seed}")
    return json.loads(path.read_text())


def summarise(rows: Iterable[str], seeds: Iterable[int], runs: Path = RUNS) -> dict[str, dict[str, dict]]:
    """``{row: {metric: {"mean", "std", "n"}}}`` over seeds; std is the sample's, None for one seed."""
    seeds = list(seeds)
    return {row: spread([run_metrics(row, seed, runs) for seed in seeds]) for row in rows}


HEADLINE = (
    *(f"{kind}_{metric}" for kind in ("segm", "bbox") for metric in ("AP", "APr", "APc", "APf")),
    "fasa_adaptations",
    "fasa_groups",
    "fasa_virtual_per_iteration",
)


def headline(metrics: dict[str, dict]) -> dict[str, float]:
    """The means of a row's few metrics that a terminal has room for, rounded as they are read."""
    return {name: round(metrics[name]["mean"], 2) for name in HEADLINE if name in metrics}


def spread(runs: list[dict[str, float]]) -> dict[str, dict]:
    """Mean, sample standard deviation and number of each metric over runs."""
    columns = {name: [run[name] for run in runs] for name in runs[0]}
    return {
        name: dict(mean=mean(values), std=stdev(values) if len(values) > 1 else None, n=len(values))
        for name, values in columns.items()
    }
