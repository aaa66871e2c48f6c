"""The figures, each from plain data; `fasa.report.style` sets how they look.

Every mark is explained in the figure itself, which may stand without the page around it.

Shapes: K classes, T adaptation passes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pycocotools.mask
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from fasa.data.lvis import image_path
from fasa.report.style import COLOUR, GROUP_COLOURS, GROUP_MARKERS, MARKER, row_colour
from fasa.report.tables import NAMES, words

FREQUENCY = dict(r="rare", c="common", f="frequent")
METRICS = dict(APr="rare", APc="common", APf="frequent")
TIDE_MAIN = {name: name for name in ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")}
TIDE_SPECIAL = dict(FalsePos="false\npositives", FalseNeg="false\nnegatives")
DENSE = 200  # classes in a plane, from which on not all names can be read
LARGE = 0.05  # the share of classes from which on a group's names are left out there
LISTED = 24  # groups in a map's legend
HALO = [withStroke(linewidth=2, foreground="white")]  # around text that lies on colours
Runs = dict[str, dict[int, dict[str, float]]]  # metrics by row and seed


def mark(marker: str, label: str, colour: str = "0.3", **style) -> Line2D:
    """An entry of a legend: one mark, and what it stands for."""
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label, **style)


def line(label: str, colour: str = "0.3", **style) -> Line2D:
    """An entry of a legend: a line, and what it stands for."""
    return Line2D([], [], color=colour, label=label, **style)


def known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is no NaN; NaN where nothing else is."""
    return np.ma.masked_invalid(values).mean(axis=axis).filled(np.nan)


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
    figure.suptitle("Scenes, the objects outlined")
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
        if not mine.any():
            continue
        axes.bar(
            np.flatnonzero(mine),
            counts[order][mine],
            width=1,
            color=COLOUR[key],
            label=f"{name} ({mine.sum()})",
        )
    axes.set(yscale="log", ylabel="instances in train", xlim=(-0.5, len(counts) - 0.5), ylim=(0.7, None))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="rank of the class, the most frequent first", xticks=[])
    axes.legend(title="group (classes)")
    figure.suptitle(f"The long tail: {counts.sum():,} training instances of {_classes(len(counts))}")
    return figure


def nothing_ran(why: str = "none of these rows has run") -> Figure:
    """In place of a figure of rows of which none has run."""
    figure, axes = plt.subplots(figsize=(6, 1))
    axes.axis("off")
    axes.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    return figure


def ap_by_frequency(runs: Runs) -> Figure:
    """AP of rare, common and frequent classes: a bar per row, its seeds' standard deviation, a dot per seed.

    Args:
        runs: the metrics of each seed of each row.
    """
    if not runs:
        return nothing_ran()
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9, 4.2))
    for axes, (kind, name) in zip(panels, NAMES.items(), strict=True):
        _bars(axes, runs, {f"{kind}_{metric}": name for metric, name in METRICS.items()})
        axes.set(title=f"{name} AP", xlabel="frequency group of the class")
    panels[0].set_ylabel("AP on val [%]")
    figure.suptitle("AP of rare, common and frequent classes")
    figure.legend(handles=_of_bars(runs), ncols=3, loc="outside lower center")
    return figure


