"""The runs of the stage `classify`, and their tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fasa.report import tables

STAND_INS = ("glyphs", "digits")  # for CIFAR-100; told of where they are asked for
RUNS = Path("results", "classify")  # of all sets, so that the report may depend on one folder

Records = dict[str, dict[int, dict]]  # by row and seed: what `fasa.classification.experiment.run` says


def read_records(set_name: str, rows: Sequence[str], seeds: Sequence[int]) -> Records:
    """All runs on a set by row and seed; rows of which none has run are left out."""
    found = {}
    for row in rows:
        paths = {seed: RUNS / set_name / f"{row}-{seed}.json" for seed in seeds}
        if there := {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}:
            found[row] = there
    return found


def section(name: str, sets: dict[str, Records], trained: dict[str, dict[str, Any]]) -> str:
    """A table of appendix.yaml for each set, in Markdown.

    Args:
        trained: of each set its kind, and how it is trained on: epochs, precision, and shots, below how many
            images a class is few-shot, and above how many many-shot; and whether params.yaml asks for it.
    """
    parts = []
    for set_name, records in sets.items():
        found = {row: {seed: run["metrics"] for seed, run in runs.items()} for row, runs in records.items()}
        how = trained[set_name]
        few, many = how["shots"]
        says = f"{told(set_name, records)}, {how['epochs']} epochs in {how['precision']}; "
        says += f"few-shot below {few} images of a class, many-shot above {many}"
        scale = tables.Scale(says, f"fasa run 'classify@{set_name}-ROW-*'")
        parts += [f"### On {set_name}", tables.section(name, found, scale) + _first(set_name, how)]
        if leaky := [
            tables.words(row) for row, runs in records.items() if next(iter(runs.values()))["leaky"]
        ]:
            parts.append(f"Leaky, adapted to the very images they are judged on: {', '.join(leaky)}.")
    for set_name, how in trained.items():
        if set_name in sets or how["kind"] in STAND_INS:
            continue
        parts += [
            f"### On {set_name}",
            f"Not run: {how['epochs']} epochs in {how['precision']}. All rows: "
            f"`fasa run 'classify@{set_name}-*'`.{_first(set_name, how)}",
        ]
    return "\n\n".join(parts) or "No set of classification is asked for."


def _first(set_name: str, how: dict[str, Any]) -> str:
    """What to do before its command is one, where params.yaml does not ask for a set."""
    return "" if how["asked"] else f" First put `{set_name}` under `classify.sets` in `params.yaml`."


def told(set_name: str, records: Records) -> str:
    """What a set holds, as far as a run has said it."""
    for runs in records.values():
        counts = next(iter(runs.values()))["counts"]
        return f"`{set_name}`, {len(counts)} classes in {sum(counts):,} training images"
    return f"`{set_name}`"
