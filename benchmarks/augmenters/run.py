"""Times one step of every method against its obvious loop, and checks that they agree.

    python -m benchmarks.augmenters.run --out build/augmenters.md

Prints a Markdown table and FASA's share of a training iteration; exits with status 1 if a method and its loop
differ. P positives, N = 4 P RoIs, K classes, D the width of an embedding.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.augmenters import loops
from fasa.augmenter import Augmenter, Virtual, virtual_loss

MAP = 256, 7, 7  # of a RoI, as in Mask R-CNN
CHECKED = 2  # steps
TOLERANCE = 1e-5  # relative to the largest value; in float64, but ours takes its momentum 0.1 in float32
AIMS = 30, 0.01  # FASA's step: times as fast as its loop, share of an iteration
UNTIMED = 5  # iterations, while things warm up


class Contender(NamedTuple):
    """A loop, our method being its base, and the arguments of both."""

    loop: type[Augmenter]
    options: dict = {}
    filling: int = 10  # steps that fill the state, banks above all
    share: float = 1.0  # of the repeats
    distinct: bool = False  # whether every positive is of another class

    @property
    def ours(self) -> type[Augmenter]:
        """The method."""
        return next(kind for kind in self.loop.mro() if kind.__module__ != loops.__name__)

    def new(self, kind: type[Augmenter], sizes: argparse.Namespace) -> Augmenter:
        """Method or loop, for classes of which a third has 100 instances or more."""
        augmenter = kind(sizes.classes, sizes.width, warmup=self.filling, **self.options)
        augmenter.initialise((100 * (sizes.classes // 3) / torch.arange(1, sizes.classes + 1)).ceil().long())
        return augmenter


SCALE = dict(prob_scale=16)  # as in params.yaml
CONTENDERS = {
    "FASA": Contender(loops.FASALoop, SCALE),
    "FASA, every positive of another class": Contender(loops.FASALoop, SCALE, distinct=True),
    "SMOTE": Contender(loops.SMOTELoop),
    "MoEx": Contender(loops.MoExLoop),
    "MoEx at map": Contender(loops.MoExLoop, dict(at="map")),
    "AngularTransfer": Contender(loops.AngularTransferLoop),
    "CAMMixing": Contender(loops.CAMMixingLoop, dict(map_shape=MAP), filling=2, share=0.2),
    "FeatureTransfer": Contender(loops.FeatureTransferLoop),
}


class Batch(NamedTuple):
    """RoIs, the foreground ones first."""

    z: Tensor  # (N, D)
    labels: Tensor  # (N,)
    scores: Tensor  # (N, K + 1), the classifier's
    maps: Tensor | None  # (P, C, H, W)
    positives: int  # P


class Head(nn.Module):
    """Two shared FCs and `fc_cls`."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        fcs = nn.Linear(int(np.prod(MAP)), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        self.shared, self.fc_cls = nn.Sequential(nn.Flatten(), *fcs), nn.Linear(width, classes + 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.fc_cls(self.shared(maps))


def draw(
    sizes: argparse.Namespace, seed: int, maps: bool, dtype: torch.dtype, distinct: bool = False
) -> Batch:
    """Objects of classes from a Zipf tail, one to eight proposals of each; three quarters are background.

    Args:
        distinct: every positive is of another class instead, as far as there are classes.
    """
    generator = torch.Generator().manual_seed(seed)
    zipf = 1 / torch.arange(1, sizes.classes + 1)
    objects = zipf.multinomial(sizes.positives, replacement=True, generator=generator)
    proposals = torch.randint(1, 9, objects.shape, generator=generator)
    labels = objects.repeat_interleave(proposals)[: sizes.positives]
    if distinct:
        labels = torch.randperm(sizes.classes, generator=generator)[: sizes.positives]
    return _batch(sizes, F.pad(labels, (0, 3 * len(labels)), value=sizes.classes), generator, maps, dtype)


def _batch(sizes: argparse.Namespace, labels: Tensor, generator, maps: bool, dtype: torch.dtype) -> Batch:
    positives = int((labels < sizes.classes).sum())
    z = torch.randn(len(labels), sizes.width, generator=generator) + torch.sin(labels * 1.7)[:, None]
    scores = torch.randn(len(labels), sizes.classes + 1, generator=generator).to(dtype)
    maps = torch.randn(positives, *MAP, generator=generator).relu().to(dtype) if maps else None
    z = z.abs().to(dtype).requires_grad_()  # not negative, as after a ReLU, and without zeros: those tie
    return Batch(z, labels, scores, maps, positives)


