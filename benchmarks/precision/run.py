"""Times training in bfloat16 against float32, of a detector and of a classifier, on this machine.

    python -m benchmarks.precision.run --out build/precision.md

Prints a Markdown table. The detector is a profile's, whose data must be there:
`fasa run --here data@embedded`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace

from benchmarks.augmenters.run import machine, spread, timed
from fasa.classification.job import Row, Schedule
from fasa.classification.learner import Learner
from fasa.detection.cost import measure
from fasa.params import Params, read_params
from fasa.rows import compose

PRECISIONS = "float32", "bfloat16"
ROUNDS = 3  # of the detector, in turns: each in a process of its own
UNTIMED = 3  # steps of the classifier, while things warm up
BATCH = 128  # of CIFAR's images


def detector(params: Params, profile: str, row: str, iterations: int) -> dict[str, list[float]]:
    """Milliseconds of a training iteration from random weights, a mean of each round."""
    found = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS):
        for precision in PRECISIONS:
            section = replace(params.sections[profile], precision=precision, pretrain=None)
            job = compose(
                replace(params, sections=params.sections | {profile: section}), profile, row, seed=0
            )
            with tempfile.TemporaryDirectory() as work:
                (cost,) = measure(job, iterations, None, Path(work)).values()
            found[precision].append(1000 * cost["seconds"])
    return found


def classifier(steps: int, threads: int) -> dict[str, list[float]]:
    """Milliseconds of a step of a ResNet-32 on a batch like CIFAR-100's; both precisions take turns."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(100, (BATCH,), generator=generator)
    learners = {
        precision: Learner(torch.full((100,), 5), 3, Schedule(epochs=1), Row(), 0, precision == "bfloat16")
        for precision in PRECISIONS
    }
    found = {precision: [] for precision in PRECISIONS}
    for _ in range(UNTIMED + steps):
        for precision, learner in learners.items():
            found[precision].append(timed(learner.step, x, labels, 0.0)[0])
    return {precision: times[UNTIMED:] for precision, times in found.items()}


def line(name: str, found: dict[str, list[float]]) -> str:
    """A line of the table; "faster" is the ratio of medians."""
    exact, coarse = (found[precision] for precision in PRECISIONS)
    return f"| {name} | {spread(exact)} | {spread(coarse)} | {np.median(exact) / np.median(coarse):.2f} |"


def main(arguments: list[str] | None = None) -> int:
    """Time both, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="embedded", help="(default: embedded)")
    parser.add_argument("--row", default="mask_rcnn_rfs_fasa", help="(default: mask_rcnn_rfs_fasa)")
    parser.add_argument("--iterations", type=int, default=30, help="of each round (default: 30)")
    parser.add_argument("--steps", type=int, default=40, help="of the classifier (default: 40)")
    parser.add_argument("--out", type=Path, help="a file to write the Markdown to")
    asked = parser.parse_args(arguments)
    params = read_params("params.yaml")
    threads = params.sections[asked.profile].threads
    can = torch.cpu.get_capabilities()
    abilities = ", ".join(
        f"{flag} {'yes' if can.get(flag) else 'no'}" for flag in ("avx512_bf16", "amx_bf16")
    )
    text = "\n".join(
        [
            f"{machine(threads)} {abilities}.",
            "",
            "| ms | float32 | bfloat16 | faster |",
            "|---|---|---|---|",
            line(
                f"an iteration of `{asked.row}`, `{asked.profile}`",
                detector(params, asked.profile, asked.row, asked.iterations),
            ),
            line(f"a step of ResNet-32 on {BATCH} images", classifier(asked.steps, threads)),
        ]
    )
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
