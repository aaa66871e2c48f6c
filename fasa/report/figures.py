"""The figures, each from plain data; `fasa.notebook.style` sets how they look.

Shapes: K classes, T adaptation passes.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pycocotools.mask
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from fasa.data.lvis import image_path
from fasa.notebook import FREQUENCY_COLOURS as COLOUR

FREQUENCY = dict(r="rare", c="common", f="frequent")
METRICS = dict(APr="rare", APc="common", APf="frequent")
TIDE_MAIN = {name: name for name in ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")}
DENSE = 200  # classes in a plane, from which on not all names can be read
LARGE = 0.05  # the share of classes from which on a group's names are left out there
TIDE_SPECIAL = dict(FalsePos="false\npositives", FalseNeg="false\nnegatives")


def scenes(root: str | Path, annotations: dict, number: int) -> Figure:
    """The first scenes of a part, at most `number`, with the outlines of their objects, four to a line."""
    images = annotations["images"][:number]
    lines = -(-len(images) // 4)
    figure, panels = plt.subplots(lines, 4, figsize=(10, 2.6 * lines), squeeze=False)
    for axes, image in zip(panels.flat, images, strict=False):
        axes.imshow(plt.imread(image_path(root, image)))
        for annotation in annotations["annotations"]:
            if annotation["image_id"] == image["id"]:
                outline(axes, annotation.get("segmentation"), annotation["bbox"], image)
    for axes in panels.flat:
        axes.axis("off")
    return figure


def outline(axes: Axes, segmentation: list | dict | None, box: list[float], image: dict) -> None:
    """Draw an object's outline: that of its mask, of its polygons, or its box where it has neither."""
    if isinstance(segmentation, list):
        for polygon in segmentation:
            axes.fill(polygon[::2], polygon[1::2], edgecolor="w", fill=False, linewidth=1)
    elif segmentation:
        if isinstance(segmentation["counts"], list):
            segmentation = pycocotools.mask.frPyObjects(segmentation, image["height"], image["width"])
        axes.contour(pycocotools.mask.decode(segmentation), [0.5], colors="w", linewidths=1)
    else:
        x, y, width, height = box
        axes.add_patch(plt.Rectangle((x, y), width, height, edgecolor="w", fill=False))


def instance_counts(counts: np.ndarray, frequency: list[str]) -> Figure:
    """Training instances of each class, (K,), most frequent first, coloured by frequency group."""
    figure, axes = plt.subplots()
    order = np.argsort(-counts, kind="stable")
    for key, name in FREQUENCY.items():
        mine = np.array([frequency[k] == key for k in order])
        axes.bar(
            np.flatnonzero(mine),
            counts[order][mine],
            width=1,
            color=COLOUR[key],
            label=f"{name} ({mine.sum()})",
        )
    axes.set(yscale="log", xlabel="class, by frequency", ylabel="instances in train", xlim=(-1, len(counts)))
    axes.legend(title="group (classes)")
    return figure


def nothing_ran(why: str = "none of these rows has run") -> Figure:
    """In place of a figure of rows of which none has run."""
    figure, axes = plt.subplots(figsize=(5, 1))
    axes.axis("off")
    axes.text(0.5, 0.5, why, ha="center", va="center")
    return figure


def ap_by_frequency(runs: dict[str, dict[int, dict[str, float]]]) -> Figure:
    """AP of rare, common and frequent classes: a bar per row, its seeds' standard deviation, a dot per seed.

    Args:
        runs: the metrics of each seed of each row.
    """
    if not runs:
        return nothing_ran()
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9, 4.2))
    for axes, (kind, title) in zip(panels, dict(segm="masks", bbox="boxes").items(), strict=True):
        _bars(axes, runs, {f"{kind}_{metric}": name for metric, name in METRICS.items()})
        axes.set(title=title, xlabel="frequency group of the class")
    panels[0].set_ylabel("AP on val [%]")
    panels[0].legend(loc="upper left")
    return figure