def step(augmenter: Augmenter, head: Head, batch: Batch) -> tuple[list[Tensor], Virtual]:
    """What a trainer asks of a method, but for the scores of its virtual samples: (all it returns, these)."""
    encoded = augmenter.encode(batch.z)
    scores = augmenter.logits(batch.scores, encoded, head.fc_cls.weight, batch.labels)
    losses = augmenter.losses(batch.z, batch.labels, scores)
    virtual = augmenter(batch.z[: batch.positives], batch.labels[: batch.positives], batch.maps, head)
    return [encoded, scores, *losses.values(), *virtual], virtual


def score(augmenter: Augmenter, head: Head, virtual: Virtual) -> Tensor:
    """The head's work: the loss of virtual samples."""
    z = head.shared(virtual.features) if virtual.features.dim() == 4 else virtual.features
    return virtual_loss(head.fc_cls(augmenter.encode(z)), virtual)


def prepare(
    contender: Contender, sizes: argparse.Namespace, dtype: torch.dtype
) -> tuple[Augmenter, Augmenter, Head]:
    """Method, loop and head, the first two in the same state: every class seen, banks full."""
    torch.manual_seed(0)
    ours, head = contender.new(contender.ours, sizes).to(dtype), Head(sizes.classes, sizes.width).to(dtype)
    labels = torch.arange(sizes.classes).repeat_interleave(2)
    for seed in range(contender.filling):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            step(ours, head, _batch(sizes, labels, generator, ours.needs_maps, dtype))
    loop = contender.new(contender.loop, sizes).to(dtype)
    loop.load_state_dict(ours.state_dict())
    return ours, loop, head


def disagreement(contender: Contender, sizes: argparse.Namespace) -> float:
    """The largest difference between method and loop in all that they return and in their states.

    In float64, where no threshold and no order flips with the last digit, as CAM mixing's may.
    """
    ours, loop, head = prepare(contender, sizes, torch.float64)
    worst = 0.0
    for seed in range(CHECKED):
        batch = draw(sizes, 1000 + seed, ours.needs_maps, torch.float64, contender.distinct)
        a, b = ([*step(one, head, batch)[0], *one.state_dict().values()] for one in (ours, loop))
        worst = max(worst, *(_difference(x, y) for x, y in zip(a, b, strict=True)))
    return worst


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return float("inf")
    a, b = (x.detach().double().nan_to_num() for x in (a, b))
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item() if a.numel() else 0.0


def measure(contender: Contender, sizes: argparse.Namespace) -> dict[str, list[float]]:
    """Of every repeat: milliseconds of our step, of the loop's and of scoring; how many virtual samples."""
    ours, loop, head = prepare(contender, sizes, torch.float32)
    found = dict(ours=[], loop=[], scoring=[], virtual=[])
    for repeat in range(max(3, round(contender.share * sizes.repeats)) + 1):
        batch = draw(sizes, 2000 + repeat, ours.needs_maps, torch.float32, contender.distinct)
        for name in ("ours", "loop") if repeat % 2 else ("loop", "ours"):
            time_, (_, virtual) = timed(step, ours if name == "ours" else loop, head, batch)
            found[name].append(time_)
        found["scoring"].append(timed(score, ours, head, virtual)[0])
        found["virtual"].append(len(virtual.labels))
    return {name: values[1:] for name, values in found.items()}  # the first warms up


def timed(work: Callable, *args):
    """Milliseconds, and what `work` returned."""
    start = time.perf_counter()
    result = work(*args)
    return 1000 * (time.perf_counter() - start), result


