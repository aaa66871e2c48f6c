"""Whose numbers a page shows."""

import pytest

from fasa.report import provenance


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/evaluate-x-0", "a/evaluate-x-1", "a/cluster-0", "glyphs/classify-ce-0"):
        path = tmp_path / "executed" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_what_was_made_here_is_told_from_what_was_committed(here):
    ran = {"detectors": ["x-0", "x-1", "y_z-0"], "groups of classes": ["0"], "cost": ["x"]}
    told = provenance.lines("a", ran, dict(glyphs=["ce-0"], digits=["ce-0", "ce-1"], none=[]))
    assert told == [
        "- Detectors: 2 of 3 were made, or fetched, here (`x` 0 1); 1 are as committed (`y_z` 0).",
        "- Groups of classes: all 1 were made, or fetched, here.",
        "- Cost: all 1 are as committed.",
        "- Classifiers on glyphs: all 1 were made, or fetched, here.",
        "- Classifiers on digits: all 2 are as committed.",
    ]
