"""The fenced blocks of README.md and docs/: a test that executes one takes it from its page."""

import re
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