def row(name: str, found: dict[str, list[float]], worst: float) -> tuple[str, float]:
    """A line of the table, and how many times as fast ours is."""
    ratio = np.median(found["loop"]) / np.median(found["ours"])
    virtual = np.mean(found["virtual"])
    cells = [name, spread(found["ours"]), spread(found["loop"]), f"{ratio:.0f}x", f"{virtual:.0f}"]
    cells += [spread(found["scoring"]) if virtual else "", f"{worst:.0e}"]
    return "| " + " | ".join(cells) + " |", ratio


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    digits = sum(median < bound for bound in (100, 10))  # of three that count
    return f"{median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def iterations(n: int, threads: int, augmenter: dict | None) -> tuple[list[float], list[float], float]:
    """Milliseconds of embedded training iterations and of FASA in them; virtual features per iteration."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    from fasa.detection.experiment import training_config
    from fasa.job import Job, Optimizer, Schedule

    class Clock(Hook):
        """Notes when each iteration ends, and what FASA took in it."""

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            ends.append(time.perf_counter())
            steps.append(0.0)

    def stopwatch(work: Callable) -> Callable:
        def wrapped(*args):
            took, result = timed(work, *args)
            steps[-1] += took
            return result

        return wrapped

    ends, steps = [], [0.0]
    with tempfile.TemporaryDirectory() as work_dir:
        schedule = Schedule(iterations=UNTIMED + n, batch=8)
        optimizer = Optimizer(type="AdamW", lr=1e-3, weight_decay=0.05)
        place = dict(profile="embedded", data="data/embedded", configs="embedded", row="timed", seed=0)
        job = Job(**place, threads=threads, optimizer=optimizer, train=schedule, augmenter=augmenter)
        cfg = training_config(job, schedule, Path(work_dir))
        cfg.default_hooks.checkpoint = None
        del cfg.default_hooks["progress"]
        torch.set_num_threads(threads)
        torch.utils.deterministic.fill_uninitialized_memory = False  # as in `fasa.detection.experiment`
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Clock(), priority="LOWEST")
        head = runner.model.roi_head.bbox_head
        if augmenter:
            head.augmenter.forward, head._score = stopwatch(head.augmenter.forward), stopwatch(head._score)
        runner.train()
    drawn = head.augmenter.drawn.sum().item() / (UNTIMED + n) if augmenter else 0.0
    return (1000 * np.diff(ends[UNTIMED - 1 :])).tolist(), steps[UNTIMED:-1], drawn


def iteration_lines(n: int, threads: int) -> tuple[str, float]:
    """What an iteration takes, and FASA's share in it."""
    plain, _, _ = iterations(n, threads, None)
    with_fasa, steps, drawn = iterations(n, threads, dict(type="FASA", **SCALE))
    share = sum(steps) / sum(with_fasa)
    text = (
        f"Embedded Mask R-CNN, {n} iterations of 8 images: {spread(plain)} ms each without FASA and "
        f"{spread(with_fasa)} with it, of which FASA's step and scoring took {spread(steps)}, {share:.2%}; "
        f"{drawn:.1f} virtual features an iteration."
    )
    return text, share


def machine(threads: int) -> str:
    """Machine and versions."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].partition(":")[2].strip() if names else platform.machine()
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"{cpu}, {cores} cores, threads used: {threads}, load average {load:.1f} at the start; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, fasa {commit}."
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs all contenders, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = dict(classes=1203, width=1024, positives=256, threads=1, repeats=30, iterations=30)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"(default: {value})")
    parser.add_argument("--no-iteration", action="store_true", help="leave the training iteration out")
    parser.add_argument("--out", type=Path, help="a file to write the Markdown to")
    sizes = parser.parse_args(arguments)
    torch.set_num_threads(sizes.threads)
    header = "| | ours, ms | loop, ms | faster | virtual | scoring, ms | differ by |"
    told = (
        f"K = {sizes.classes:,}, D = {sizes.width:,}, {sizes.positives} positives, {sizes.repeats} repeats."
    )
    lines, fine, ratios = [f"{machine(sizes.threads)} {told}", "", header, "|" + "---|" * 7], True, {}
    for name, contender in CONTENDERS.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        worst = disagreement(contender, sizes)
        fine &= worst <= TOLERANCE
        line, ratios[name] = row(name, measure(contender, sizes), worst)
        lines.append(line)
    lines += ["", f"All agree to {TOLERANCE:g}." if fine else f"**DIFFER** by more than {TOLERANCE:g}."]
    lines += ["", aim(f"FASA's step at least {AIMS[0]} times as fast as the loop", ratios["FASA"] >= AIMS[0])]
    if not sizes.no_iteration:
        text, share = iteration_lines(sizes.iterations, sizes.threads)
        lines += ["", text, "", aim(f"under {AIMS[1]:.0%} of an iteration", share < AIMS[1])]
    text = "\n".join(lines)
    print(text)
    if sizes.out:
        sizes.out.write_text(text + "\n")
    return 0 if fine else 1


def aim(what: str, reached: bool) -> str:
    """Whether an aim was reached."""
    return f"Aim: {what}: {'reached' if reached else '**missed**'}."


if __name__ == "__main__":
    sys.exit(main())
