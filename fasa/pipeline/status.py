"""``fasa status``: which stages are up to date, family by family, and the command that does the rest."""

import argparse
import os
from collections import Counter
from collections.abc import Sequence

from fasa.command import command
from fasa.pipeline.graph import STATES, Graph, family
from fasa.pipeline.mend import mend
from fasa.pipeline.project import root
from fasa.pipeline.side_by_side import Durations, count, default_jobs, say


def states(graph: Graph, names: set[str]) -> dict[str, str]:
    """The state of stages, one of `STATES`, given that of what they need."""
    alone = graph.states(graph.upstream(names))
    changed = {name for name, state in alone.items() if state in ("stale", "missing")}
    doubtful = graph.downstream(changed) - changed
    return {name: "waits" if name in doubtful else alone[name] for name in names}


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
    away = {name for name, state in found.items() if state == "away"}
    rest = {name for name, state in found.items() if state not in ("current", "away")}
    jobs, durations = default_jobs(), Durations(graph)
    command_line = " ".join(["fasa run", *(f"'{pattern}'" for pattern in arguments.patterns)])
    advice = [("", "does the rest", rest)] if rest else []
    if away:
        advice.append((" --here", "makes here what is away, too", rest | away))
    for flag, does, which in advice:
        left = f"{count(len(which))} at most, {durations.left(which, jobs)}, {jobs} at a time"
        print(f"\n`{command_line}{flag}` {does}: {left}")
    return 0
