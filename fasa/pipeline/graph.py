"""DVC's own graph of stages, read once: what needs what, and what is up to date."""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage

from fasa.errors import UserError
from fasa.pipeline.project import root


def family(name: str) -> str:
    """What the instances of a matrix have in common: ``train`` of ``train@tiny-mask_rcnn-0``."""
    return name.partition("@")[0]


class Graph:
    """The stages of all dvc.yaml, by the names that DVC gives them (``train@mask_rcnn-0``).

    Reading it takes a second or more of DVC's time, asking it a few milliseconds a stage: a stage stays valid
    here until it runs itself, since what it is compared to, its entry in dvc.lock, changes with that alone.

    Attributes:
        stages: in the order of dvc.yaml.
        needs: for each stage those that make what it reads.

    Raises:
        UserError: in DVC's words, in one line.
    """

    def __init__(self):
        os.chdir(root())  # names and paths are relative to it
        with _dvc_errors():
            self.repo = Repo(_wait_for_lock=True)
            with self.repo.lock:
                index = self.repo.index
                self.stages: dict[str, Stage] = {stage.addressing: stage for stage in index.stages}
                self.needs = {
                    stage.addressing: set()
                    if stage.frozen
                    else {each.addressing for each in index.graph.successors(stage)}
                    for stage in index.stages
                }

    @cached_property
    def feeds(self) -> dict[str, set[str]]:
        """The stages that read what a stage makes."""
        feeds: dict[str, set[str]] = {name: set() for name in self.stages}
        for name, needed in self.needs.items():
            for each in needed:
                feeds[each].add(name)
        return feeds

    def match(self, patterns: Iterable[str]) -> list[str]:
        """The stages that any pattern of a shell matches; without patterns, all of the dvc.yaml here.

        Those of another file are called FILE:NAME, and are meant by a pattern with a colon alone.

        Raises:
            UserError: a pattern that no stage matches.
        """
        found = set()
        for pattern in (patterns := list(patterns)) or ["*"]:
            mine = {
                one for one in self.stages if (":" in pattern) >= (":" in one) and fnmatchcase(one, pattern)
            }
            if patterns and not mine:
                raise UserError(f"no stage of dvc.yaml is called {pattern!r}; dvc stage list names them")
            found |= mine
        return [name for name in self.stages if name in found]

    def upstream(self, names: Iterable[str]) -> set[str]:
        """These stages and all that they need."""
        return _closure(names, self.needs)

    def downstream(self, names: Iterable[str]) -> set[str]:
        """These stages and all that need them."""
        return _closure(names, self.feeds)

    def changed(self, names: Iterable[str]) -> set[str]:
        """Those that ``dvc repro`` would run if what they need stayed as it is."""
        with _dvc_errors(), self.repo.lock:
            return {name for name in names if self.stages[name].changed()}

    def made(self, name: str) -> bool:
        """Whether all that the stage writes is there, be it up to date or not."""
        return all(out.exists for out in self.stages[name].outs)

    def meta(self, name: str, key: str) -> Any:
        """What dvc.yaml says of the stage under ``meta``, or None."""
        return (self.stages[name].meta or {}).get(key)


def _closure(names: Iterable[str], edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    new = set(names)
    while new:
        found |= new
        new = {far for near in new for far in edges[near]} - found
    return found


class _dvc_errors:
    """DVC's exceptions as a UserError of one line: its own words and those of what caused it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, _traceback) -> None:
        if isinstance(error, DvcException):
            words = [str(error)]
            while error := error.__cause__:
                words.append(str(error))
            raise UserError(": ".join(" ".join(word.split()) for word in words if word)) from None
