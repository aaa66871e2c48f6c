"""The fenced blocks of README.md and docs/: a test that executes one takes it from its page."""

import re
import shlex
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, empty where it only shows what a program says, and its text."""

    language: str
    text: str


def blocks(page: str, language: str | None = None) -> list[Block]:
    """All blocks of a page, or those in a language."""
    found = [Block(*match) for match in FENCE.findall((ROOT / page).read_text())]
    return [one for one in found if language in (None, one.language)]


def block(page: str, start: str) -> str:
    """The text of the one block of a page that starts so."""
    (found,) = (one.text for one in blocks(page) if one.text.startswith(start))
    return found


def names_stages(text: str, stages: Iterable[str]) -> bool:
    """Whether each pattern of each ``fasa run`` in a block is of some stage, and there is one."""
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    patterns = [
        word for line in words if "run" in line for word in line[line.index("run") + 1 :] if "@" in word
    ]
    return bool(patterns) and all(any(fnmatch(name, one) for name in stages) for one in patterns)
