"""Which numbers of a page were made in this checkout, and which it took as they are committed."""

from collections.abc import Iterable, Sequence
from pathlib import Path

KINDS = {  # in words, and the executed notebook, which no commit holds
    "detectors": "executed/{profile}/evaluate-{name}.ipynb",
    "groups of classes": "executed/{profile}/cluster-{name}.ipynb",
    "cost": "executed/{profile}/cost-{name}.ipynb",
    "classifiers on {set}": "executed/{set}/classify-{name}.ipynb",
}


def lines(profile: str, ran: dict[str, Sequence[str]], classifiers: dict[str, Sequence[str]]) -> list[str]:
    """A line for each kind of stage: how many of its numbers were made here, and which are older.

    Args:
        ran: by kind, such as "detectors", the names of what has run, ``mask_rcnn-0``.
        classifiers: by set likewise.
    """
    told = [_line(kind, KINDS[kind], names, profile=profile) for kind, names in ran.items()]
    kind = "classifiers on {set}"
    told += [_line(kind.format(set=one), KINDS[kind], names, set=one) for one, names in classifiers.items()]
    return [line for line in told if line]


def _line(kind: str, path: str, names: Sequence[str], **where: str) -> str:
    if not names:
        return ""
    here = [name for name in names if Path(path.format(name=name, **where)).exists()]
    if len(here) == len(names):
        return f"- {kind.capitalize()}: all {len(names)} were made, or fetched, here."
    if not here:
        return f"- {kind.capitalize()}: all {len(names)} are as committed."
    rest = [name for name in names if name not in here]
    made = f"{len(here)} of {len(names)} were made, or fetched, here ({rows(here)})"
    return f"- {kind.capitalize()}: {made}; {len(rest)} are as committed ({rows(rest)})."


def rows(names: Iterable[str]) -> str:
    """``mask_rcnn-0, mask_rcnn-1, b`` as ``mask_rcnn 0 1, b``."""
    found: dict[str, list[str]] = {}
    for name in names:
        row, _, seed = name.rpartition("-")
        found.setdefault(row or seed, []).extend([seed] if row else [])
    return ", ".join(
        " ".join([f"`{row}`" if row.isidentifier() else row, *seeds]) for row, seeds in found.items()
    )
