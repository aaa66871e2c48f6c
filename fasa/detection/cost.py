"""What a row costs: seconds of an iteration and of an adaptation pass, memory, bytes of state (Table 5)."""

import resource
import time
from pathlib import Path
from statistics import mean, stdev

import torch
from msgspec.structs import replace

from fasa.job import Job, Schedule
from fasa.pipeline.process import pool

SETTLING = 5  # iterations that are not counted: caches fill


def variants(job: Job) -> dict[str, Job]:
    """The jobs to measure for one: itself, or one for each stage where it trains in two (appendix F, Yin)."""
    if not (job.augmenter and job.augmenter.get("phase")):
        return {job.row: job}
    forever = 1_000_000
    return {
        f"{job.row}, features frozen": replace(job, augmenter=job.augmenter | dict(phase=forever)),
        f"{job.row}, classifier frozen": replace(job, augmenter=job.augmenter | dict(phase=1)),
    }


def measure(
    job: Job, iterations: int, trained: Path, work: Path, batch: int | None = None
) -> dict[str, dict[str, float]]:
    """Train a row for some iterations, each variant in a process of its own.

    Args:
        iterations: that are counted.
        trained: the row's checkpoint: with random weights the RPN finds fewer objects, and an iteration would
            be cheaper than it is.
        batch: images of an iteration; None: as in training.

    Returns:
        For each variant seconds and seconds_std of an iteration, and over how many iterations; pass_seconds
        of an adaptation pass, where there are any; state, the MB that the augmenter keeps; memory_gb, the
        peak, on a GPU of what is allocated there; growth in MB, see `growth`.
    """
    measured = {}
    for i, (name, variant) in enumerate(variants(job).items()):
        # A new process: the peak of memory is that of a process.
        with pool(1) as processes:
            arguments = (variant, SETTLING + iterations, trained, work / f"{job.row}-{i}", batch)
            measured[name] = processes.submit(_measure, *arguments).result()
    return measured


def growth(memory: list[int]) -> int:
    """How much higher memory stood at its highest in the second half of the iterations than in the first.

    What is freed and taken again from one iteration to the next does not show, a leak does.
    """
    half = len(memory) // 2
    return max(memory[half:]) - max(memory[:half])


def _measure(job: Job, iterations: int, trained: Path, work: Path, batch: int | None) -> dict[str, float]:
    from fasa.detection.adaptation import AdaptationHook, box_heads
    from fasa.detection.clock import ClockHook
    from fasa.detection.experiment import settle, training_config
    from fasa.detection.training import train

    settle(job.threads)
    # The row is trained: it has no warm-up before it, and is to stay what it is.
    augmenter = job.augmenter and job.augmenter | dict(warmup=0)
    schedule = Schedule(iterations=iterations, batch=batch or job.train.batch)
    adapt_every = None if job.adapt_every is None else iterations + 1  # not on the way, but timed below
    cfg = training_config(replace(job, augmenter=augmenter, adapt_every=adapt_every), schedule, work)
    cfg.param_scheduler = [dict(type="ConstantLR", factor=1e-3, by_epoch=False, begin=0, end=iterations + 1)]
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type="ClockHook")]
    cfg.default_hooks.checkpoint.every = iterations + 1
    runner = train(cfg, trained)
    (clock,) = (hook for hook in runner.hooks if isinstance(hook, ClockHook))
    seconds = [b - a for a, b in zip(clock.times[SETTLING - 1 :], clock.times[SETTLING:], strict=False)]
    kept = [head.augmenter for head in box_heads(runner.model) if head.augmenter]
    peak = (
        torch.cuda.max_memory_allocated()
        if torch.cuda.is_available()
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
    )
    measured = dict(
        seconds=mean(seconds),
        seconds_std=stdev(seconds),
        iterations=len(seconds),
        state=sum(t.numel() * t.element_size() for one in kept for t in one.state_dict().values()) / 1e6,
        memory_gb=peak / 1e9,
        growth=growth(clock.memory) / 1e6,
    )
    for hook in runner.hooks:
        if isinstance(hook, AdaptationHook) and hook.dataloader is not None:
            start = time.perf_counter()
            for values in hook.measure(runner.model):
                values.cpu()  # a GPU is waited for
            measured["pass_seconds"] = time.perf_counter() - start
    return measured