def rows_by_frequency(runs: dict[str, dict[int, dict[str, float]]], kind: str = "segm") -> Figure:
    """AP of rare, common and frequent classes for many rows: a dot for each seed.

    Filled dots are the seeds that all rows have: only those compare. The dashed line is the first row's mean
    over them.

    Args:
        runs: the metrics of each seed of each row.
        kind: "segm" or "bbox".
    """
    if not runs:
        return nothing_ran()
    shared = set.intersection(*(set(seeds) for seeds in runs.values()))
    figure, panels = plt.subplots(1, 3, sharey=True, figsize=(9, 1.4 + 0.32 * len(runs)))
    for axes, (metric, name) in zip(panels, METRICS.items(), strict=True):
        colour = COLOUR[metric[-1]]
        for y, seeds in enumerate(runs.values()):
            for seed, metrics in seeds.items():
                face = colour if seed in shared else "none"
                axes.plot(metrics.get(f"{kind}_{metric}", np.nan), y, "o", color=colour, mfc=face, alpha=0.7)
        first = next(iter(runs.values()))
        values = [first[seed].get(f"{kind}_{metric}", np.nan) for seed in shared]
        axes.axvline(np.mean(values) if values else np.nan, color="0.4", linestyle="--", linewidth=1)
        axes.set(title=name, xlabel=f"{'mask' if kind == 'segm' else 'box'} AP on val [%]")
    panels[0].set_yticks(range(len(runs)), runs)
    panels[0].set_ylim(len(runs) - 0.5, -0.5)  # the first row on top, half a row of air at both ends
    return figure


def gain_by_class(gains: dict[str, np.ndarray], images: np.ndarray, frequency: list[str]) -> Figure:
    """What each class gains against how often it was learnt: a dot for a class, a bar for its group's mean.

    A few classes with few objects gain or lose far more than the rest; beyond three times what two thirds of
    all dots stay within they are arrows at the edge, and do not squeeze the others.

    Args:
        gains: for each pair of rows, by its title, the AP of each class above the other row's, mean over
            seeds, (K,) in points; NaN for a class without objects.
        images: of train that hold each class, (K,).
        frequency: group of each class, K.
    """
    if not gains:
        return nothing_ran()
    across = min(len(gains), 3)
    lines = -(-len(gains) // across)
    size = (max(4.2 * across, 7), 0.8 + 3.4 * lines)
    figure, panels = plt.subplots(lines, across, sharex=True, sharey=True, figsize=size, squeeze=False)
    sizes = np.abs(np.concatenate(list(gains.values())))
    edge = max(3 * np.percentile(sizes[~np.isnan(sizes)], 68, method="lower"), 1)
    images = np.maximum(np.asarray(images), 1)
    for axes, (title, gain) in zip(panels.flat, gains.items(), strict=False):
        axes.axhline(0, color="0.3", linewidth=1)
        for letter, name in FREQUENCY.items():
            mine = np.array([f == letter for f in frequency]) & ~np.isnan(gain)
            if not mine.any():
                continue
            x, y, colour = images[mine], gain[mine], COLOUR[letter]
            inside = np.abs(y) <= edge
            axes.plot(x[inside], y[inside], "o", markersize=5, alpha=0.6, color=colour, label=name)
            for marker, beyond in (("^", y > edge), ("v", y < -edge)):
                at = np.full(beyond.sum(), edge if marker == "^" else -edge)
                (arrows,) = axes.plot(x[beyond], at, marker, markersize=8, color=colour, clip_on=False)
                arrows.set_in_layout(False)
            axes.plot([x.min(), x.max()], [y.mean()] * 2, color=colour, linewidth=3, solid_capstyle="round")
        axes.set(title=title, xscale="log", ylim=(-1.05 * edge, 1.05 * edge))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    for axes in panels[:, 0]:
        axes.set_ylabel("AP gained [points]")
    for axes in panels.flat[max(len(gains) - across, 0) : len(gains)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("images of train that hold the class")
    for axes in panels.flat[len(gains) :]:
        axes.axis("off")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="a class that is", ncols=3, loc="outside upper center")
    return figure


def margin_sensitivity(margins: dict[float, dict[int, dict[str, float]]]) -> Figure:
    """AP over the angular margin (appendix F, Liu et al.): lines are means over seeds, dots the seeds.

    Args:
        margins: the metrics of each seed at each margin.
    """
    margins = {margin: seeds for margin, seeds in margins.items() if seeds}
    if not margins:
        return nothing_ran()
    figure, axes = plt.subplots()
    for metric, label in {"AP": "all", **METRICS}.items():
        colour = COLOUR.get(metric[-1], "0.3")
        values = [
            [seed.get(f"segm_{metric}", np.nan) for seed in seeds.values()] for seeds in margins.values()
        ]
        axes.plot(list(margins), [np.mean(seeds) for seeds in values], color=colour, label=label)
        for margin, seeds in zip(margins, values, strict=True):
            axes.plot([margin] * len(seeds), seeds, "o", markersize=4, color=colour)
    axes.set(xlabel="angular margin $m_a$ [rad]", ylabel="mask AP on val [%]", ylim=(0, None))
    axes.legend(title="classes")
    return figure


def regimes(found: dict[str, dict[str, dict[int, dict[str, float]]]], ratios: dict[str, float]) -> Figure:
    """Mask APr / APf, and both by themselves, of a study's candidates: means over seeds.

    Args:
        found: metrics by candidate, row and seed.
        ratios: the rows, and the ratio of each on LVIS.
    """
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9, 1.6 + 0.4 * len(found)))
    for i, (row, wanted) in enumerate(ratios.items()):
        rare, frequent = (
            np.array(
                [
                    np.mean([seed.get(f"segm_{group}", np.nan) for seed in rows[row].values()])
                    for rows in found.values()
                ]
            )
            for group in ("APr", "APf")
        )
        y = np.arange(len(found)) + 0.16 * (i - (len(ratios) - 1) / 2)
        panels[0].plot(rare / np.maximum(frequent, 1e-9), y, "o", color=f"C{i}", label=row)
        panels[0].axvline(wanted, color=f"C{i}", linestyle="--", linewidth=1)
        panels[1].plot(rare, y, "o", color=f"C{i}")
        panels[1].plot(frequent, y, "o", color=f"C{i}", mfc="none")
    panels[0].set(xlabel="mask APr / APf (dashed: LVIS)", xlim=(0, None))
    panels[1].set(xlabel="mask AP [%]: rare filled, frequent open", xlim=(0, None))
    panels[0].set_yticks(range(len(found)), found)
    panels[0].set_ylim(len(found) - 0.5, -0.5)
    panels[0].legend()
    return figure


