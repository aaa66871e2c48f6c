"""One process at a time for a stage; none that outlives what started it, and no folder that is left behind.

After ``kill -9`` of dvc, an orphan would go on writing to the checkpoint that the next run resumes from.
"""

import ctypes
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from fasa.errors import UserError
from fasa.files import readable_errors

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, by: int = signal.SIGKILL) -> None:
    """Have Linux kill this process when its parent, the process ``parent``, ends; elsewhere, do nothing.

    Args:
        by: the signal; one that can be caught lets it end others first.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:  # it ended before the request was in force
            sys.exit(1)


def die_with_starter() -> None:
    """Kill this process when the one that started it ends, looked for every 0.2 s.

    The shells through which dvc runs a command are passed over: they outlive a killed dvc.
    """
    import psutil

    starter = next((each for each in psutil.Process().parents() if not each.name().endswith("sh")), None)

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while starter.is_running() and starter.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    if starter:
        threading.Thread(target=watch, daemon=True).start()


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes that are started anew, not forked, and that end with this one, even if it is killed.

    Use it from a thread that lives as long as the pool: Linux takes the end of the thread for that of the
    parent.

    Example:
        >>> with pool(1) as processes:
        ...     processes.submit(pow, 2, 5).result()
        32
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, initializer=die_with_parent, initargs=(os.getpid(),))


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, creating it if need be; the lock ends with the process.

    Raises:
        UserError: another process holds it, or it cannot be written to.
    """
    with readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115
    with lock:
        if not _locked(lock.fileno()):
            raise UserError(f"another run of this stage works in {folder}: wait for it or stop it")
        yield


@contextmanager
def temporary_folder(room: int) -> Iterator[Path]:
    """A new folder ``fasa-*`` that is removed at the end; so is what killed processes have left beside it.

    It lies where the system wants such folders (``TMPDIR``), or else in /tmp or /dev/shm.

    Args:
        room: the most bytes that its path may have, to hold Unix sockets.

    Raises:
        UserError: none can be made.
    """
    with readable_errors("TMPDIR"):
        longest = room - len("/fasa-12345678")
        parents = (Path(each) for each in (tempfile.gettempdir(), "/tmp", "/dev/shm"))
        parents = (each for each in parents if len(bytes(each)) <= longest and os.access(each, os.W_OK))
        parent = next(parents, None)
        if parent is None:
            raise UserError(
                f"neither TMPDIR, with at most {longest} characters, nor /tmp can be written to: set TMPDIR"
            )
        _sweep(parent)
        new = Path(tempfile.mkdtemp(prefix=".fasa-", dir=parent))
    with sole_owner(new):
        folder = new.rename(new.with_name(new.name.removeprefix(".")))  # found by others only once it is held
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove the folders of :func:`temporary_folder` whose process has ended."""
    for lock in parent.glob("fasa-*/.lock"):
        with suppress(OSError), open(lock, "r+") as file:
            if _locked(file.fileno()):
                shutil.rmtree(lock.parent, ignore_errors=True)


def _locked(file: int) -> bool:
    """Take the lock on an open file; false if another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
