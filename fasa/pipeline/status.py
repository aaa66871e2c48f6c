"""``fasa status``: which stages are up to date, family by family, and the command that does the rest."""

import argparse
import os
from collections import Counter
from collections.abc import Sequence

from fasa.command import command
from fasa.pipeline.graph import Graph, family
from fasa.pipeline.mend import mend
from fasa.pipeline.project import root
from fasa.pipeline.side_by_side import Durations, count, default_jobs, say

STATES = {
    "current": "up to date",
    "stale": "made, and since then its inputs have changed",
    "missing": "not made yet, or removed",
    "waits": "itself up to date, but something that it needs is not",
}


def states(graph: Graph, names: set[str]) -> dict[str, str]:
    """The state of stages, one of `STATES`."""
    changed = graph.changed(graph.upstream(names))
    doubtful = graph.downstream(changed)

    def state(name: str) -> str:
        if name in changed:
            return "stale" if graph.made(name) else "missing"
        return "waits" if name in doubtful else "current"

    return {name: state(name) for name in names}


def table(states: dict[str, str], order: list[str]) -> str:
    """A line for each family of stages, in the order of `order`: how many are in which state."""
    counts: dict[str, Counter] = {}
    for name in order:
        if name in states:
            counts.setdefault(family(name), Counter())[states[name]] += 1
    rows = [
        ["", *STATES],
        *([each, *(str(n[state] or "-") for state in STATES)] for each, n in counts.items()),
    ]
    rows.append(["all", *(str(sum(n[state] for n in counts.values()) or "-") for state in STATES)])
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and what to do about it."""
    parser = argparse.ArgumentParser(
        prog="fasa status",
        description=__doc__.partition(": ")[2],
        epilog="; ".join(f"{name}: {meaning}" for name, meaning in STATES.items()),
    )
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="stages, such as 'train@*-0' (default: all)"
    )
    arguments = parser.parse_args(argv)
    os.chdir(root())
    for line in mend():
        say(line)
    graph = Graph()
    found = states(graph, set(graph.match(arguments.patterns)))
    print(table(found, list(graph.stages)))
    rest = {name for name, state in found.items() if state != "current"}
    if rest:
        jobs = default_jobs()
        left = Durations(graph).left(rest, jobs)
        words = " ".join(["fasa run", *(f"'{pattern}'" for pattern in arguments.patterns)])
        print(f"\n`{words}` does the rest: {count(len(rest))} at most, {left}, {jobs} at a time")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
