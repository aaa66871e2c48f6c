"""From arrays to a trained classifier and its accuracy; a killed run is taken up exactly.

Shapes: K classes.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fasa.classification.accuracy import ClassScores, measure, shot_accuracy
from fasa.classification.batches import Images, channel_moments, epoch_generator
from fasa.classification.checkpoint import LAST, identity, load, save
from fasa.classification.job import Row, Schedule
from fasa.classification.learner import Learner
from fasa.classification.progress import KEPT, Progress, losses_table
from fasa.data.images import LongTailed
from fasa.errors import UserError
from fasa.files import replacing


class Outcome(NamedTuple):
    """What a run gives. Accuracies are in percent, on the test split, after the last epoch."""

    state_dict: dict[str, Tensor]  # of the `ResNet32`, on the CPU
    accuracy: float  # over all images
    per_class: np.ndarray  # (K,) float64, NaN where a class has no image
    shots: dict[str, float]  # many, medium, few: means over classes, NaN where there is none
    curve: list[dict]  # of each epoch: lr, loss and, with an augmenter, loss_virtual
    history: list[dict]  # of each adaptation pass, see `adapt`
    drawn: list[int]  # virtual features of each class; empty without an augmenter
    right: np.ndarray  # (N,) bool, of each test image
    images_per_second: float  # of training alone


def train(
    data: LongTailed,
    schedule: Schedule,
    row: Row,
    seed: int,
    threads: int,
    work_dir: Path,
    device: str | torch.device | None = None,
    amp: bool = False,
    shots: tuple[int, int] = (20, 100),
) -> Outcome:
    """Train a ResNet-32 as `schedule` and `row` say, taking up what a killed run left in `work_dir`.

    After every epoch all state is written there, and the losses so far, to ``losses.tsv``. On the CPU a run
    that was killed, anywhere and however often, ends with the same bits as one that was not. The test split
    is looked at after the last epoch only, unless the row adapts to it.

    Args:
        seed: of weights, order, crops and virtual features; rows of one seed share their batches.
        threads: of the CPU; the sums of a convolution depend on them.
        device: to train on; None: the GPU if there is one.
        amp: bfloat16 where it is harmless, see `Learner`.
        shots: see `shot_accuracy`.

    Raises:
        UserError: no image to adapt on, a loss is not a number, or `work_dir` belongs to another run.
    """
    torch.set_num_threads(threads)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    moments = channel_moments(data.train.images)
    train_images = Images(data.train, *moments, device)
    counts = torch.tensor(data.counts, device=device)
    learner = Learner(counts, data.train.images.shape[-1], schedule, row, seed, amp)
    adapting = learner.augmenter is not None and learner.augmenter.adapts()
    held_out = Images(getattr(data, row.adapt_split), *moments, device) if adapting else None
    if adapting and not len(held_out):
        raise UserError(
            f"{row.adapt_split}: has no image to adapt on; let the set's data give some (its adapt)"
        )

    run, path = identity(data, schedule, row, seed=seed, threads=threads, amp=amp), Path(work_dir, LAST)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = dict(curve=[], history=[], seconds=0.0)
    if state := load(path, run):
        learner.load_state_dict(state["learner"])
        log = state["log"]
    first = len(log["curve"])
    print(f"{len(train_images):,} images on {device}, {'bfloat16' if amp else 'float32'}", flush=True)
    progress = Progress(first, schedule.epochs, len(train_images))
    for epoch in range(first, schedule.epochs):
        start = time.perf_counter()
        generator = epoch_generator(seed, epoch)
        batches = train_images.shuffled(schedule.batch, schedule.crop, data.flip, generator)
        log["curve"].append(learner.epoch(epoch, batches, progress))
        log["seconds"] += time.perf_counter() - start
        if adapting and (epoch + 1) % row.adapt_every == 0:
            scores = measure(learner.model, held_out, len(counts))
            log["history"].append(adapt(learner, scores, row.signal, epoch + 1))
        save(path, dict(run=run, learner=learner.state_dict(), log=log))
        with replacing(path.with_name(KEPT), "w") as file:
            file.write(losses_table(log["curve"]))

    scores = measure(learner.model, Images(data.test, *moments, device), len(counts))
    per_class = 100 * scores.accuracy.cpu().numpy()
    return Outcome(
        state_dict={name: value.cpu().contiguous() for name, value in learner.model.state_dict().items()},
        accuracy=100 * (scores.accuracy * scores.n).nansum().item() / scores.n.sum().item(),
        per_class=per_class,
        shots=shot_accuracy(per_class, data.counts, shots),
        curve=log["curve"],
        history=log["history"],
        drawn=[] if learner.augmenter is None else learner.augmenter.drawn.tolist(),
        right=scores.right.cpu().numpy(),
        images_per_second=schedule.epochs * len(train_images) / log["seconds"],
    )


def adapt(learner: Learner, scores: ClassScores, signal: str, epochs: int) -> dict:
    """Let the learner's augmenter adapt to a pass over held-out images.

    Args:
        signal: "loss" or "metric".
        epochs: done so far.

    Returns:
        A record of plain data: iteration, class_loss or class_accuracy, and what the augmenter records.
    """
    if signal == "metric":
        measured, lower_is_better = dict(class_accuracy=scores.accuracy), -scores.accuracy
    else:
        measured, lower_is_better = dict(class_loss=scores.loss), scores.loss
    augmenter = learner.augmenter
    augmenter.adapt(lower_is_better)
    measured = {name: values.tolist() for name, values in measured.items()}
    return dict(iteration=epochs * learner.iterations) | measured | augmenter.record()
