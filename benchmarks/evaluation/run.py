"""Times LVIS evaluators on the same files, and checks that they agree.

    python benchmarks/evaluation/run.py --images 2000
    python benchmarks/evaluation/run.py --full
    python benchmarks/evaluation/run.py --write

Every contender is a process of its own, timed from its start, imports included, to its end; its memory is its
peak resident set. They take turns, `--rounds` times; medians count; those that take a minute run in the first
round alone. Prints a Markdown table and whether the aims were met, and exits with status 1 if one of ours
failed or an AP differs. `--write` does both sizes and puts what it found into README.md.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build/benchmarks/evaluation"
SOURCES = [HERE / name for name in ("generate.py", "world.py", "shapes.py")]
FILES = ("gt.json", "bbox.json", "segm.json")
SOME, FULL = 2000, 19_809  # images: what is quickly done, and LVIS v1 val
README, MARKS = HERE / "README.md", ("<!-- measured -->\n", "<!-- end -->\n")
BASELINES = ("lvis", "hotcoco")  # what ratios are against: the first that ran
OTHERS = {
    "lvis": "lvis-api AP_Old",
    "lvis-fixed": "lvis-api AP_Fixed",
    "hotcoco": "hotcoco AP_Old",
    "faster-coco-eval": "faster-coco-eval AP_Old",
    "tidecv": "tidecv",
}
OURS = {
    "fasa AP_Old": ["--protocol", "old"],
    "fasa AP_Old by NumPy": ["--protocol", "old"],
    "fasa Old + Fixed + Pool": ["--protocol", "old", "fixed", "pool"],
    "fasa Old + Fixed + Pool + TIDE": ["--protocol", "old", "fixed", "pool", "--tide"],
    "fasa TIDE as tidecv": ["--protocol", "old", "--tide", "stock"],
}
COMPARED = {
    "old": None,
    "fixed": None,
    "tide": {"tidecv", "fasa TIDE as tidecv"},
}  # None: whoever measures it
SLOW = ["lvis", "lvis-fixed", "faster-coco-eval", "tidecv", "fasa AP_Old by NumPy"]  # one round; none in full
TOLERANCE = 1e-9  # of an AP in percent


class Outcome(NamedTuple):
    """What one process did."""

    seconds: float
    gib: float  # peak resident set
    numbers: dict  # by protocol: {"old": {"AP": ...}, "tide": {...}}
    failure: str = ""  # one line
    processor: float = 0.0  # seconds on all cores: what a busy machine disturbs less


def main() -> int:
    """Reads the command line, runs the contenders, and prints or writes what was found."""
    args = _arguments()
    sizes = {SOME: [], FULL: SLOW} if args.write else {args.images: args.skip}
    blocks, fine = [machine()], True
    for n_images, skip in sizes.items():
        outcomes = measure(prepare(n_images), args.iou, args.rounds, skip)
        lines, agree = agreement(outcomes)
        fine &= agree
        title = f"**{n_images:,} images.** Medians of {args.rounds}, of those that take long one run."
        blocks += [f"{title} Ratios are against {base_of(outcomes)}.", table(outcomes)]
        blocks += ["\n".join(aims(outcomes)), "\n".join(lines)]
    found = "\n\n".join(filter(None, blocks)) + "\n"
    print(found)
    if args.write:
        before, _, rest = README.read_text().partition(MARKS[0])
        README.write_text(before + MARKS[0] + found + MARKS[1] + rest.partition(MARKS[1])[2])
    return 0 if fine else 1


def measure(folder: Path, kinds: list[str], n_rounds: int, skip: list[str]) -> dict[tuple[str, str], Outcome]:
    """What each contender did, by "bbox" or "segm" and its name."""
    rounds = defaultdict(list)
    for turn in range(n_rounds):
        for iou_type in kinds:
            for name, command in commands(folder, iou_type, [*skip, *SLOW] if turn else skip).items():
                print(f"{turn + 1}, {iou_type}: {name} ...", file=sys.stderr, flush=True)
                rounds[iou_type, name].append(run(command, iou_type, name))
    return {which: middle(several) for which, several in rounds.items()}


def prepare(n_images: int) -> Path:
    """Generates the files, unless they are there and newer than the generator."""
    folder = BUILD / str(n_images)
    files = [folder / name for name in FILES]
    newest = max(source.stat().st_mtime for source in SOURCES)
    if not all(file.is_file() and file.stat().st_mtime > newest for file in files):
        print(f"generating {folder} ...", file=sys.stderr, flush=True)
        command = [sys.executable, str(SOURCES[0]), "--images", str(n_images), "--out", str(folder)]
        subprocess.run(command, check=True)
    subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)  # none reads from a cold disk
    return folder


def commands(folder: Path, iou_type: str, skip: list[str]) -> dict[str, list[str]]:
    """The command of each contender, which takes one more argument: the file to write its numbers to."""
    gt, dt = str(folder / "gt.json"), str(folder / f"{iou_type}.json")
    others = {
        name: [str(HERE / "contenders.py"), name, gt, dt, iou_type] for name in OTHERS if name not in skip
    }
    fasa = ["-m", "fasa.evaluation", "--gt", gt, "--dt", dt, "--iou", iou_type]
    ours = {name: [*fasa, *options, "--out"] for name, options in OURS.items() if name not in skip}
    return {name: [sys.executable, *command] for name, command in (others | ours).items()}


def middle(outcomes: list[Outcome]) -> Outcome:
    """The medians of several runs of one contender; the failure if one failed."""
    failed = [outcome for outcome in outcomes if outcome.failure]
    seconds, gib, processor = (
        median(each) for each in zip(*((o[0], o[1], o.processor) for o in outcomes), strict=True)
    )
    return failed[0] if failed else Outcome(seconds, gib, outcomes[-1].numbers, processor=processor)


def aims(outcomes: dict[tuple[str, str], Outcome]) -> list[str]:
    """Whether ours is as fast and small as the fastest peer: AP_Old, and all together within 1.3 times."""
    lines = []
    for iou_type in dict.fromkeys(iou_type for iou_type, _ in outcomes):
        peer = outcomes.get((iou_type, "hotcoco"))
        for name, most in (("fasa AP_Old", 1.0), ("fasa Old + Fixed + Pool + TIDE", 1.3)):
            ours = outcomes.get((iou_type, name))
            if not peer or not ours or peer.failure or ours.failure:
                continue
            for what, ratio, limit in (
                ("time", ours.seconds / peer.seconds, most),
                ("processor time", ours.processor / (peer.processor or math.nan), most),
                ("memory", ours.gib / peer.gib, 1.0),
            ):
                met = "met" if ratio <= limit else "**missed**"
                lines.append(f"- {iou_type}, {name}: {ratio:.2f} of hotcoco's {what}, aim {limit}: {met}")
    return lines


def run(command: list[str], iou_type: str, name: str = "") -> Outcome:
    """Runs one contender."""
    environment = os.environ | ({"FASA_CORE": "off"} if name.endswith("by NumPy") else {})
    with tempfile.TemporaryDirectory() as scratch, open(Path(scratch, "log"), "w+") as log:
        out = Path(scratch, "numbers.json")
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, str(out)], stdout=log, stderr=log, cwd=HERE.parents[1], env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)  # unlike `wait`, tells the memory of this one child
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        measured = seconds, usage.ru_maxrss / 2**20
        if process.returncode == 0 and out.is_file():
            found = json.loads(out.read_text(), parse_constant=lambda _: None)  # NaN: not measured
            processor = usage.ru_utime + usage.ru_stime
            return Outcome(*measured, found[iou_type], processor=processor)
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
        signal = f"killed by signal {-process.returncode}" if process.returncode < 0 else ""
        return Outcome(*measured, {}, signal or (said or ["it said nothing"])[-1][:160])


def _base(outcomes: dict[tuple[str, str], Outcome]) -> str | None:
    return next((name for name in BASELINES if any(name == other for _, other in outcomes)), None)


def base_of(outcomes: dict[tuple[str, str], Outcome]) -> str:
    """What ratios are against, in words."""
    return OTHERS.get(_base(outcomes), "nothing")


def table(outcomes: dict[tuple[str, str], Outcome]) -> str:
    """All outcomes in Markdown."""
    rows = [
        "| | contender | wall | faster | processor | peak memory | memory | AP, or dAP of TIDE |",
        "|" + "---|" * 8,
    ]
    for (iou_type, name), outcome in outcomes.items():
        base = outcomes.get((iou_type, _base(outcomes)))
        ratios = ["", ""]
        if base and not base.failure and not outcome.failure:
            ratios = [f"{base.seconds / outcome.seconds:.1f}x", f"{outcome.gib / base.gib:.2f}x"]
        cells = [
            iou_type,
            OTHERS.get(name, name),
            f"{outcome.seconds:.1f} s",
            ratios[0],
            f"{outcome.processor:.1f} s",
            f"{outcome.gib:.2f} GiB",
            ratios[1],
            f"**failed**: {outcome.failure}" if outcome.failure else numbers(outcome),
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def numbers(outcome: Outcome) -> str:
    """What a contender found, in short."""
    short = [f"{name.title()} {found['AP']:.4f}" for name, found in outcome.numbers.items() if name != "tide"]
    tide = outcome.numbers.get("tide", {}).items()
    tide = " ".join(f"{name} {value:.2f}" for name, value in tide if value is not None)
    return ", ".join(short + [tide] * bool(tide))


def agreement(outcomes: dict[tuple[str, str], Outcome]) -> tuple[list[str], bool]:
    """Compares what more than one contender measured with the first one's: (lines, all is well)."""
    lines, fine = [], not any(outcome.failure for (_, name), outcome in outcomes.items() if name in OURS)
    for iou_type in dict.fromkeys(iou_type for iou_type, _ in outcomes):
        for protocol, names in COMPARED.items():
            found = {
                OTHERS.get(name, name): outcome.numbers[protocol]
                for (kind, name), outcome in outcomes.items()
                if kind == iou_type and protocol in outcome.numbers and (names is None or name in names)
            }
            reference, *others = found or [None]
            worst, agreeing = 0.0, []
            for name in others:
                a, b = found[reference], found[name]
                difference = max(_difference(a[key], b[key]) for key in a.keys() & b.keys())
                if difference <= TOLERANCE:
                    worst = max(worst, difference)
                    agreeing.append(name)
                    continue
                fine = False
                key = next(iter(a.keys() & b.keys() & {"AP", "Cls"}))
                lines.append(
                    f"- {iou_type}, {protocol}: {key} {a[key]:.10f} by {reference}, {b[key]:.10f} by {name}; "
                    f"**DIFFER**, by {difference:.1e} at most in any metric"
                )
            if agreeing:
                same = f"{', '.join(agreeing)} equal {reference} to {worst:.0e} in every metric"
                lines.append(f"- {iou_type}, {protocol}: {same}")
    return lines or ["- nothing was compared"], fine


def _difference(a: float | None, b: float | None) -> float:
    """Between two metrics; infinite if one alone could be measured."""
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    return abs(a - b)


def machine() -> str:
    """The machine and the versions, in one line."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(
        map(_version, ("numpy", "pycocotools", "lvis", "hotcoco", "faster-coco-eval", "tidecv"))
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()
    python = platform.python_version()
    return f"{cpu}, {cores} cores, {memory:.0f} GiB; Python {python}, {packages}, fasa {commit}."


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=SOME)
    parser.add_argument("--write", action="store_true", help=f"{SOME:,} and {FULL:,} images, into README.md")
    parser.add_argument("--iou", nargs="+", choices=["bbox", "segm"], default=["bbox", "segm"])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender (default: 3)")
    parser.add_argument(
        "--skip", nargs="*", choices=[*OTHERS, *OURS], help="evaluators to leave out (default: none)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"{FULL:,} images, without those that would need over 20 GiB or many minutes",
    )
    args = parser.parse_args()
    if args.full:
        args.images = FULL
    if args.skip is None:
        args.skip = SLOW if args.full else []
    return args


if __name__ == "__main__":
    sys.exit(main())