def scale_curve(found: dict[str, dict[str, dict[int, dict[str, float]]]], scales: dict[str, float]) -> Figure:
    """Mask AP and APr over `prob_scale`, a panel for each row: lines are means over seeds, dots the seeds.

    Args:
        found: metrics by candidate, row and seed.
        scales: the `prob_scale` of each candidate.
    """
    rows = list(next(iter(found.values())))
    names = sorted(found, key=scales.get)
    figure, panels = plt.subplots(1, len(rows), sharey=True, figsize=(4.5 * len(rows), 4.2), squeeze=False)
    for axes, row in zip(panels.flat, rows, strict=True):
        for metric, label in dict(AP="all", APr="rare").items():
            colour = COLOUR.get(metric[-1], "0.3")
            values = [
                [seed.get(f"segm_{metric}", np.nan) for seed in found[name][row].values()] for name in names
            ]
            axes.plot([scales[name] for name in names], np.mean(values, axis=1), color=colour, label=label)
            for name, seeds in zip(names, values, strict=True):
                axes.plot([scales[name]] * len(seeds), seeds, "o", markersize=4, color=colour)
        axes.set_xscale("log", base=2)
        axes.set_xticks([scales[name] for name in names], [f"{scales[name]:g}" for name in names])
        axes.set(title=row, xlabel="prob_scale")
    panels[0, 0].set_ylabel("mask AP [%]")
    panels[0, 0].legend(title="classes")
    return figure


def partner_shares(shares: dict[int, tuple[float, float]]) -> Figure:
    """How often a tail class meets a confusing class in its batch (appendix F, Chu et al.).

    Args:
        shares: as from `remarks.partners`.
    """
    if not shares:
        return nothing_ran()
    figure, axes = plt.subplots()
    for i, label in enumerate(("at least one", "all three")):
        axes.plot(list(shares), [both[i] for both in shares.values()], "o-", color=f"C{i}", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(shares), shares)
    axes.set(xlabel="images in a batch", ylabel="tail classes of a batch [%]", ylim=(0, 100))
    axes.legend(title="confusing classes in it", loc="lower right")
    return figure


def tide_errors(runs: dict[str, dict[int, dict[str, float]]], kind: str = "segm") -> Figure:
    """What AP50 would gain without each type of TIDE's errors, as bars (Bolya et al., 2020; Table 1).

    Args:
        runs: the metrics of each seed of each row.
        kind: "segm" or "bbox".
    """
    if not runs:
        return nothing_ran()
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9, 4.2), width_ratios=(3, 1))
    for axes, names in zip(panels, (TIDE_MAIN, TIDE_SPECIAL), strict=True):
        _bars(axes, runs, {f"{kind}_tide_{name}": label for name, label in names.items()})
    panels[0].set(xlabel="type of error", ylabel="AP50 gained without it [points]")
    panels[1].set(xlabel="all errors of a kind")
    panels[0].legend(loc="upper right")
    return figure


