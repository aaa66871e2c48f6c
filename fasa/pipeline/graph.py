"""DVC's own graph of stages, read once: what needs what, and what is up to date.

A clone has dvc.lock and what git holds of the results, but not DVC's cache: what its lock names has run
elsewhere, and only what is to run here asks for its outputs.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from dvc.dependency import Dependency
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import Stage

from fasa.errors import UserError
from fasa.pipeline.project import root
from fasa.pipeline.stage import dvc_errors

RESULTS = "results"  # the folder of what is committed
STATES = {
    "current": "up to date",
    "away": "has run, but its outputs are neither here nor in DVC's cache",
    "stale": "has run, and since then it or its inputs have changed",
    "missing": "not run yet, or its outputs were removed",
    "waits": "itself up to date, but something that it needs is not",
}


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
        with dvc_errors():
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
                like = f", but there are '{pattern}@*'" if pattern in map(family, self.stages) else ""
                raise UserError(
                    f"no stage of dvc.yaml is called {pattern!r}{like}; dvc stage list names them"
                )
            found |= mine
        return [name for name in self.stages if name in found]

    def upstream(self, names: Iterable[str]) -> set[str]:
        """These stages and all that they need."""
        return _closure(names, self.needs)

    def downstream(self, names: Iterable[str]) -> set[str]:
        """These stages and all that need them."""
        return _closure(names, self.feeds)

    def states(self, names: Iterable[str]) -> dict[str, str]:
        """Of each stage one of `STATES`, if what it needs stays as it is."""
        with dvc_errors(), self.repo.lock:
            return {name: self._state(name) for name in names}

    def _state(self, name: str) -> str:
        stage = self.stages[name]
        lost = [out for out in stage.outs if not out.exists]
        if not all(out.hash_info for out in stage.outs):
            return "missing"
        if (
            stage.changed_stage()
            or stage.is_callback
            or stage.always_changed
            or not stage.frozen
            and any(self._is_another(dep, name) for dep in stage.deps)
            or any(out.exists and out.changed_checksum() for out in stage.outs)
        ):
            return "stale"
        # what git holds came with the clone: where it is gone, it was removed
        away = all(out.use_cache for out in lost) and any(out.changed_cache() for out in lost)
        return "away" if away else "missing" if lost else "current"

    def _is_another(self, dep: Dependency, name: str) -> bool:
        """Whether an input differs from what the stage has run with.

        Where it is not here though it has been made, or a folder is here in part, dvc.lock says what it is.
        """
        sources = [out for each in self.needs[name] for out in self.stages[each].outs if _overlap(out, dep)]
        if not dep.hash_info or not any(out.hash_info and not out.exists for out in sources):
            return bool(dep.workspace_status())
        return any(
            out.changed_checksum()
            if out.exists
            else out.fs_path == dep.fs_path and out.hash_info != dep.hash_info
            for out in sources
        )

    def changed(self, names: Iterable[str], here: bool = False) -> set[str]:
        """Those that must run, or come from the cache, if what they need stays as it is.

        Args:
            here: those that have run elsewhere, too.
        """
        done = {"current"} if here else {"current", "away"}
        return {name for name, state in self.states(names).items() if state not in done}

    def lacks(self, name: str) -> set[str]:
        """The stages that make what a stage reads and what is not here."""
        deps = self.stages[name].deps
        return {
            each
            for each in self.needs[name]
            for out in self.stages[each].outs
            if not out.exists and any(_overlap(out, dep) for dep in deps)
        }

    def open_folders(self, names: Iterable[str]) -> None:
        """Make folders that stages read and no stage makes as a whole: what has not run leaves them empty."""
        made = {out.fs_path for stage in self.stages.values() for out in stage.outs}
        for path in {Path(dep.fs_path) for name in names for dep in self.stages[name].deps}:
            if RESULTS in path.parts and not path.suffix and str(path) not in made:
                path.mkdir(parents=True, exist_ok=True)

    def undo_if_other(self, name: str) -> bool:
        """Whether a stage that has run here makes other bytes than dvc.lock had; then they are removed.

        Its entry in dvc.lock is put back.
        """
        stage = self.stages[name]
        with dvc_errors(), self.repo.lock:
            if not any(out.changed_checksum() for out in stage.outs):
                return False
            for out in stage.outs:
                if out.use_cache:
                    out.remove()
            stage.dump(update_pipeline=False)
        return True

    def meta(self, name: str, key: str) -> Any:
        """What dvc.yaml says of the stage under ``meta``, or None."""
        return (self.stages[name].meta or {}).get(key)


def _overlap(one: Output, other: Output) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    first, second = one.fs_path + os.sep, other.fs_path + os.sep
    return first.startswith(second) or second.startswith(first)


def _closure(names: Iterable[str], edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    new = set(names)
    while new:
        found |= new
        new = {far for near in new for far in edges[near]} - found
    return found
