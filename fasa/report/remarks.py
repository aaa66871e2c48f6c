"""What appendix F remarks in words, as numbers.

Shapes: I images, K classes, B images of a batch.
"""

from pathlib import Path
from statistics import mean

import numpy as np

from fasa.report.tables import markdown

MARGIN = "mask_rcnn_angular"  # and all rows whose names begin like that


def margins(jobs: dict, found: dict[str, dict[int, dict]]) -> dict[float, dict[int, dict]]:
    """The metrics of each seed at each angular margin, smallest first.

    Args:
        jobs: of each row, as plain data.
        found: the metrics of each seed of each row.
    """
    mine = {jobs[row]["augmenter"]["margin"]: row for row in found if row.startswith(MARGIN)}
    return {margin: found[mine[margin]] for margin in sorted(mine)}


def thresholds(jobs: dict) -> set[float]:
    """The thresholds of repeat factor sampling that rows have."""
    return {job["traits"]["rfs"]["threshold"] for job in jobs.values() if "rfs" in job["traits"]}


def confusion(checkpoint: Path, job: dict) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are tail, (K,), and which confuse each most, (K, K), in a checkpoint of `CAMMixing`."""
    import torch

    from fasa import CAMMixing

    prefix = "roi_head.bbox_head.augmenter."
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    arguments = {name: value for name, value in job["augmenter"].items() if name not in ("type", "bank")}
    mixing = CAMMixing(len(state["counts"]), 1, bank=0, **arguments)
    for name in ("counts", "confusion"):
        getattr(mixing, name).copy_(state[name])
    tail = state["counts"] < mixing.tail
    return tail.numpy(), mixing.most_confusing(torch.arange(len(tail))).numpy()


def partner_shares(
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


def section(
    margins: dict[float, dict[int, dict]],
    shares: dict[int, tuple[float, float]],
    repeats: dict[float, tuple[dict[str, float], dict[str, float]]],
    measured: dict[str, dict],
) -> str:
    """All of it in Markdown.

    Args:
        margins: as from `margins`.
        shares: `partner_shares` of each batch size.
        repeats: the mean repeat factor of each frequency group at each threshold, as it is and rounded up.
        measured: as from `fasa.detection.cost.measure`.
    """
    metrics = {f"segm_{name}": f"mask {name}" for name in ("AP", "APr", "APc", "APf")}
    body = []
    for margin, seeds in margins.items():
        means = [_cell(mean(seed.get(metric, np.nan) for seed in seeds.values()), 1) for metric in metrics]
        body.append([f"{margin:g}", *means, str(len(seeds))])
    sensitivity = markdown(["m_a", *metrics.values(), "n"], body)
    body = [[str(size), *(_cell(100 * share, 0) for share in both)] for size, both in shares.items()]
    partners = markdown(["images in a batch", "one confusing class, %", "all three, %"], body)
    body = [
        [f"{threshold:g}", *(_cell(mine[group], 2) for mine in both for group in "rcf")]
        for threshold, both in repeats.items()
    ]
    names = ["rare", "common", "frequent"]
    factors = markdown(["threshold", *names, *(f"{name}, rounded up" for name in names)], body)
    plain = measured["mask_rcnn"]["seconds"]
    body = [
        [name, f"{one['seconds']:.3f}", f"{100 * (one['seconds'] / plain - 1):+.0f}%"]
        for name, one in measured.items()
        if name == "mask_rcnn" or "frozen" in name
    ]
    stages = markdown(["", "seconds of an iteration", "more than plain"], body)
    return f"""# What section F remarks in words, measured

## Angular transfer over the margin m_a (mask AP in percent)

{sensitivity}

## CAM mixing: tail classes of a batch that meet a confusing class in it

{partners}

## RFS: the mean factor by which images of a class are repeated, at several thresholds

The rows round up.

{factors}

## Feature transfer: the time of its two stages

{stages}

A stage trains a part of the network only, so it takes the iterations of both to do what plain training does.
Its encoder makes it another network: the warm-up, which other rows share, is its own.
"""


def _cell(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"
