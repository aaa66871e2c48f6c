"""The metrics of all runs as one mean and standard deviation per row."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from fasa.errors import UserError
from fasa.record import Record

Records = dict[str, dict[int, Record]]  # by row and seed


def read_records(results: str | Path, rows: Sequence[str], seeds: Sequence[int]) -> Records:
    """What is kept of each row's evaluated seeds; rows of which none has been are left out.

    Args:
        results: the folder of a profile's results.
    """
    found = {}
    for row in rows:
        paths = {seed: Path(results, "runs", f"{row}-{seed}.npz") for seed in seeds}
        if there := {seed: Record.load(path) for seed, path in paths.items() if path.exists()}:
            found[row] = there
    return found


def comparable(records: Records) -> tuple[Records, list[str]]:
    """The runs that were judged on the same images and resamples as the first, and the names of the others.

    Those are older than the data that the first was judged on, or newer.
    """
    first = next((run for seeds in records.values() for run in seeds.values()), None)
    same, others = {}, []
    for row, seeds in records.items():
        mine = {seed: run for seed, run in seeds.items() if run.images == first.images}
        others += [f"{row}-{seed}" for seed in seeds if seed not in mine]
        if mine:
            same[row] = mine
    return same, others


def machines(records: Records) -> dict[str, list[str]]:
    """On what runs were judged, and which ones; where a record does not say it, nothing is known."""
    found: dict[str, list[str]] = {}
    for row, seeds in records.items():
        for seed, run in seeds.items():
            found.setdefault(run.machine or "made on a machine that is not known", []).append(f"{row}-{seed}")
    return found


def metrics(records: Records) -> dict[str, dict[int, dict[str, float]]]:
    """The metrics of each row and seed, AP in percent."""
    return {row: {seed: one.metrics for seed, one in seeds.items()} for row, seeds in records.items()}


def read_census(results: str | Path) -> dict:
    """What the profile's data set holds, see `fasa.data.census`.

    Raises:
        UserError: its data have never been prepared.
    """
    path = Path(results, "data.json")
    if not path.exists():
        raise UserError(
            f"{path} is not here yet: the pipeline makes it. In a terminal: fasa run --here 'data@*'"
        )
    return json.loads(path.read_text())


def gains(
    found: dict[str, dict[int, dict[str, float]]], against: dict[str, str]
) -> dict[str, dict[str, dict]]:
    """What each metric of a row is above another row's, as `spread` has it, over the seeds that both have.

    Rows of one seed share a warm-up and much of their luck: means over other seeds would add that to the
    difference.

    Args:
        found: as from `metrics`.
        against: each row's other row; pairs without a common seed are left out.
    """
    result = {}
    for row, base in against.items():
        mine, theirs = found.get(row, {}), found.get(base, {})
        if seeds := mine.keys() & theirs.keys():
            result[row] = spread(
                [
                    {name: mine[s][name] - theirs[s][name] for name in mine[s] if name in theirs[s]}
                    for s in sorted(seeds)
                ]
            )
    return result


def summarise(found: dict[str, dict[int, dict[str, float]]]) -> dict[str, dict[str, dict]]:
    """``{row: {metric: {"mean", "std", "n", "each"}}}`` over seeds; std is the sample's, None for one."""
    return {row: spread(list(seeds.values())) for row, seeds in found.items()}


def spread(runs: list[dict[str, float]]) -> dict[str, dict]:
    """Mean, sample standard deviation and number of each metric that all runs have, and the value of each."""
    common = [name for name in runs[0] if all(name in run for run in runs)]
    columns = {name: [run[name] for run in runs] for name in common}
    return {
        name: dict(
            mean=mean(values), std=stdev(values) if len(values) > 1 else None, n=len(values), each=values
        )
        for name, values in columns.items()
    }