def rows_by_frequency(runs: Runs, title: str, kind: str = "segm") -> Figure:
    """AP of rare, common and frequent classes for many rows: a dot for each seed; panels span as many points.

    Filled dots are the seeds that all rows have: only those compare. The dashed line is the first row's mean
    over them.

    Args:
        runs: the metrics of each seed of each row.
        title: what the rows are.
        kind: "segm" or "bbox".
    """
    if not runs:
        return nothing_ran()
    shared = set.intersection(*(set(seeds) for seeds in runs.values()))
    figure, panels = plt.subplots(1, 3, sharey=True, figsize=(9, 1.9 + 0.32 * len(runs)))
    for axes, (metric, name) in zip(panels, METRICS.items(), strict=True):
        colour = COLOUR[metric[-1]]
        for y, seeds in enumerate(runs.values()):
            for seed, metrics in seeds.items():
                face = colour if seed in shared else "none"
                value = metrics.get(f"{kind}_{metric}", np.nan)
                axes.plot(value, y, MARKER[metric[-1]], color=colour, mfc=face, alpha=0.7)
        first = next(iter(runs.values()))
        values = [first[seed].get(f"{kind}_{metric}", np.nan) for seed in shared]
        axes.axvline(np.mean(values) if values else np.nan, color="0.3", linestyle="--", linewidth=1)
        axes.set(title=name)
        if np.isnan(axes.dataLim.x0) or not np.isfinite(axes.dataLim.x0):
            axes.set_xticks([])
            axes.text(
                0.5, 0.5, "none on val", ha="center", va="center", transform=axes.transAxes, color="0.3"
            )
    spans = [axes.dataLim.intervalx for axes in panels if np.isfinite(axes.dataLim.intervalx).all()]
    widest = 1.1 * max([high - low for low, high in spans], default=0)
    for axes in panels:
        if np.isfinite(axes.dataLim.intervalx).all() and widest:
            axes.set_xlim(axes.dataLim.intervalx.mean() + np.array([-0.5, 0.5]) * widest)
    panels[0].set_yticks(range(len(runs)), map(words, runs))
    for label, row in zip(panels[0].get_yticklabels(), runs, strict=True):
        label.set_color(row_colour("fasa") if "fasa" in row.split("_") else "black")
    panels[0].set_ylim(len(runs) - 0.5, -0.5)  # the first row on top, half a row of air at both ends
    handles = []
    if shared:
        handles += [
            mark("o", "a seed that all rows have"),
            line(f"mean of {words(next(iter(runs)))}", ls="--", lw=1),
        ]
    if any(set(seeds) - shared for seeds in runs.values()):
        handles.append(mark("o", "a seed that some lack: compares with none", mfc="none"))
    handles.append(mark("$\\mathbf{A}$", "rows with FASA", row_colour("fasa"), markersize=9))
    panels[1].set_xlabel(f"{NAMES[kind]} AP on val [%]")  # once: three of them run into each other
    figure.suptitle(f"{title}: {NAMES[kind]} AP of rare, common and frequent classes")
    figure.legend(handles=handles, ncols=3, loc="outside lower center")
    return figure


