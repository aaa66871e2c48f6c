"""Run a stage's notebook: ``python -m fasa.pipeline.run``, under DVC, or with the name of a stage by hand.

What runs, and with which settings, is in the stage's job (`fasa.pipeline.plan`): its notebook's cell tagged
``parameters`` is followed by ``job``. The executed notebook is written only when all cells have run and
nothing that the stage depends on was edited meanwhile.

A notebook must have closed its files when its last cell ends: its kernel is killed then.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fasa.command import command
from fasa.errors import UserError
from fasa.pipeline import strip
from fasa.pipeline.process import die_with_starter, sole_owner
from fasa.pipeline.project import JOBS, NOTEBOOKS, executed, read_job, root
from fasa.pipeline.stage import changes, read_inputs

# the same in every run, so that what a notebook writes is too
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "0",
    # glibc gives large blocks back to the kernel and takes them again in every step: a fifth of its time
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


def run(stage: str) -> None:
    """Execute the notebook of a stage with its job.

    Raises:
        UserError: no such job, code that was edited since it was planned, a cell that failed, a module that
            the job does not know, another run of the same stage, or an input that was edited during the run.
            The executed notebook is then as it was.
    """
    name = stage.rpartition(":")[2]  # of another file than dvc.yaml: tuning/regime/dvc.yaml:candidate@...
    job = read_job(name)
    source = NOTEBOOKS / f"{job['notebook']}.ipynb"
    before = _inputs(stage, name, job)
    if edited := changes(job["sources"], before["sources"]):
        raise UserError(f"{', '.join(edited)}: edited since the stages were planned; run: dvc repro plan")
    work = _work_folder(name, before)
    _set_environment(work)
    sys.modules["rfc3987_syntax"] = None  # jsonschema does without: 0.3 s to import papermill, not 1.4 s
    from fasa.pipeline.execute import execute  # slow, so only after the checks

    with sole_owner(work):
        result = execute(strip.read(source), dict(job=job["settings"]), source, partial=work / source.name)
        after = _inputs(stage, name, job)
        if edited := [
            *changes(before["sources"], after["sources"]),
            *changes(before["inputs"], after["inputs"]),
        ]:
            raise UserError(f"{', '.join(edited)} changed during the run: its result is discarded")
        if unknown := _imported(work) - _known(job):
            raise UserError(
                f"{name} imports {min(unknown)}, which its job does not list: mend fasa/pipeline/plan.py"
            )
        strip.write(strip.normalise(result), executed(name))
        shutil.rmtree(work)  # or a forced run would resume from the end of this one


def _inputs(stage: str, name: str, job: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The hashes of code and of what DVC knows the stage depends on, as they are now."""
    paths = [Path(path) for path in job["sources"]]
    sources = {path.as_posix(): strip.content_hash(path) for path in paths if path.is_file()}
    own = (JOBS / f"{name}.json").as_posix()
    inputs = read_inputs(stage) if "DVC_STAGE" in os.environ else {}
    inputs.setdefault(own, strip.content_hash(Path(own)))
    return dict(sources=sources, inputs=inputs)


def _known(job: dict[str, Any]) -> set[str]:
    """The modules of fasa in a job's sources."""
    files = [Path(path).with_suffix("") for path in job["sources"] if path.startswith("fasa/")]
    return {".".join(file.parts).removesuffix(".__init__") for file in files}


def _imported(work: Path) -> set[str]:
    """The modules of fasa that the kernel had imported after its last cell, and ranks at their end."""
    return {module for path in work.glob("modules-*.json") for module in json.loads(path.read_text())}


def _work_folder(name: str, inputs: dict[str, dict[str, str]]) -> Path:
    """Where unfinished work survives: in the user's checkout, also if the stage runs in a temporary copy.

    Keyed by the content of all inputs, so that changed code or settings never resume an older checkpoint.
    """
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    checkout = Path(os.environ.get("DVC_ROOT") or root())
    return checkout / ".fasa" / name / key


def _set_environment(work: Path) -> None:
    """What the kernel inherits."""
    os.environ.update(ENVIRONMENT, FASA_WORK_DIR=str(work))
    # in a temporary copy, the copy's modules and not the installed ones
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root()), os.environ.get("PYTHONPATH")]))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage that DVC names, or one that is named."""
    parser = argparse.ArgumentParser(
        prog="python -m fasa.pipeline.run", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("stage", nargs="?", default=os.environ.get("DVC_STAGE"), help="such as data@embedded")
    stage = parser.parse_args(argv).stage
    if stage is None:
        parser.error("name a stage, such as train@embedded-mask_rcnn-0")
    if "DVC_STAGE" in os.environ:  # by hand it may be meant to outlive its terminal
        die_with_starter()
    os.chdir(root())
    try:
        run(stage)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{stage}: interrupted") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