def _bars(axes: Axes, runs: dict[str, dict[int, dict[str, float]]], metrics: dict[str, str]) -> None:
    """A group of bars for each metric, a bar for each row, a dot for each seed; metrics by their labels."""
    width = 0.8 / len(runs)
    for i, (row, seeds) in enumerate(runs.items()):
        x = np.arange(len(metrics)) + (i - (len(runs) - 1) / 2) * width
        values = np.array([[run.get(metric, np.nan) for metric in metrics] for run in seeds.values()])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
        axes.bar(x, values.mean(axis=0), width * 0.92, yerr=spread, capsize=4, color=f"C{i}", label=row)
        for seed in values:
            axes.plot(x, seed, "o", color="black", markersize=3)
    axes.set_xticks(range(len(metrics)), metrics.values())


def class_accuracy(runs: dict[str, list[dict]], window: int = 10) -> Figure:
    """Accuracy of each class, the most frequent first, and above it how many images it was learnt from.

    Args:
        runs: for each row and seed a record with counts (K,) and per_class (K,) in percent.
        window: classes that the lines average over.
    """
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.5), height_ratios=(1, 2.5))
    counts = next(iter(runs.values()))[0]["counts"]
    above.bar(range(len(counts)), counts, width=1, color="0.6")
    above.set(yscale="log", ylabel="training\nimages")
    window = min(window, len(counts))
    for i, (row, seeds) in enumerate(runs.items()):
        values = np.array([run["per_class"] for run in seeds], dtype=float).mean(axis=0)
        below.plot(values, ".", color=f"C{i}", alpha=0.6)
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        below.plot(np.arange(len(smooth)) + (window - 1) / 2, smooth, color=f"C{i}", label=row)
    below.set(xlabel="class, by frequency in training", ylabel="test accuracy [%]", ylim=(0, 100))
    below.legend(loc="upper right")
    return figure


def adaptation(histories: list[list[dict]], frequency: list[str]) -> Figure:
    """Sampling probability and held-out loss over training, by frequency group: mean and range of the seeds.

    Args:
        histories: for each seed T records with iteration, probability (K,), and class_loss or class_ap (K,).
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2))
    histories = [history for history in histories if history]
    if not histories:
        panels[0].text(0.5, 0.5, "no row adapted", ha="center", transform=panels[0].transAxes)
        return figure
    iterations = [record["iteration"] for record in histories[0]]
    signals = dict(class_loss="mean held-out class loss [nats]", class_ap="mean held-out box AP of a class")
    keys = dict(probability="mean probability $p_c$ of a draw") | {
        key: label for key, label in signals.items() if key in histories[0][0]
    }
    for axes, (key, label) in zip(panels, keys.items(), strict=True):
        values = np.array([[record[key] for record in history] for history in histories], dtype=float)
        for letter, name in FREQUENCY.items():
            mine = values[..., [f == letter for f in frequency]]
            curves = np.nanmean(mine, axis=-1)  # (seeds, T)
            axes.plot(iterations, curves.mean(axis=0), "o-", markersize=4, color=COLOUR[letter], label=name)
            axes.fill_between(
                iterations, curves.min(axis=0), curves.max(axis=0), color=COLOUR[letter], alpha=0.2
            )
        axes.set(xlabel="iteration after the warm-up", ylabel=label)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*panels[0].get_legend_handles_labels(), title="classes", loc="outside right upper")
    return figure


def group_map(points: np.ndarray, groups: np.ndarray, names: list[str], frequency: list[str]) -> Figure:
    """Classes in the plane, (K, 2), each by its name, groups of two and more by colour (Figure 1).

    Of many classes the names in small groups alone: others could not be read.
    """
    figure, axes = plt.subplots(figsize=(9, 7))
    sizes = np.bincount(groups)
    palette = plt.get_cmap("tab20").colors
    rank = {group: i for i, group in enumerate(np.argsort(-sizes, kind="stable"))}
    dense = len(groups) > DENSE
    colours = [palette[rank[one] % len(palette)] if sizes[one] > 1 else (0.75,) * 3 for one in groups]
    axes.scatter(*points.T, s=25 if dense else 380, c=colours, alpha=0.45, edgecolors="none")
    for (x, y), group, name, letter in zip(points, groups, names, frequency, strict=True):
        weight, size = "bold" if letter == "r" else "normal", 4 if dense else 15
        if not dense or 1 < sizes[group] < LARGE * len(groups):
            axes.text(x, y, name, ha="center", va="center", fontsize=size, weight=weight)
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2")
    axes.set_title(
        f"{len(sizes)} groups of {len(groups)} classes, the largest of {sizes.max()}, "
        f"{(sizes == 1).sum()} classes alone (grey); rare classes bold",
        fontsize=11,
    )
    return figure