def gain_by_class(gains: dict[str, np.ndarray], images: np.ndarray, frequency: list[str]) -> Figure:
    """What each class gains against how often it was learnt: a mark for a class, a bar for its group's mean.

    A few classes with few objects gain or lose far more than the rest; beyond five times what two thirds of
    all stay within they are arrows at the edge, and do not squeeze the others.

    Args:
        gains: for each pair of rows, by its title, the AP of each class above the other row's, mean over
            seeds, (K,) in points; NaN for a class without objects.
        images: of train that hold each class, (K,).
        frequency: group of each class, K.
    """
    if not gains:
        return nothing_ran()
    values = np.concatenate(list(gains.values()))
    sizes = np.abs(values)
    if np.isnan(sizes).all():
        return nothing_ran("no class has an object on val")
    edge = max(5 * np.percentile(sizes[~np.isnan(sizes)], 68, method="lower"), 1)
    low, high = (np.clip(most, -edge, edge) for most in (np.nanmin(values), np.nanmax(values)))
    across = min(len(gains), 3)
    lines = -(-len(gains) // across)
    size = (max(4.2 * across, 7), 1.4 + 3.4 * lines)
    figure, panels = plt.subplots(lines, across, sharex=True, sharey=True, figsize=size, squeeze=False)
    images = np.maximum(np.asarray(images), 1)
    for axes, (title, gain) in zip(panels.flat, gains.items(), strict=False):
        axes.axhline(0, color="0.3", linewidth=1)
        for letter in FREQUENCY:
            mine = np.array([f == letter for f in frequency]) & ~np.isnan(gain)
            if not mine.any():
                continue
            x, y, colour = images[mine], gain[mine], COLOUR[letter]
            inside = np.abs(y) <= edge
            axes.plot(x[inside], y[inside], MARKER[letter], markersize=5, alpha=0.6, color=colour)
            for marker, beyond in (("^", y > edge), ("v", y < -edge)):
                at = np.full(beyond.sum(), edge if marker == "^" else -edge)
                (arrows,) = axes.plot(x[beyond], at, marker, markersize=8, color=colour, clip_on=False)
                arrows.set_in_layout(False)
            axes.plot([x.min(), x.max()], [y.mean()] * 2, color=colour, linewidth=3, solid_capstyle="round")
        known = gain[~np.isnan(gain)]
        for beyond, far, place in ((known > edge, "up to +", 0.93), (known < -edge, "down to ", 0.03)):
            if beyond.any():
                most = known.max() if place > 0.5 else known.min()
                text = f"{beyond.sum()} beyond the frame, {far}{most:.1f}".replace("-", "\N{MINUS SIGN}")
                axes.text(0.98, place, text, transform=axes.transAxes, ha="right", fontsize=9)
        axes.set(title=title, xscale="log")
        axes.set_ylim(min(low, 0) - 0.05 * edge, max(high, 0) + 0.05 * edge)
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    for axes in panels[:, 0]:
        axes.set_ylabel("mask AP gained [points]")
    for axes in panels.flat[max(len(gains) - across, 0) : len(gains)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("images of train that hold the class")
    for axes in panels.flat[len(gains) :]:
        axes.axis("off")
    there = {
        f for gain in gains.values() for f, one in zip(frequency, gain, strict=True) if not np.isnan(one)
    }
    handles = [
        mark(MARKER[key], f"a {FREQUENCY[key]} class", COLOUR[key]) for key in FREQUENCY if key in there
    ]
    handles.append(line("mean of its group", linewidth=3))
    if (sizes > edge).any():
        handles.append(mark("^", "a class beyond the frame"))
    figure.suptitle("What each class gains")
    figure.legend(handles=handles, ncols=3, loc="outside lower center")
    return figure


def margin_sensitivity(margins: dict[float, dict[int, dict[str, float]]]) -> Figure:
    """AP over the angular margin (appendix F, Liu et al.): lines are means over seeds, marks the seeds.

    Args:
        margins: the metrics of each seed at each margin.
    """
    margins = {margin: seeds for margin, seeds in margins.items() if seeds}
    if not margins:
        return nothing_ran()
    figure, axes = plt.subplots()
    for metric, name in {"AP": "all", **METRICS}.items():
        values = [
            [seed.get(f"segm_{metric}", np.nan) for seed in seeds.values()] for seeds in margins.values()
        ]
        _curve(axes, list(margins), values, metric[-1], name)
    axes.set(xlabel="angular margin $m_a$ [rad]", ylabel="mask AP on val [%]", ylim=(0, None))
    axes.set_xticks(list(margins), [f"{margin:g}" for margin in margins])
    figure.suptitle("Angular transfer: AP over its margin")
    _classes_beside(figure, axes)
    return figure


def regimes(found: dict[str, Runs], ratios: dict[str, float]) -> Figure:
    """Mask APr / APf, and both by themselves, of a study's candidates: means over seeds.

    Args:
        found: metrics by candidate, row and seed.
        ratios: the rows, and the ratio of each on LVIS.
    """
    figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9, 2.2 + 0.4 * len(found)))
    handles = []
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
        colour = row_colour(row)
        panels[0].plot(rare / np.maximum(frequent, 1e-9), y, "o", color=colour)
        panels[0].axvline(wanted, color=colour, linestyle="--", linewidth=1)
        panels[1].plot(rare, y, MARKER["r"], color=colour)
        panels[1].plot(frequent, y, MARKER["f"], color=colour, mfc="none")
        handles += [
            Patch(color=colour, label=words(row)),
            line(f"its ratio on LVIS, {wanted:g}", colour, ls="--", lw=1),
        ]
    panels[0].set(title="rare over frequent", xlabel="mask APr / APf on tune", xlim=(0, None))
    panels[1].set(title="each by itself", xlabel="mask AP on tune [%]", xlim=(0, None))
    panels[0].set_yticks(range(len(found)), found)
    panels[0].set_ylim(len(found) - 0.5, -0.5)
    handles += [mark(MARKER["r"], "rare classes"), mark(MARKER["f"], "frequent classes", mfc="none")]
    figure.suptitle("How the tail fares in each regime, mean over seeds")
    figure.legend(handles=handles, ncols=len(ratios) + 1, loc="outside lower center")
    return figure


