"""``fasa run [PATTERN ...]``: what ``dvc repro`` does, with as many stages at a time as cores allow.

Patterns are those of a shell, such as ``'train@*-0'``; what a stage needs is run, too, unless --only says
otherwise, and what the first pattern asks for goes first. Without a pattern all stages of dvc.yaml are
brought up to date. A stage starts when what it needs is there; those of which dvc.yaml says ``meta: {alone:
true}``, since they measure time or take the machine, run when nothing else does. Of several GPUs each other
stage sees one, or, under a launcher, as many as that starts ranks: it counts as so many stages. What has run
is not run again: interrupted or failed, the same command goes on from there.

So it does on another machine, from a commit of dvc.lock and results: what has run elsewhere counts as done,
and is made here only where a stage that runs reads it, or with --here.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import psutil
from ruamel.yaml import YAML

from fasa.command import command
from fasa.errors import UserError
from fasa.files import replacing
from fasa.pipeline.graph import Graph, family
from fasa.pipeline.launch import launcher, processes
from fasa.pipeline.mend import mend
from fasa.pipeline.process import die_with_parent
from fasa.pipeline.project import root
from fasa.sections import resolved

DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item")
SECONDS = Path(".fasa", "seconds.json")  # what each stage took when it last ran here
HEARTBEAT = 30  # seconds without the end of a stage, after which a line of each says how far it is
PATIENCE = 10  # seconds to end after SIGTERM
OTHER = """\
{name}: makes other bytes here than dvc.lock has, as another processor does. Bring its outputs from where it
ran (dvc pull, or a copy of DVC's cache), or make here all that hangs on it: fasa run --here"""
ADVICE = re.compile(
    r"\s*$|To track the changes|\s+git add |To enable auto staging|\s+dvc config core.autostage"
    r"|Use `dvc push`|(Updating|Generating) lock file"
)
ASIDE = re.compile(r"\s|.*Warning: ")  # a package's warning and the code below it: not how far a stage is


class Durations:
    """Seconds that stages take: as measured here, else the mean of others of their family at the same scale.

    Else as dvc.yaml says, ``meta: {seconds: {embedded: 60}}``, by profile or set, or ``meta: {seconds: 60}``.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        try:
            measured = json.loads(SECONDS.read_text())
            self.measured = {name: float(seconds) for name, seconds in measured.items() if seconds >= 0}
        except (OSError, ValueError, AttributeError, TypeError):  # a guide only: begin anew
            self.measured = {}

    def of(self, name: str) -> float | None:
        """Seconds, or None where nothing is known."""
        if name in self.measured:
            return self.measured[name]
        mine = family(name), scale(name)
        alike = [seconds for other, seconds in self.measured.items() if (family(other), scale(other)) == mine]
        if alike:
            return mean(alike)
        said = self.graph.meta(name, "seconds")
        return said.get(scale(name)) if isinstance(said, dict) else said

    def add(self, name: str, seconds: float) -> None:
        """Remember what a stage took."""
        self.measured[name] = round(seconds, 1)
        with replacing(SECONDS, "w") as file:
            json.dump(self.measured, file, indent=0, sort_keys=True)

    def left(self, names: set[str], jobs: int) -> str:
        """``about 3 min``: the longest way through these stages, or their sum over the jobs if more."""
        known = {name: self.of(name) for name in names}
        if None in known.values() and not any(known.values()):
            return "how long is not known yet"
        seconds = {name: value or 0 for name, value in known.items()}
        alone = sum(value for name, value in seconds.items() if self.graph.meta(name, "alone"))
        at_once = (sum(seconds.values()) - alone) / jobs
        ways = self.ways(names)
        longest = max((ways[name] for name in names), default=0)
        return f"{'at least' if None in known.values() else 'about'} {clock(max(at_once + alone, longest))}"

    def ways(self, names: set[str]) -> dict[str, float]:
        """For each stage the seconds from its start to the end of the longest chain that begins with it."""

        @cache
        def way(name: str) -> float:
            return (self.of(name) or 0) + max(
                (way(next_) for next_ in self.graph.feeds[name] & names), default=0
            )

        return {name: way(name) for name in names}


def scale(name: str) -> str:
    """The profile or set of a stage: ``tiny`` of ``train@tiny-mask_rcnn-0``; nothing where it has none."""
    return name.partition("@")[2].partition("-")[0]


def clock(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class End(NamedTuple):
    """How a stage ended: well or not, its command ran or DVC knew the result, after which time."""

    fine: bool
    ran: bool
    seconds: float


class Stages:
    """Stages under way, each a dvc of its own; as a context it ends them in order when it is left early.

    Args:
        verbose: print all that they print, as it comes.
    """

    def __init__(self, verbose: bool):
        self.verbose = verbose
        self.processes: dict[str, subprocess.Popen | None] = {}  # None while it is being started
        self.last: dict[str, str] = {}  # the last line of each that runs, but for asides
        self.stopping = False
        self.gpus = dict.fromkeys(visible_gpus(), 0)  # how many stages see each
        self.lock = threading.Lock()

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None:
            self.stop()
        if kind is KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; the same command goes on from there") from None

    def run(self, name: str, ranks: int | None) -> End:
        """Run one stage to its end.

        Args:
            ranks: how many GPUs it takes, where there are several to give out; None: whatever there is.
        """
        self.processes[name] = None
        try:
            return End(False, False, 0) if self.stopping else self._run(name, ranks)
        finally:
            del self.processes[name]
            self.last.pop(name, None)

    def _run(self, name: str, ranks: int | None) -> End:
        begin, ran, lines = time.monotonic(), False, deque(maxlen=200)
        with self._environment(ranks) as environment:
            parent = os.getpid()
            process = subprocess.Popen(
                [*DVC, name],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,  # a Ctrl-C must not reach dvc while it writes dvc.lock: see `stop`
                preexec_fn=lambda: die_with_parent(parent),
            )
            self.processes[name] = process
            for line in map(str.rstrip, process.stdout):
                if ADVICE.match(line):
                    continue
                ran |= line.startswith("Running stage ")
                lines.append(line)
                if not ASIDE.match(line):
                    self.last[name] = line
                if self.verbose:
                    say(f"{name}: {line}")
            fine = process.wait() == 0
        if not (fine or self.verbose or self.stopping):
            for line in failure(lines, process.returncode):
                say(f"{name}: {line}")
        return End(fine, ran, time.monotonic() - begin)

    @contextmanager
    def _environment(self, ranks: int | None) -> Iterator[dict[str, str] | None]:
        """The environment of a stage, in which it sees the GPUs that fewest others see."""
        if not ranks or ranks > len(self.gpus):
            yield None
            return
        with self.lock:
            mine = sorted(self.gpus, key=self.gpus.get)[:ranks]
            for gpu in mine:
                self.gpus[gpu] += 1
        try:
            yield os.environ | dict(CUDA_VISIBLE_DEVICES=",".join(mine))
        finally:
            with self.lock:
                for gpu in mine:
                    self.gpus[gpu] -= 1

    def wait(self, running: Collection[Future]) -> set[Future]:
        """Wait until one has ended; now and then say what the others print."""
        while not (ended := wait(running, HEARTBEAT, FIRST_COMPLETED).done):
            for name, line in [] if self.verbose else sorted(self.last.items()):
                say(f"  ... {name}: {line}")
        return ended

    def stop(self) -> None:
        """End what runs: the commands, not dvc, which may be writing dvc.lock and ends when they have."""
        self.stopping = True
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        begin = time.monotonic()
        while self.processes:
            for process in filter(None, list(self.processes.values())):
                with suppress(psutil.Error):
                    for child in psutil.Process(process.pid).children(recursive=True):
                        with suppress(psutil.Error):
                            child.terminate() if time.monotonic() < begin + PATIENCE else child.kill()
            time.sleep(0.2)
        for number, handler in before.items():
            signal.signal(number, handler)


def failure(lines: Sequence[str], status: int) -> list[str]:
    """What to show of what a failed stage has printed: our own line if there is one, else its last lines."""
    ours = [line for line in lines if line.startswith("error: ")]
    others = [line for line in lines if not line.startswith(("Running stage ", "> "))][-20:]
    return ours or others or [f"ended with status {status} and without a word"]


def visible_gpus() -> list[str]:
    """The GPUs to give out, if there are several."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus = [gpu for gpu in visible.split(",") if gpu not in ("", "-1")]
    else:
        try:
            listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
        except OSError:
            listed = ""
        gpus = re.findall(r"^GPU (\d+):", listed, re.MULTILINE)
    return gpus if len(gpus) > 1 else []


def default_jobs() -> int:
    """As many stages as there are GPUs, if several; else as cores allow, given the `threads` of a stage.

    Raises:
        UserError: params.yaml asks for no whole number of threads.
    """
    if gpus := visible_gpus():
        return len(gpus)
    path = Path("params.yaml")
    params = YAML(typ="safe", pure=True).load(path) if path.exists() else {}
    threads = 1
    for profile in params.get("profiles", []):
        section = resolved(params, profile) if profile in params else None
        wanted = section.get("threads", 1) if isinstance(section, dict) else 1
        if type(wanted) is not int or wanted < 1:
            raise UserError(f"params.yaml: {profile}.threads is {wanted!r}; it must be a whole number from 1")
        threads = max(threads, wanted)
    return max(1, len(os.sched_getaffinity(0)) // threads)


def run(
    graph: Graph, wanted: Sequence[Collection[str]], jobs: int, verbose: bool = False, here: bool = False
) -> None:
    """Bring stages up to date, each as soon as what it needs is.

    Args:
        wanted: what to bring up to date, what is to come first before the rest.
        here: make, too, what has run elsewhere.

    Raises:
        UserError: a stage failed, or makes other bytes than elsewhere; what had begun has come to its end.
    """
    durations, begin = Durations(graph), time.monotonic()
    every = set().union(*wanted)
    turn = {name: number for number, names in reversed([*enumerate(wanted)]) for name in names}
    changed = graph.changed(every, here)
    waiting = graph.downstream(changed) & every
    if not waiting:
        say(f"nothing to do: {count(len(every))} up to date{elsewhere(graph, every)}")
        return
    sure, more = set(changed), changed
    while more := set().union(*map(graph.lacks, more)) & every - sure:
        sure |= more
    say(f"{count(len(sure))} of {len(every)} to run, {durations.left(sure, jobs)}, {jobs} at a time")
    if followers := waiting - sure:
        say(f"{count(len(followers))} after that if their inputs change, {durations.left(followers, jobs)}")
    order, ranks = durations.ways(waiting | sure), ranks_of(graph, every)
    checked = {name for name in waiting if not graph.needs[name] & waiting}
    again: set[str] = set()  # what has run elsewhere, and is made here for what reads it
    stages, running, failed, ran = Stages(verbose), {}, [], set()

    def ready() -> list[str]:
        """What waits for nothing, in order; what turns out to have the inputs that it had waits no more."""
        while True:
            busy = waiting | set(running.values())
            free = {name for name in waiting if not graph.needs[name] & busy}
            doubtful = free - checked
            checked.update(doubtful)
            same = doubtful - graph.changed(doubtful, here)
            waiting.difference_update(same)
            lacking = set().union(*map(graph.lacks, free - same)) & every
            waiting.update(lacking)
            checked.update(lacking)
            again.update(lacking)
            if not same and not lacking:
                return sorted(free, key=lambda name: (turn[name], -order.get(name, 0), name))

    with ThreadPoolExecutor(jobs) as pool, stages:
        while True:
            busy = list(running.values())
            for name in [] if failed else startable(ready(), busy, jobs, ranks):
                waiting.remove(name)
                running[pool.submit(stages.run, name, ranks[name])] = name
            if not running:
                break
            for future in stages.wait(running):
                name, end = running.pop(future), future.result()
                for line in mend():
                    say(line)
                if end.ran and end.fine:
                    durations.add(name, end.seconds)
                    ran.add(name)
                if end.fine and name in again and graph.undo_if_other(name):
                    for line in OTHER.format(name=name).splitlines():
                        say(line)
                    end = end._replace(fine=False)
                if not end.fine:
                    failed.append(name)
                ready()
                rest = waiting | set(running.values())
                left = f"{len(rest)} left, {durations.left(rest, jobs)}" if rest else ""
                how = "failed" if not end.fine else clock(end.seconds) if end.ran else "from the cache"
                say(f"  {name:<44} {how:>14}   {left}".rstrip())
    if failed:
        raise UserError(f"{' and '.join(failed)} failed, see above; the same command goes on from there")
    spared = len(followers - ran)
    same = f"; {count(spared)} had the same inputs as before" if spared else ""
    rest = elsewhere(graph, every - ran)
    say(f"done: {count(len(ran))} ran in {clock(time.monotonic() - begin)}{same}{rest}")


def ranks_of(graph: Graph, names: Collection[str]) -> dict[str, int | None]:
    """How many processes each stage starts here; None: it is to be alone; 0: elsewhere, where Slurm says.

    Those that may run under a launcher have ``meta: {ranks: true}``.
    """
    launched = cache(lambda profile: processes(launcher(profile)))

    def ranks(name: str) -> int | None:
        if graph.meta(name, "alone"):
            return None
        return launched(name.partition("@")[2].partition("-")[0]) if graph.meta(name, "ranks") else 1

    return {name: ranks(name) for name in names}


def startable(
    ready: Sequence[str], running: Sequence[str], jobs: int, ranks: dict[str, int | None]
) -> list[str]:
    """Which of the ready stages to start now: the first of them, and last those to be alone."""
    if any(ranks[name] is None for name in running):
        return []
    social = [name for name in ready if ranks[name] is not None]
    size = {name: min(max(ranks[name], 1), jobs) for name in [*running, *social]}
    room, chosen = jobs - sum(size[name] for name in running), []
    for name in social:
        if size[name] > room:  # smaller ones that overtook it might keep it waiting for ever
            break
        room -= size[name]
        chosen.append(name)
    return chosen or ([] if running or social else list(ready[:1]))


def elsewhere(graph: Graph, names: Collection[str]) -> str:
    """How many of stages that are done have run elsewhere, in words."""
    away = [state for state in graph.states(names).values() if state == "away"]
    return f"; of {count(len(away))} the outputs are elsewhere (--here makes them here, too)" if away else ""


def count(stages: int) -> str:
    """``1 stage``, ``2 stages``."""
    return f"{stages} stage{'' if stages == 1 else 's'}"


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    what, _, more = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog="fasa run", description=what.partition(": ")[2], epilog=more)
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="stages, such as 'train@*-0' (default: all)"
    )
    parser.add_argument(
        "-j", "--jobs", type=int, help="at the same time (default: as many as cores or GPUs allow)"
    )
    parser.add_argument("--only", action="store_true", help="not what these stages need")
    parser.add_argument(
        "--here", action="store_true", help="also what has run elsewhere, and whose outputs are not here"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print what stages print")
    parser.add_argument("--dry", action="store_true", help="only name the stages that are not up to date")
    arguments = parser.parse_args(argv)
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: must be at least 1")
    os.chdir(root())
    for line in mend():
        say(line)
    graph = Graph()
    named = [graph.match([pattern]) for pattern in arguments.patterns] or [graph.match([])]
    wanted = named if arguments.only else [graph.upstream(names) for names in named]
    if arguments.dry:
        every = set().union(*wanted)
        waiting = graph.downstream(graph.changed(every, arguments.here)) & every
        print(*[name for name in graph.stages if name in waiting], sep="\n", end="\n" if waiting else "")
        return 0
    graph.open_folders(set().union(*wanted))
    run(graph, wanted, arguments.jobs or default_jobs(), arguments.verbose, arguments.here)
    return 0
