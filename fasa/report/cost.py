"""Table 5: what each row costs."""

import json
from collections.abc import Sequence
from pathlib import Path

from fasa.errors import UserError
from fasa.report.tables import definition, markdown


def measured(results: str | Path, rows: Sequence[str]) -> dict[str, dict[str, float]]:
    """What `fasa.detection.cost.measure` found of rows; those that have not been measured are left out.

    Args:
        results: the folder of a profile's results.

    Raises:
        UserError: none has been.
    """
    paths = [Path(results, "cost", f"{row}.json") for row in rows]
    there = [json.loads(path.read_text()) for path in paths if path.exists()]
    if not there:
        raise UserError(f"{results}: no row has been measured yet; run: make everything")
    return {name: one for row in there for name, one in row.items()}


def section(measured: dict[str, dict[str, float]]) -> str:
    """Seconds of an iteration, memory and state of each row, the paper's on 8 V100s in brackets, in Markdown.

    Args:
        measured: as from `fasa.detection.cost.measure`; the row that the others are compared to is the first.
    """
    table = definition("table5")
    base = next(iter(measured.values()))["seconds"]
    body = []
    for name, one in measured.items():
        time = f"{one['seconds']:.3f} ± {one['seconds_std']:.3f}"
        memory = f"{one['memory_gb']:.2f}"
        if name in table["paper"]:
            seconds, deviation, gigabytes = table["paper"][name]
            time, memory = f"{time} ({seconds} ± {deviation})", f"{memory} ({gigabytes})"
        passes = f"{one['pass_seconds']:.1f}" if "pass_seconds" in one else "-"
        more = f"{100 * (one['seconds'] / base - 1):+.1f}%"
        body.append([name, time, more, memory, f"{one['growth']:+.1f}", f"{one['state']:.2f}", passes])
    return f"## {table['title']}\n\n{table['note']}\n\n{markdown(table['columns'], body)}\n"