def scale_curve(found: dict[str, Runs], scales: dict[str, float]) -> Figure:
    """Mask AP and APr over `prob_scale`, a panel for each row: lines are means over seeds, marks the seeds.

    Args:
        found: metrics by candidate, row and seed.
        scales: the `prob_scale` of each candidate.
    """
    rows = list(next(iter(found.values())))
    names = sorted(found, key=scales.get)
    figure, panels = plt.subplots(
        1, len(rows), sharey=True, figsize=(4.2 * len(rows) + 1.8, 4.2), squeeze=False
    )
    for axes, row in zip(panels.flat, rows, strict=True):
        for metric, name in dict(AP="all", APr="rare").items():
            values = [
                [seed.get(f"segm_{metric}", np.nan) for seed in found[one][row].values()] for one in names
            ]
            _curve(axes, [scales[one] for one in names], values, metric[-1], name)
        axes.set_xscale("log", base=2)
        axes.set_xticks([scales[one] for one in names], [f"{scales[one]:g}" for one in names])
        axes.set(title=words(row), xlabel="prob_scale")
    panels[0, 0].set_ylabel("mask AP on tune [%]")
    figure.suptitle("AP by how often virtual features are drawn")
    _classes_beside(figure, panels[0, 0])
    return figure


def partner_shares(shares: dict[int, tuple[float, float]]) -> Figure:
    """How often a tail class meets a confusing class in its batch (appendix F, Chu et al.).

    Args:
        shares: as from `remarks.partners`.
    """
    if not shares:
        return nothing_ran()
    figure, axes = plt.subplots()
    for i, (label, style) in enumerate({"at least one": "o-", "all three": "s--"}.items()):
        axes.plot(
            list(shares), [both[i] for both in shares.values()], style, color=COLOUR["all"], label=label
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(shares), shares)
    axes.set(xlabel="images in a batch", ylabel="tail classes of a batch [%]", ylim=(-3, 103))
    figure.suptitle("Tail classes that meet confusing ones in a batch")
    figure.legend(title="of its three\nconfusing classes,\nmean over seeds", loc="outside right center")
    return figure


def tide_errors(runs: Runs, kind: str = "segm") -> Figure:
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
    figure.suptitle(f"Where AP50 of {dict(segm='masks', bbox='boxes')[kind]} is lost")
    figure.legend(handles=_of_bars(runs), ncols=3, loc="outside lower center")
    return figure


def _bars(axes: Axes, runs: Runs, metrics: dict[str, str]) -> None:
    """A group of bars for each metric, a bar for each row, a dot for each seed; metrics by their labels."""
    width = 0.8 / len(runs)
    for i, (row, seeds) in enumerate(runs.items()):
        x = np.arange(len(metrics)) + (i - (len(runs) - 1) / 2) * width
        values = np.array([[run.get(metric, np.nan) for metric in metrics] for run in seeds.values()])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
        axes.bar(x, values.mean(axis=0), width * 0.92, yerr=spread, capsize=4, color=row_colour(row))
        for seed in values:
            axes.plot(x, seed, "o", color="white", markeredgecolor="black", markersize=4, zorder=3)
        for place in x[np.isnan(values).all(axis=0)]:
            axes.text(place, 0, "none", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(metrics)), metrics.values())
    axes.set_xlim(-0.6, len(metrics) - 0.4)


