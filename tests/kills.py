"""Kill a pipeline again and again: it must come to the same results, to the bit, and leave no process behind.

    python tests/kills.py --kills 20 --without 'cost@*' 'report@*' -- python -m fasa run
    python tests/kills.py --prepare "sed -i 's/- embedded/- tiny/' params.yaml" -- python -m fasa run

Two copies of this checkout, work in progress included, run the command: one undisturbed, the other until the
last of so many kills and then to its end. Compared is what dvc.lock says of all stages but those with times.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
import yaml

PATIENCE = 20  # seconds for all processes to end after the command has
SIGNALS = ["SIGKILL"] * 4 + ["SIGTERM", "SIGINT"]
KINDS = {  # words of a command line, the first that fits
    "kernel": "fasa.pipeline.kernel",
    "runner": "fasa.pipeline.run",
    "worker": "multiprocessing",
    "dvc": "dvc",
    "side_by_side": "fasa run",
}


class Run:
    """The command in a folder, and all processes that it ever had."""

    def __init__(self, command: Sequence[str], folder: Path, env: dict[str, str]):
        self.output = folder.with_name(f"{folder.name}.output")
        with open(self.output, "a") as output:
            self.process = psutil.Popen(
                command,
                cwd=folder,
                env=env,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's & ignores it
            )
        self.seen: dict[psutil.Process, str] = {}

    def look(self) -> dict[psutil.Process, str]:
        """The kind of each process that runs now."""
        running = {}
        try:
            for each in [self.process, *self.process.children(recursive=True)]:
                try:
                    words = " ".join(each.cmdline())
                    self.seen[each] = words
                    kind = next((kind for kind, word in KINDS.items() if word in words), None)
                    if kind and not words.startswith(("/bin/sh", "/bin/bash", "sh ")):
                        running[each] = kind
                except psutil.Error:
                    pass
        except psutil.Error:
            pass
        return running

    def end(self, patience: float) -> int:
        """Wait for the command to end, then for what it has started; the exit status.

        Raises:
            AssertionError: a process lives on.
        """
        while self.process.poll() is None:
            self.look()
            time.sleep(0.1)
        _, alive = psutil.wait_procs(self.seen, timeout=patience)
        orphans = [self.seen[each] for each in alive if each.status() != psutil.STATUS_ZOMBIE]
        assert not orphans, f"{len(orphans)} processes live on: {orphans}"
        return self.process.returncode


def kill(run: Run, after: float, luck: random.Random) -> str | None:
    """Wait, then send a signal to one of the processes; what was sent to which, None if they had ended."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        run.look()
        time.sleep(0.1)
    running = run.look()
    if not running:
        return None
    kind = luck.choice(sorted(set(running.values())))
    victim = luck.choice([each for each, its in running.items() if its == kind])
    name = luck.choice(SIGNALS)
    try:
        stage = victim.environ().get("DVC_STAGE", "")
        victim.send_signal(getattr(signal, name))
    except psutil.Error:
        return None
    return f"{name} to {kind} {stage}".strip()


def results(folder: Path, without: Sequence[str]) -> dict[str, dict]:
    """What every dvc.lock says of its stages."""
    return {
        f"{file.relative_to(folder)}:{name}": stage
        for file in [*folder.glob("dvc.lock"), *folder.glob("[!.]*/dvc.lock")]
        for name, stage in yaml.safe_load(file.read_text())["stages"].items()
        if not any(fnmatchcase(name, pattern) for pattern in without)
    }


def campaign(
    undisturbed: Path,
    disturbed: Path,
    command: Sequence[str],
    kills: int,
    seed: int,
    without: Sequence[str] = (),
    pause: float | None = None,
) -> Iterator[str]:
    """Run the command in both folders, and kill it in the second; yield a line for each kill.

    Args:
        without: patterns of stages that are not compared.
        pause: mean seconds before a kill; by default such that the way to the end takes all kills.

    Raises:
        AssertionError: the results differ, a process lives on, or the last run fails.
    """
    luck = random.Random(seed)

    def start(folder: Path) -> Run:
        return Run(command, folder, os.environ | dict(DVC_SITE_CACHE_DIR=f"{folder}.site"))

    def finish(folder: Path) -> dict[str, dict]:
        run = start(folder)
        assert run.end(PATIENCE) == 0, run.output.read_text()[-2000:]
        return results(folder, without)

    begin = time.monotonic()
    expected = finish(undisturbed)
    assert expected
    pause = pause or 2 + (time.monotonic() - begin) / kills
    done = 0
    while done < kills:
        run = start(disturbed)
        while done < kills and run.process.poll() is None:
            if sent := kill(run, luck.uniform(0, 2 * pause), luck):
                done += 1
                yield f"{done:3} {sent}"
        if run.end(PATIENCE) == 0:  # it came to its end: again from the start
            (disturbed / "dvc.lock").unlink()
            shutil.rmtree(disturbed / ".dvc" / "cache")
    found = finish(disturbed)
    different = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    assert not different, f"other results after {kills} kills: {sorted(different)}"
    yield f"{len(found)} stages: the same bytes after {kills} kills, no process left"


def copy(source: Path, target: Path, prepare: str) -> Path:
    """A repository with the files of a checkout that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    me = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (prepare, "git init -q", "git add .", f"{' '.join(me)} commit -qm copy"):
        subprocess.run(command, shell=True, cwd=target, check=True)
    return target


def main() -> None:
    """Run a campaign on copies of the checkout that this file lies in."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, help="mean seconds before a kill")
    parser.add_argument("--prepare", default="true", help="a shell command for each copy before it runs")
    parser.add_argument("--without", nargs="*", default=[], help="stages whose results hold timings")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        copies = [
            copy(Path(__file__).parents[1], Path(folder, name), arguments.prepare)
            for name in ("calm", "stormy")
        ]
        how = (arguments.command, arguments.kills, arguments.seed, arguments.without, arguments.pause)
        for line in campaign(*copies, *how):
            print(line, flush=True)


if __name__ == "__main__":
    main()
