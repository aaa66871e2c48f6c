"""What DVC says of a stage: what it depends on now, and what it last ran with."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fasa.errors import UserError
from fasa.pipeline.project import JOBS


def read_inputs(stage: str) -> dict[str, str]:
    """The hash of everything that a stage depends on, as it is now.

    Args:
        stage: as DVC addresses it (``train@embedded-mask_rcnn-0``, its ``DVC_STAGE``).

    DVC resolves them itself, so templates, ``foreach`` and ``matrix`` mean what they mean to ``dvc repro``.
    """
    # here, not above: half a second that a notebook run by hand does not need
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        # dvc gives its lock up while a stage runs; another one beside it may be writing dvc.lock right now.
        with Repo(_wait_for_lock=True) as repo, repo.lock:
            return {dep.def_path: dep.get_hash().value for dep in repo.stage.collect(stage)[0].deps}
    except (DvcException, FileNotFoundError) as error:
        raise UserError(f"stage {stage}: {error}") from None


@contextmanager
def dvc_errors() -> Iterator[None]:
    """DVC's exceptions as a UserError of one line: its own words and those of what caused it."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        words = [str(error)]
        while error := error.__cause__:
            words.append(str(error))
        raise UserError(": ".join(" ".join(word.split()) for word in words if word)) from None


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The names of the files that differ."""
    return [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]


def recorded(stage: str, others: list[str]) -> dict[str, Any] | None:
    """The job that a stage last ran with; None where DVC's cache does not hold it any more.

    Args:
        others: takes a line for each other input that has changed since.

    Raises:
        UserError: there is no such stage, or it has not run.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    job = (JOBS / f"{stage.rpartition(':')[2]}.json").as_posix()
    try:
        with Repo(_wait_for_lock=True) as repo, repo.lock:
            (one,) = repo.stage.collect(stage)
            then = {dep.def_path: dep.hash_info.value for dep in one.deps}
            if not then.get(job):
                raise UserError(f"{stage} has not run yet: everything about it is new")
            for dep in one.deps:
                if dep.def_path != job and dep.exists and dep.get_hash().value != then[dep.def_path]:
                    others.append(f"{dep.def_path}: is another")
                elif dep.def_path != job and not dep.exists:
                    others.append(f"{dep.def_path}: is missing")
            path = Path(repo.cache.local.oid_to_path(then[job]))
    except DvcException as error:
        raise UserError(f"stage {stage}: {error}") from None
    if path.exists() and hashlib.md5(path.read_bytes()).hexdigest() == then[job]:
        return json.loads(path.read_text())
    others.append(
        f"{job}: is another; DVC's cache does not hold the old one, so what changed in it cannot be told"
    )
    return None