def _of_bars(runs: Runs) -> list[Line2D | Patch]:
    """The legend of `_bars`."""
    handles = [Patch(color=row_colour(row), label=words(row)) for row in runs]
    handles.append(mark("o", "a seed", "black", mfc="white", markersize=4))
    if any(len(seeds) > 1 for seeds in runs.values()):
        handles.append(mark("|", "standard deviation", "black", markersize=12))
    return handles


def _curve(axes: Axes, x: Sequence[float], values: Iterable[Sequence[float]], key: str, label: str) -> None:
    """A line through the means over seeds, and a mark for each seed."""
    key = key if key in MARKER else "all"
    style = dict(color=COLOUR[key], marker=MARKER.get(key, "x"), markersize=5)
    axes.plot(x, [np.mean(seeds) for seeds in values], color=COLOUR[key])
    for one, seeds in zip(x, values, strict=True):
        axes.plot([one] * len(seeds), seeds, linestyle="", **style)
    axes.plot([], [], label=label, **style)


def _classes_beside(figure: Figure, axes: Axes) -> None:
    """The legend of `_curve`."""
    handles, _ = axes.get_legend_handles_labels()
    handles.append(line("mean over seeds"))
    figure.legend(handles=handles, title="a seed's AP of\nclasses that are", loc="outside right center")


def _classes(number: int) -> str:
    return f"{number:,} class" if number == 1 else f"{number:,} classes"


def class_accuracy(runs: dict[str, list[dict]], window: int = 10) -> Figure:
    """Accuracy of each class, the most frequent first, and above it how many images it was learnt from.

    Args:
        runs: for each row and seed a record with counts (K,) and per_class (K,) in percent.
        window: classes that the lines average over.
    """
    if not runs:
        return nothing_ran()
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5.5), height_ratios=(1, 2.5))
    counts = next(iter(runs.values()))[0]["counts"]
    ranks = np.arange(1, len(counts) + 1)
    above.bar(ranks, counts, width=1, color="0.3")
    above.set(yscale="log", ylabel="training\nimages")
    many = len(counts) > 2 * window
    window, size = (window, 3) if many else (1, 8)
    for marker, (row, seeds) in zip("osDv^p", runs.items(), strict=False):
        values = np.array([run["per_class"] for run in seeds], dtype=float).mean(axis=0)
        style = dict(color=row_colour(row), marker=marker)
        below.plot(ranks, values, linestyle="", markersize=size, alpha=0.6, **style)
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        below.plot(ranks[: len(smooth)] + (window - 1) / 2, smooth, color=row_colour(row), linewidth=2)
        below.plot([], [], label=words(row), **style)
    below.set(xlabel="rank of the class, the most frequent first", ylabel="test accuracy [%]", ylim=(-3, 103))
    if not many:
        below.set_xticks(ranks)
    handles, _ = below.get_legend_handles_labels()
    handles.append(mark("o", "a class, mean over seeds", markersize=size))
    if many:
        handles.append(line(f"mean of {window} neighbours", lw=2))
    figure.suptitle("Accuracy from the most to the least frequent class")
    figure.legend(handles=handles, ncols=3, loc="outside lower center")
    return figure


