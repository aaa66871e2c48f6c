"""How often CAM mixing on the batch alone would find what it needs there (appendix F on Chu et al.).

Shapes: I images, K classes, B images of a batch.
"""

from pathlib import Path

import numpy as np
import torch

from fasa.job import Job, method

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)  # images


def mixes(job: Job) -> bool:
    """Whether a row mixes with confusing classes."""
    return bool(job.augmenter) and job.augmenter["type"] == "CAMMixing"


def confusion(checkpoint: Path, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are tail, (K,), and which confuse each most, (K, K), in a checkpoint of `CAMMixing`."""
    prefix = "roi_head.bbox_head.augmenter."
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    arguments = {name: value for name, value in job.augmenter.items() if name not in ("type", "bank")}
    mixing = method(job.augmenter)(len(state["counts"]), 1, bank=0, **arguments)
    for name in ("counts", "confusion"):
        getattr(mixing, name).copy_(state[name])
    tail = state["counts"] < mixing.tail
    return tail.numpy(), mixing.most_confusing(torch.arange(len(tail))).numpy()


def shares(
    images: list[list[int]], tail: np.ndarray, confusing: np.ndarray, batch: int, batches: int, seed: int = 0
) -> tuple[float, float]:
    """How often a batch holds what CAM mixing without a bank needs (appendix F on Chu et al.).

    Args:
        images: the classes in each of I images.
        tail: (K,) bool.
        confusing: (K, K) bool, row c the most confusing classes of c.
        batch: B, drawn without replacement.
        batches: how many to draw.

    Returns:
        Of the tail classes in a batch, the mean share that meets one of its confusing classes there, and
        the share that meets all of them; NaN where no batch holds a tail class with confusing ones.
    """
    holds = np.zeros((len(images), len(tail)), dtype=bool)
    for i, classes in enumerate(images):
        holds[i, classes] = True
    rng = np.random.default_rng(seed)
    some = every = total = 0
    for _ in range(batches):
        there = holds[rng.choice(len(images), batch, replace=False)].any(0)
        wanted = confusing[there & tail & confusing.any(1)]
        met = (wanted & there).sum(1)
        some += (met > 0).sum()
        every += (met == wanted.sum(1)).sum()
        total += len(wanted)
    return (some / total, every / total) if total else (np.nan, np.nan)
