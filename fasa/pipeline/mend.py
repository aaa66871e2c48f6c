"""What a kill may leave behind in DVC's files, found and put right before anything else is done.

DVC writes dvc.lock and .dvc/tmp/rwlock in place. A dvc.lock that was cut short is mostly valid YAML with
fewer stages: DVC would take the others for never run. An rwlock that was cut short, or names a process number
that another program has by now, makes DVC refuse every command.
"""

import json
import re
import subprocess
from datetime import datetime
from pathlib import Path

import psutil
from dvc.lock import make_lock
from dvc.repo import Repo

from fasa.files import replacing
from fasa.pipeline.stage import dvc_errors

ENTRY = re.compile(rb"^  (\S.*):$", re.MULTILINE)  # of a stage in dvc.lock


def mend() -> list[str]:
    """Mend dvc.lock and rwlock of the repository around the current folder, and keep a copy of each dvc.lock.

    The copy, below .fasa/, is what the next call compares with and mends from; before there is one, that is
    the last commit. Waits for a dvc that holds the repository's lock.

    Returns:
        A line for each file that was broken.
    """
    with dvc_errors(), Repo(_wait_for_lock=True) as repo, repo.lock:
        folder, mended = Path(repo.root_dir), []
        rwlock = Path(repo.tmp_dir, "rwlock")
        with make_lock(f"{rwlock}.lock"):  # as DVC does around its own edits
            if _mend_rwlock(rwlock):
                mended.append(f"{rwlock.relative_to(folder)} held what a killed process had left: mended")
        for pipeline in [*folder.glob("dvc.yaml"), *folder.glob("tuning/*/dvc.yaml")]:
            if line := _mend_lock(pipeline.with_suffix(".lock"), folder):
                mended.append(line)
        return mended


def was_cut(content: bytes, before: bytes) -> bool:
    """Whether a dvc.lock is the beginning of a longer one, given one that was whole.

    It is where its last line has no end, or where the stages that it lost are the last ones: DVC adds stages
    at the end and moves none. What remains of an entry that was cut makes its stage outdated, nothing worse.
    """
    if not before:
        return False
    left, earlier = ENTRY.findall(content), ENTRY.findall(before)
    return not content.endswith(b"\n") or (len(left) < len(earlier) and left == earlier[: len(left)])


def _mend_lock(lock: Path, folder: Path) -> str | None:
    name = lock.relative_to(folder)
    kept = folder / ".fasa" / name
    content = lock.read_bytes() if lock.exists() else b""  # no kill removes it: somebody wants to begin anew
    before = kept.read_bytes() if kept.exists() else _git(folder, "show", f"HEAD:{name}")
    # Git knows an empty file always, and nobody commits a dvc.lock that is one.
    if not lock.exists() or not was_cut(content, before) or content and _known_to_git(lock):
        if not kept.exists() or content != before:
            with replacing(kept) as file:
                file.write(content)
        return None
    with replacing(kept.with_suffix(".cut")) as file:
        file.write(content)
    with replacing(lock) as file:
        file.write(before)
    when = f"{datetime.fromtimestamp(kept.stat().st_mtime):%H:%M}" if kept.exists() else "the last commit"
    left, all_ = len(ENTRY.findall(content)), len(ENTRY.findall(before))
    return (
        f"{name} was cut short by a kill, {left} of {all_} stages left: put back as of {when}; "
        "what has ended since then comes back from DVC's cache"
    )


def _known_to_git(file: Path) -> bool:
    """Whether git stores this content: it was checked out from a commit, or applied from an experiment."""
    blob = _git(file.parent, "hash-object", file.name).decode().strip()
    return bool(_git(file.parent, "cat-file", "-t", blob or "none"))


def _git(folder: Path, *arguments: str) -> bytes:
    """What a git command prints; nothing where it fails, as in a checkout that has no git."""
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


def _mend_rwlock(file: Path) -> bool:
    """Leave only living dvc processes in DVC's list of readers and writers; whether there were others."""
    if not file.exists():
        return False
    try:
        held = json.loads(file.read_bytes())
        write = {path: holder for path, holder in held.get("write", {}).items() if _lives(holder)}
        read = {path: [*filter(_lives, holders)] for path, holders in held.get("read", {}).items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        held, write, read = None, {}, {}
    alive = dict(write=write, read={path: holders for path, holders in read.items() if holders})
    if held is not None and all(held.get(kind, {}) == alive[kind] for kind in alive):
        return False
    with replacing(file, "w") as out:
        json.dump(alive, out)
    return True


def _lives(holder: dict) -> bool:
    try:
        return any("dvc" in word for word in psutil.Process(holder["pid"]).cmdline())
    except psutil.Error:
        return False