def adaptation(histories: list[list[dict]], frequency: list[str]) -> Figure:
    """Sampling probability and held-out loss over training, by frequency group: mean and range of the seeds.

    Args:
        histories: for each seed T records with iteration, probability (K,), and class_loss or class_ap (K,);
            those that adapted at other iterations than the first are left out.
    """
    histories = [history for history in histories if history]
    if not histories:
        return nothing_ran("no row adapted")
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2))
    iterations = [record["iteration"] for record in histories[0]]
    histories = [one for one in histories if [record["iteration"] for record in one] == iterations]
    signals = dict(class_loss="mean held-out class loss [nats]", class_ap="mean held-out box AP of a class")
    keys = dict(probability="mean probability $p_c$ of a draw") | {
        key: label for key, label in signals.items() if key in histories[0][0]
    }
    for axes, (key, label) in zip(panels, keys.items(), strict=True):
        values = np.array([[record[key] for record in history] for history in histories], dtype=float)
        for letter in (key for key in FREQUENCY if key in frequency):
            curves = known_mean(values[..., [f == letter for f in frequency]], axis=-1)  # (seeds, T)
            colour = COLOUR[letter]
            axes.plot(iterations, curves.mean(axis=0), marker=MARKER[letter], markersize=4, color=colour)
            axes.fill_between(iterations, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.2)
        axes.set(xlabel="iteration after the warm-up", ylabel=label)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    handles = [
        line(f"{name} classes", COLOUR[key], marker=MARKER[key], markersize=4)
        for key, name in FREQUENCY.items()
        if key in frequency
    ]
    handles += [
        line(f"mean over seeds ({len(histories)})"),
        Patch(color="0.3", alpha=0.2, label="their range"),
    ]
    panels[0].set_title("what is drawn")
    panels[1].set_title("what decides it")
    figure.suptitle("What the adaptation did")
    figure.legend(handles=handles, ncols=5, loc="outside lower center")
    return figure


def group_map(points: np.ndarray, groups: np.ndarray, names: list[str], frequency: list[str]) -> Figure:
    """Classes in the plane, (K, 2), each by its name; a group of several has a colour, a shape, a number.

    Of many classes the names in small groups alone: others could not be read.
    """
    figure, axes = plt.subplots(figsize=(10, 7.4))
    sizes = np.bincount(groups)
    dense = len(groups) > DENSE
    area, font = (25, 4) if dense else (380, 14)
    handles = []
    for number, group in enumerate(np.argsort(-sizes, kind="stable"), start=1):
        if sizes[group] < 2:
            break
        style = dict(
            color=GROUP_COLOURS[number % len(GROUP_COLOURS)],
            marker=GROUP_MARKERS[number % len(GROUP_MARKERS)],
        )
        mine = points[groups == group]
        axes.scatter(*mine.T, s=area, alpha=0.45, edgecolors="none", **style)
        middle = mine[[np.argmin(np.sum((mine - mine.mean(axis=0)) ** 2, axis=1))]]
        for place in middle if dense else mine:
            axes.annotate(
                number,
                place,
                (9, -11),
                textcoords="offset points",
                fontsize=7,
                color="0.3",
                path_effects=HALO,
                zorder=4,
            )
        handles.append(
            Line2D([], [], linestyle="", alpha=0.6, label=f"{number}: {_classes(sizes[group])}", **style)
        )
    alone = sizes[groups] == 1
    if alone.any():
        axes.scatter(*points[alone].T, s=area, facecolors="none", edgecolors="0.75")
    for (x, y), group, name, letter in zip(points, groups, names, frequency, strict=True):
        style = dict(color=COLOUR["r"], path_effects=HALO) if letter == "r" else {}
        if not dense or 1 < sizes[group] < LARGE * len(groups):
            axes.text(x, y, name, ha="center", va="center", fontsize=font, **style)
    if len(handles) > LISTED:
        more = len(handles) - LISTED
        handles = [*handles[:LISTED], Line2D([], [], linestyle="", label=f"and {more} smaller ones")]
    if alone.any():
        handles.append(mark("o", f"{_classes(alone.sum())} alone", "0.75", mfc="none"))
    handles.append(mark("$A$", "a rare class", COLOUR["r"], markersize=9))
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    several = (sizes > 1).sum()
    found = f"{several} {'group' if several == 1 else 'groups'} of two or more, {(sizes == 1).sum()} alone"
    figure.suptitle(f"{_classes(len(groups))} by their mean embeddings: {found}")
    figure.legend(handles=handles, title="group", loc="outside right center")
    return figure
