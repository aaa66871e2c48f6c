"""Launchers: commands such as ``torchrun`` and ``srun``, which start a command as many ranks.

Which one a profile's training and detection run under is its `launch` in params.yaml, or the environment's
``FASA_LAUNCH`` in its place (empty: none). It is no part of a job: like the machine, it says where a stage
runs, not what it computes, so another one leaves all that has run up to date.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from fasa.errors import UserError
from fasa.pipeline.process import die_with_parent
from fasa.pipeline.project import root
from fasa.sections import resolved

VARIABLE = "FASA_LAUNCH"
PATIENCE = 10  # seconds to end after SIGTERM
ALL = 1 << 16  # more processes than there is room for
OURS = re.compile(r"(?:\d+: )?error: (.*)")  # of a rank; srun may say which
DIED = re.compile(r"srun: error: (.*)|failed \((exitcode: .*\) local_rank: \d+)")  # of a launcher
RAISED = re.compile(r"\b(\w+(?:Error|Exception): .+)")


def launcher(profile: str) -> list[str]:
    """The command that starts the ranks of a profile's stages, empty for none.

    Raises:
        UserError: it is no command, or params.yaml cannot be read.
    """
    wanted, where = os.environ.get(VARIABLE), VARIABLE
    if wanted is None:
        path, where = root() / "params.yaml", f"params.yaml: {profile}.launch"
        try:
            params = yaml.safe_load(path.read_bytes()) if path.exists() else {}
            section = resolved(params, profile) if profile in params else None
        except (yaml.YAMLError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from None
        wanted = section.get("launch") or "" if isinstance(section, dict) else ""
    if isinstance(wanted, list) and all(isinstance(word, str) for word in wanted):
        return wanted
    try:
        return shlex.split(wanted)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{where} is {wanted!r}, not a command ({error})") from None


def processes(launch: Sequence[str]) -> int:
    """How many processes a launcher starts on this host: 1 without one, 0 where Slurm finds them room."""
    if not launch:
        return 1
    if Path(launch[0]).name == "srun":
        return 0
    found = re.search(r"--?nproc[-_]per[-_]node[= ](\S+)", " ".join(launch))
    if is_torchrun(launch) and (not found or found[1].isdigit()):
        return int(found[1]) if found else 1
    return ALL  # "gpu", or a command that we do not know


def is_torchrun(launch: Sequence[str]) -> bool:
    """Whether it is torchrun, which takes a Python file where others take a command."""
    return bool(launch) and Path(launch[0]).name == "torchrun"


def prefix(launch: Sequence[str]) -> list[str]:
    """What stands before a command to have it launched; torchrun is that of this Python."""
    if not is_torchrun(launch):
        return list(launch)
    several = re.search(r"--?(nnodes|rdzv|master|standalone)", " ".join(launch))
    alone = [] if several else ["--standalone"]  # on a port of its own, for stages side by side
    return [sys.executable, "-m", "torch.distributed.run", "--no-python", *alone, *launch[1:]]


def start(launch: Sequence[str], command: Sequence[str]) -> None:
    """Run a command under a launcher, to its end; what it prints is printed as it comes.

    The launcher gets SIGTERM when this process ends, however it does, and has then to end what it has
    started: torchrun, srun and mpirun do. A script of one's own takes ``trap 'kill 0' TERM`` for that.

    Raises:
        UserError: there is no such launcher, or it failed; in the words of a rank, if one gave a reason.
    """
    parent, said, died, raised = os.getpid(), None, None, None
    # srun: when a task fails the others wait for it in vain.
    environment = dict(SLURM_KILL_BAD_EXIT="1") | os.environ
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # or torchrun and mmengine say what they set them to
        environment.setdefault(name, "1")
    try:
        process = subprocess.Popen(
            [*prefix(launch), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
        )
    except OSError as error:
        raise UserError(f"{launch[0]}: {error.strerror}; {VARIABLE} or launch names it") from None
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            said = said or OURS.match(line)
            died = died or DIED.search(line)
            raised = RAISED.search(line) or raised
        status = process.wait()
    finally:
        _end(process)
    if said:
        raise UserError(said[1])
    if status:
        reason = f" ({found[found.lastindex]})" if (found := died or raised) else ""
        raise UserError(
            f"{launch[0]} ended with status {status}{reason}, see above; the same command goes on from there"
        )


def _end(process: subprocess.Popen) -> None:
    """Leave nothing of a launcher behind: it may end its processes itself, then they are killed."""
    with suppress(ProcessLookupError):
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
