"""Whatever README.md and docs/ show in a fenced block is executed by a test, which takes it from there."""

import ast
import importlib
import re

import pytest
from pages import FENCE, PAGES, ROOT, blocks

from fasa.cli import COMMANDS

TESTS = [ast.parse(path.read_text()) for path in sorted((ROOT / "tests").rglob("test_*.py"))]


def taken():
    """Page, first words, language: of each ``block(PAGE, START)`` and ``blocks(PAGE, LANGUAGE)`` of tests."""
    for tree in TESTS:
        names = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("block", "blocks"):
                given = [names.get(getattr(one, "id", None), one) for one in node.args]
                if len(given) == 2 and all(isinstance(one, ast.Constant) for one in given):
                    page, what = (one.value for one in given)
                    yield (page, what, None) if node.func.id == "block" else (page, "", what)


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_is_executed(page):
    mine = [(start, language) for one, start, language in taken() if one == page]
    for language, text in blocks(page):
        executed = any(text.startswith(start) and only in (None, language) for start, only in mine)
        assert executed or not language, f"{page}: no test takes this from the page (tests/pages.py):\n{text}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if "://" not in target:
            path = (ROOT / page).parent / target if target else ROOT / page
            assert path.exists(), f"{page}: {target} is not there"
            assert not anchor or anchor in anchors(path), f"{page}: {target} has no {anchor}"


def anchors(path):
    """The places in a page that can be linked to: its headings, as GitHub writes them, and what has an id."""
    text = FENCE.sub("", path.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    places = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return places | set(re.findall(r'<a id="([^"]+)">', text))


def inline(page):
    """What a page has between single backticks, on one line each."""
    text = FENCE.sub("", (ROOT / page).read_text())
    return [" ".join(one.split()) for one in re.findall(r"`([^`]+)`", text)]


WRITTEN = [*PAGES, "CONTRIBUTING.md", "data/README.md"]
TOP = ("benchmarks", "configs", "docs", "examples", "fasa", "notebooks", "tests", "tuning")


@pytest.mark.parametrize("page", WRITTEN)
def test_paths_in_a_line_are_there(page):
    """Those of the repository; PROFILE and the like stand for a name."""
    for path in inline(page):
        if path.startswith(tuple(f"{top}/" for top in TOP)) and not re.search(r"[A-Z]{3}|[ *]", path):
            assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_in_a_line_are_commands(page, capsys):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in map(str.split, inline(page)):
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, f"{page}: {words}"
        if words[0] == "fasa" and len(words) > 1:
            assert words[1] in COMMANDS, f"{page}: {words}"
            with pytest.raises(SystemExit):
                importlib.import_module(COMMANDS[words[1]][0]).main(["--help"])
            known = capsys.readouterr().out
            assert all(one in known for one in words[2:] if one.startswith("--")), f"{page}: {words}"
