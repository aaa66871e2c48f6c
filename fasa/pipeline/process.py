"""One process at a time for a stage, and none that outlives the pipeline that started it.

After ``kill -9`` of dvc, an orphan would go on writing to the checkpoint that the next run resumes from.
"""

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fasa.errors import UserError

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have Linux kill this process when its parent, the process ``parent``, ends; elsewhere, do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, creating it if need be; the lock ends with the process.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run of this stage works in {folder}: wait for it or stop it") from None
        yield
