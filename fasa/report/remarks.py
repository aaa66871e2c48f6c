"""What appendix F remarks in words, as numbers."""

from statistics import mean

import numpy as np

from fasa.report.defaults import default
from fasa.report.summary import spread
from fasa.report.tables import cell, markdown

MARGIN = "mask_rcnn_angular"  # and all rows whose names begin like that
CAM = "mask_rcnn_cam"  # what confuses is what it had learnt at its end


def margins(jobs: dict, found: dict[str, dict[int, dict]]) -> dict[float, dict[int, dict]]:
    """The metrics of each seed at each angular margin, smallest first; no seeds where it has not run.

    Args:
        jobs: of each row, as plain data.
        found: the metrics of each seed of each row.
    """
    usual = default("AngularTransfer", "margin")
    mine = {job["augmenter"].get("margin", usual): row for row, job in jobs.items() if row.startswith(MARGIN)}
    return {margin: found.get(mine[margin], {}) for margin in sorted(mine)}


def repeats(census: dict, jobs: dict, found: dict[str, dict[int, dict]]) -> dict[float, list[dict]]:
    """How often images of rare, common and frequent classes come at thresholds of RFS, exact and rounded up.

    Args:
        census: of the data set.
        jobs, found: as `margins` takes them; rows with RFS add their own thresholds.
    """
    told = {float(threshold): both for threshold, both in census["repeats"].items()}
    for row, seeds in found.items():
        metrics = next(iter(seeds.values()))
        if rfs := jobs[row]["traits"].get("rfs"):
            told[rfs["threshold"]] = [
                {group: metrics.get(f"{name}_{group}") for group in "rcf"} for name in ("rfs", "rfs_up")
            ]
    return dict(sorted(told.items()))


def partners(found: dict[str, dict[int, dict]]) -> dict[int, tuple[float, float]]:
    """Of tail classes in a batch of each size the shares that meet one, and all, of their confusing classes.

    In percent, the mean over the seeds of `CAM`; nothing where it has not run.
    """
    seeds = list(found.get(CAM, {}).values())
    names = set.intersection(*map(set, seeds)) if seeds else ()
    sizes = sorted(int(name.rpartition("_")[2]) for name in names if "cam_some" in name)
    return {
        size: tuple(mean(seed[f"cam_{share}_{size}"] for seed in seeds) for share in ("some", "every"))
        for size in sizes
    }


def section(
    margins: dict[float, dict[int, dict]],
    shares: dict[int, tuple[float, float]],
    repeats: dict[float, list[dict[str, float | None]]],
    measured: dict[str, dict],
) -> str:
    """All of it in Markdown.

    Args:
        margins: as from `margins`.
        shares: as from `partners`.
        repeats: as from `repeats`.
        measured: as from `fasa.detection.cost.measure`.
    """
    metrics = {f"segm_{name}": f"mask {name}" for name in ("AP", "APr", "APc", "APf")}
    body, known = [], []
    for margin, seeds in margins.items():
        found = spread(list(seeds.values())) if seeds else {}
        known += [found["segm_AP"]["mean"]] if "segm_AP" in found else []
        cells = [cell(found.get(metric)) for metric in metrics]
        body.append([f"{margin:g}", *(cells if seeds else ["not run", *cells[1:]]), str(len(seeds))])
    sensitivity = markdown(["m_a", *metrics.values(), "n"], body)
    body = [[str(size), *(_cell(share, 0) for share in both)] for size, both in shares.items()]
    partners = markdown(["images in a batch", "one confusing class, %", "all three, %"], body)
    partners = partners if body else f"`{CAM}`: not run, or no tail class with confusing ones."
    body = [
        [f"{threshold:g}", *(_cell(mine[group], 2) for mine in both for group in "rcf")]
        for threshold, both in repeats.items()
    ]
    names = ["rare", "common", "frequent"]
    body = body or [["not run", *["-"] * 6]]
    factors = markdown(["threshold", *names, *(f"{name}, rounded up" for name in names)], body)
    plain = measured.get("mask_rcnn", {}).get("seconds", np.nan)
    body = [
        [name, f"{one['seconds']:.3f}", _cell(100 * (one["seconds"] / plain - 1), 0, "+")]
        for name, one in measured.items()
        if name == "mask_rcnn" or "frozen" in name
    ]
    stages = markdown(["", "seconds of an iteration", "more than plain, %"], body or [["not run", "-", "-"]])
    both = sum(one["seconds"] for name, one in measured.items() if "frozen" in name)
    takes = f"**Read:** an iteration of both stages takes {both / plain:.1f} times one of plain training."
    takes = takes if both and plain == plain else ""
    often = ""
    if repeats:
        least, most = min(repeats), max(repeats)
        rare, frequent = (
            f"{_cell(repeats[least][1][group], 1)} to {_cell(repeats[most][1][group], 1)}" for group in "rf"
        )
        often = f"**Read:** from {least:g} to {most:g} images of rare classes come {rare} times and of "
        often += f"frequent ones {frequent} times, rounded up."
    told = f"**Read:** AP lies between {min(known):.1f} and {max(known):.1f}." if known else ""
    meet = ""
    if shares:
        each = [f"{every:.0f}% in a batch of {size}" for size, (_, every) in shares.items()]
        meet = (
            f"**Read:** of tail classes all three are met by {', '.join(dict.fromkeys([each[0], each[-1]]))}."
        )
    return f"""### Angular transfer over the margin m_a (mask AP in percent)

{sensitivity}

{told}

### CAM mixing: tail classes of a batch that meet a confusing class in it

Chu et al. mix a tail object with objects of its three most confusing classes. Images are drawn as in
training; what is confusing is what `{CAM}` had learnt at its end. Means over its seeds.

{partners}

{meet}

### RFS: the mean factor by which images of a class are repeated, at several thresholds

How often an image comes, in times. Rows with RFS round up. A threshold is a share of images: LVIS's is 0.001,
and a set of few images needs a larger one ([that of the rows](#the-set-up)).

{factors}

{often}

### Feature transfer: the time of its two stages

{stages}

{takes}

A stage trains a part of the network only, so it takes the iterations of both to do what plain training does.
Its encoder makes it another network: the warm-up, which other rows share, is its own."""


def _cell(value: float | None, digits: int, sign: str = "") -> str:
    return "-" if value is None or np.isnan(value) else f"{value:{sign}.{digits}f}"
