"""Whatever README.md and docs/ show in a fenced block is executed by a test, which takes it from there."""

import ast
import re

import pytest
from pages import PAGES, ROOT, blocks

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
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or ((ROOT / page).parent / target).exists(), f"{page}: {target} is not there"
