"""Stages side by side: ``python -m fasa.pipeline.side_by_side PATTERN ...``; ``dvc repro`` runs them in turn.

Patterns are those of a shell, such as ``train@mask_rcnn-*``. Stages run in the order of dvc.yaml, those that
differ only in what stands behind the ``@`` at the same time, unless dvc.yaml says ``meta: {alone: true}`` of
them. Nothing runs that is not named: name what a stage needs, too.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import groupby

from fasa.errors import UserError
from fasa.pipeline.process import die_with_parent
from fasa.pipeline.project import load_params, parse_yaml, root

DVC = (sys.executable, "-m", "dvc")
CUT_SHORT = (
    "dvc.lock is cut short, as DVC leaves it when it is killed while it writes; git checkout dvc.lock and "
    "run this again: what had finished comes back from DVC's cache"
)


def dvc(*arguments: str) -> str:
    """What a dvc command prints."""
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True)
    if done.returncode:
        if "dvc.lock' validation failed" in done.stderr or "dvc.lock' is invalid" in done.stderr:
            raise UserError(CUT_SHORT)
        raise UserError(done.stderr.strip() or f"dvc {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def waves(stages: list[str], patterns: list[str]) -> list[list[str]]:
    """The stages that match, in their order, the instances of a matrix together.

    Raises:
        UserError: a pattern that no stage matches.
    """
    for pattern in patterns:
        if not any(fnmatchcase(stage, pattern) for stage in stages):
            raise UserError(f"no stage of dvc.yaml is called {pattern!r}; dvc stage list names them")
    chosen = [stage for stage in stages if any(fnmatchcase(stage, pattern) for pattern in patterns)]
    return [list(wave) for _, wave in groupby(chosen, key=lambda stage: stage.partition("@")[0])]


def alone(wave: list[str]) -> bool:
    """Whether dvc.yaml wants the stages of a wave one at a time."""
    stage = parse_yaml((root() / "dvc.yaml").read_text())["stages"][wave[0].partition("@")[0]]
    return stage.get("do", stage).get("meta", {}).get("alone", False)


def run(stage: str, stop: threading.Event) -> bool:
    """Run one stage, each line of its output led by its name; nothing if another has failed before."""
    if stop.is_set():
        return True
    parent = os.getpid()
    process = subprocess.Popen(
        [*DVC, "--wait-for-lock", "repro", "--single-item", stage],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: die_with_parent(parent),
    )
    for line in process.stdout:
        print(f"{stage}: {line.rstrip()}", flush=True)
    if process.wait():
        stop.set()
    return process.returncode == 0


def main() -> int:
    """Run what is asked for; what has begun when a stage fails is brought to its end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("patterns", nargs="+", metavar="PATTERN")
    parser.add_argument("-j", "--jobs", type=int, help="at the same time (default: as many as cores allow)")
    arguments = parser.parse_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    try:
        jobs = arguments.jobs or max(1, len(os.sched_getaffinity(0)) // load_params().get("threads", 1))
        stop = threading.Event()
        for wave in waves(dvc("stage", "list", "--name-only").split(), arguments.patterns):
            outdated = json.loads(dvc("status", "--json", *wave))
            with ThreadPoolExecutor(1 if alone(wave) else jobs) as pool:
                done = list(pool.map(lambda stage: run(stage, stop), [s for s in wave if s in outdated]))
            if not all(done):
                raise UserError("a stage failed, see above; the same command goes on from there")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
