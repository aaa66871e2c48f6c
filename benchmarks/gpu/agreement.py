"""What a GPU computes is what a CPU computes; what FASA's step costs there. Neither needs mmdet.

Shapes: P positives, D the width of an embedding, K classes, N = 4 P RoIs.
"""

import statistics
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

import fasa
from benchmarks.augmenters import run as steps
from fasa.augmenter import Augmenter, virtual_loss

TOLERANCE = 1e-5  # relative to the largest value
DRAWS = {torch.rand, torch.randn, torch.randint, torch.randperm}
STEPS = 3


class DrawOnCPU(TorchFunctionMode):
    """Random numbers come from the CPU's generator, whatever the device: two devices then draw the same."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function not in DRAWS or kwargs.get("generator") is None:
            return function(*args, **kwargs)
        device = kwargs.pop("device", "cpu")
        return function(*args, **kwargs).to(device)


def on_cpu(augmenter: Augmenter) -> Callable[[], torch.Generator]:
    """In place of the augmenter's `generator`: the same seeds, on the CPU."""

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(hash((augmenter.seed, 0, augmenter.iteration.item())) % 2**63)

    return generator


def to(batch: steps.Batch, device: torch.device) -> steps.Batch:
    """The batch on a device."""
    z = batch.z.detach().to(device).requires_grad_()
    maps = batch.maps if batch.maps is None else batch.maps.to(device)
    return batch._replace(z=z, labels=batch.labels.to(device), scores=batch.scores.to(device), maps=maps)


def disagreement(
    contender: steps.Contender, sizes: Namespace, device: torch.device, dtype: torch.dtype
) -> float:
    """The largest difference between devices in all that a method returns and in its state.

    Both start from one state, take the same batches, draw the same numbers and, in float32, where the
    method does, adapt after the last two steps to the same signals.
    """
    torch.manual_seed(0)
    pair, heads = [], []
    for place in (torch.device("cpu"), device):
        augmenter = contender.new(contender.ours, sizes).to(place, dtype)
        augmenter.generator = on_cpu(augmenter)
        head = steps.Head(sizes.classes, sizes.width).to(place, dtype)
        pair.append(augmenter)
        heads.append(head)
    for one, other in (pair, heads):
        other.load_state_dict(one.state_dict())
    worst = 0.0
    labels = torch.arange(sizes.classes).repeat_interleave(2)
    for seed in range(contender.filling + STEPS):
        needed = pair[0].needs_maps
        if seed < contender.filling:
            generator = torch.Generator().manual_seed(seed)
            batch = steps._batch(sizes, labels, generator, needed, dtype)
        else:
            batch = steps.draw(sizes, 1000 + seed, needed, dtype, contender.distinct)
        with DrawOnCPU():
            found = [
                steps.step(one, head, to(batch, one.drawn.device))[0]
                for one, head in zip(pair, heads, strict=True)
            ]
        if seed >= contender.filling + STEPS - 2 and dtype is torch.float32 and pair[0].adapts():
            signal = torch.rand(sizes.classes, generator=torch.Generator().manual_seed(seed))
            for one in pair:
                one.adapt(signal.to(one.drawn.device))
        found = [[*a, *one.state_dict().values()] for a, one in zip(found, pair, strict=True)]
        worst = max(worst, *(steps._difference(b.cpu(), a) for a, b in zip(*found, strict=True)))
    return worst


def agreements(device: torch.device, tiny: bool) -> Iterator[dict]:
    """One result for each method and precision; the last is of the moments alone."""
    sizes = dict(classes=12, width=16, positives=40) if tiny else dict(classes=120, width=256, positives=256)
    sizes = Namespace(**sizes)  # Mean-shift takes a minute at 1,203 classes
    for name, contender in steps.CONTENDERS.items():
        # Where a threshold decides, a last digit of float32 may flip it.
        for dtype in (torch.float64,) if contender.ours.needs_maps else (torch.float32, torch.float64):
            worst = disagreement(contender, sizes, device, dtype)
            yield dict(method=name, dtype=str(dtype), differ_by=worst, agrees=worst <= TOLERANCE)


CLASSES, WIDTH = 1203, 1024  # LVIS, and a box head's


def costs(device: torch.device, tiny: bool) -> Iterator[dict]:
    """Milliseconds of the classifier's step, forward and backward, without and with FASA, taking turns."""
    classes, width = (12, 16) if tiny else (CLASSES, WIDTH)
    for positives in (8,) if tiny else (256, 512, 1024):
        sizes = Namespace(classes=classes, width=width, positives=positives)
        classifier = torch.nn.Linear(width, classes + 1).to(device)
        augmenter = fasa.FASA(classes, width, prob_scale=16).to(device)
        augmenter.initialise((100 * classes / torch.arange(1, classes + 1, device=device)).ceil().long())
        augmenter.moments.seen.fill_(True)
        augmenter.moments.var.fill_(0.1)
        batch = to(steps.draw(sizes, 0, False, torch.float32), device)

        def step(with_fasa: bool, batch=batch, classifier=classifier, augmenter=augmenter) -> None:
            loss = F.cross_entropy(classifier(batch.z), batch.labels)
            if with_fasa:
                virtual = augmenter(batch.z[: batch.positives], batch.labels[: batch.positives])
                loss = loss + 0.1 * virtual_loss(classifier(virtual.features), virtual)
            loss.backward()

        for with_fasa in (False, True):
            step(with_fasa)
        taken = {False: [], True: []}
        for _ in range(3 if tiny else 50):
            for with_fasa, times in taken.items():
                times.append(1000 * timed(lambda on=with_fasa: step(on), device))
        for with_fasa, times in taken.items():
            yield dict(
                positives=positives,
                classes=classes,
                width=width,
                fasa=with_fasa,
                ms=statistics.median(times),
                ms_std=statistics.stdev(times),
                stops=stops(lambda on=with_fasa: step(on), device),
            )


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that `work` takes, its kernels included."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has nothing to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stops(work: Callable[[], None], device: torch.device) -> int | None:
    """How often the host waits for the GPU in `work`; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in found)
