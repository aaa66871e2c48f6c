"""The metrics of all runs as one mean and standard deviation per row."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from fasa.errors import UserError


def evaluated(
    runs: str | Path, rows: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[int, dict[str, float]]]:
    """The metrics, AP in percent, of each row's evaluated seeds; rows of which none has been are left out.

    Args:
        runs: the folder of a profile's runs.

    Raises:
        UserError: there are none at all.
    """
    found = {}
    for row in rows:
        paths = {seed: Path(runs, "evaluate", f"{row}-{seed}", "metrics.json") for seed in seeds}
        if there := {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}:
            found[row] = there
    if not found:
        raise UserError(f"{runs}: no row has been evaluated yet; run: make repro")
    return found


def gains(
    found: dict[str, dict[int, dict[str, float]]], against: dict[str, str]
) -> dict[str, dict[str, float]]:
    """What each metric of a row is above another row's, mean over the seeds that both have.

    Rows of one seed share a warm-up and much of their luck: means over other seeds would add that to the
    difference.

    Args:
        found: as from `evaluated`.
        against: each row's other row; pairs without a common seed are left out.
    """
    result = {}
    for row, base in against.items():
        mine, theirs = found.get(row, {}), found.get(base, {})
        if seeds := mine.keys() & theirs.keys():
            metrics = set.intersection(*(mine[seed].keys() & theirs[seed].keys() for seed in seeds))
            result[row] = {name: mean(mine[s][name] - theirs[s][name] for s in seeds) for name in metrics}
    return result


def summarise(found: dict[str, dict[int, dict[str, float]]]) -> dict[str, dict[str, dict]]:
    """``{row: {metric: {"mean", "std", "n"}}}`` over seeds; std is the sample's, None for one seed."""
    return {row: spread(list(seeds.values())) for row, seeds in found.items()}


def spread(runs: list[dict[str, float]]) -> dict[str, dict]:
    """Mean, sample standard deviation and number of each metric over runs."""
    columns = {name: [run[name] for run in runs] for name in runs[0]}
    return {
        name: dict(mean=mean(values), std=stdev(values) if len(values) > 1 else None, n=len(values))
        for name, values in columns.items()
    }
