"""Has a part of a stage done on the ranks that a launcher starts, or, without a launcher, in this process.

    worker.run(experiment.train_row, job, warmup=..., work_dir=..., out=..., history=...)

Under a launcher each rank is ``python -m fasa.detection.worker CALL``, and `CALL` a file that says what to
do. What ranks hand back they write into files: the first one does.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import msgspec

from fasa import notebook
from fasa.files import replacing
from fasa.job import Job
from fasa.pipeline.launch import launcher, start
from fasa.pipeline.project import note_modules


class Call(msgspec.Struct):
    """What to do.

    Args:
        function: of a module, by its full name, which takes a `Job` and these arguments.
    """

    function: str
    job: Job
    arguments: dict[str, str]


def run(function: Callable[..., None], job: Job, **arguments: str | os.PathLike) -> None:
    """Call a function with a job and paths, on all ranks of the profile's launcher if it has one.

    Raises:
        UserError: what a rank raised, or what became of one that has died.
    """
    launch = launcher(job.profile)
    if not launch:
        function(job, **arguments)
        return
    name = f"{function.__module__}.{function.__qualname__}"
    call = Call(name, job, {name: os.fspath(value) for name, value in arguments.items()})
    path = notebook.work_dir() / f"{function.__name__}.json"
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(call)))
    start(launch, [sys.executable, "-m", "fasa.detection.worker", str(path)])


def main() -> None:
    """One rank."""
    from mmengine.dist import is_main_process

    from fasa.detection.ranks import as_rank

    call = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Call)
    module, _, function = call.function.rpartition(".")
    with as_rank():
        getattr(import_module(module), function)(call.job, **call.arguments)
        if is_main_process():
            note_modules(function)


if __name__ == "__main__":
    main()
