"""The pipeline as a reader of the notebooks sees it: families of stages, their notebooks, their states."""

import json
from collections import Counter
from pathlib import Path

import networkx

from fasa.errors import UserError
from fasa.pipeline import strip
from fasa.pipeline.graph import STATES, Graph, family
from fasa.pipeline.project import JOBS
from fasa.pipeline.status import states

FOLDER = Path("notebooks")
# What a node is filled with, the state that most needs a look first. Its words say the same.
FILL = dict(missing="#dddddd", stale="#f5cf9b", waits="#f7e9c8", away="#bfe3f5", current="#a9dcc8")


def counts(graph: Graph) -> dict[str, Counter]:
    """How many stages of each family are in which of `STATES`; those of tuning/ among them."""
    found: dict[str, Counter] = {}
    for name, state in states(graph, set(graph.stages)).items():
        found.setdefault(_family(name), Counter())[state] += 1
    return {name: found[name] for name in dict.fromkeys(map(_family, graph.stages))}


def _family(name: str) -> str:
    return family(name.rpartition(":")[2])


def edges(graph: Graph) -> list[tuple[str, str]]:
    """Which families feed which; what another way tells already is left out."""
    found = networkx.DiGraph()
    found.add_nodes_from(map(_family, graph.stages))
    for name, needed in graph.needs.items():
        found.add_edges_from((_family(one), _family(name)) for one in needed)
    return list(networkx.transitive_reduction(found).edges)


def drawing(counted: dict[str, Counter], edges: list[tuple[str, str]]) -> str:
    """The families as a Mermaid diagram in Markdown, which JupyterLab and GitHub draw without a network."""
    lines = ["```mermaid", "flowchart TD"]
    for name, n in counted.items():
        state = next(one for one in FILL if n[one])
        lines.append(f'  {name}["<b>{name}</b><br>{said(n)}"]:::{state}')
    lines += [f"  {one} --> {other}" for one, other in edges]
    lines += [f"  classDef {state} fill:{fill},stroke:#555,color:#000" for state, fill in FILL.items()]
    return "\n".join([*lines, "```"])


def said(n: Counter) -> str:
    """How many stages are in which state, in words."""
    if n["current"] == n.total():
        return f"all {n.total()} current" if n.total() > 1 else "current"
    return ", ".join(f"{n[state]} {state}" for state in STATES if n[state])


def table(counted: dict[str, Counter]) -> str:
    """A line in Markdown for each notebook: a link, its title and first sentence, and how far its stages are.

    Raises:
        UserError: nothing has been planned yet.
    """
    families: dict[str, set[str]] = {}
    for path in JOBS.glob("*.json"):
        families.setdefault(json.loads(path.read_text())["notebook"], set()).add(family(path.stem))
    if not families:
        raise UserError("the stages have not been planned yet. In a terminal: dvc repro plan")
    lines = ["| notebook | what it shows | its stages |", "| --- | --- | --- |"]
    for path in sorted(FOLDER.glob("[0-9]*.ipynb")):
        mine = [name for name in counted if name in families.get(path.stem, ())]
        states = "; ".join(f"{name}: {said(counted[name])}" for name in mine)
        lines.append(f"| [{path.stem}]({path.name}) | {gist(path)} | {states or 'by hand'} |")
    return "\n".join(lines)


def gist(path: Path) -> str:
    """The heading of a notebook and the first sentence below it."""
    first = "".join(strip.read(path)["cells"][0]["source"])
    heading, _, rest = first.lstrip("# ").partition("\n")
    sentence = " ".join(rest.split()).partition(". ")[0].rstrip(".")
    return f"**{heading}**. {sentence}." if sentence else f"**{heading}**"
