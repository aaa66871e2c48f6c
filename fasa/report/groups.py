"""Figure 1: the groups of classes that Mean-shift finds, against what a rendered set knows of its classes.

Shapes: K classes, P permutations.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

from fasa.report.claims import PERMUTATIONS, companions, look_alikes, same_group
from fasa.report.tables import markdown

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito's
ALONE = "0.6"
DENSE = 200  # classes, from which on names cannot be read
NEAR = (
    0.15  # of the plane's width: companions nearer than that are circled, look-alikes than twice that boxed
)
TRUTHS = {"look-alikes": look_alikes, "seen together": companions}


def purity(groups: np.ndarray, truth: np.ndarray) -> float:
    """Share of classes, in percent, that belong to the most frequent true cluster of their group.

    Args:
        groups, truth: of each class, numbers from 0, (K,).
    """
    table = np.zeros((groups.max() + 1, truth.max() + 1))
    np.add.at(table, (groups, truth), 1)
    return 100 * table.max(axis=1).sum() / len(groups)


def clusters(pairs: np.ndarray, classes: int) -> np.ndarray:
    """Which classes pairs join, directly or through others, (K,) numbers from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(classes, classes))
    return connected_components(joined, directed=False)[1]


def table(groups: dict[int, list[dict]]) -> str:
    """Of each seed how many groups there are, and how well they agree with each truth, by chance too.

    Args:
        groups: of each seed the classes, as `fasa.data.census.group_text` writes them.
    """
    header = [
        "seed",
        "groups",
        "classes alone",
        "truth",
        "pairs in one group, %",
        "by chance",
        "purity, %",
        "by chance",
    ]
    body, ahead = [], []
    for seed, classes in groups.items():
        mine = np.array([one["group"] for one in classes])
        sizes = np.bincount(mine)
        head = [str(seed), str(len(sizes)), str((sizes == 1).sum())]
        for name, pairs_of in TRUTHS.items():
            pairs = pairs_of(classes)
            if not len(pairs):
                body.append([*head, name, "-", "-", "-", "-"])
                continue
            truth, together = clusters(pairs, len(mine)), same_group(classes)
            rng = np.random.default_rng(0)
            shuffled = [rng.permutation(len(mine)) for _ in range(PERMUTATIONS // 10)]
            by_chance = [purity(mine[one], truth) for one in shuffled]
            share, found = together[pairs[:, 0], pairs[:, 1]].mean(), purity(mine, truth)
            low, high = np.percentile(by_chance, [2.5, 97.5])
            expected = together[np.triu_indices(len(mine), 1)].mean()
            numbers = [
                f"{share:.0f}",
                f"{expected:.0f}",
                f"{found:.0f}",
                f"{np.mean(by_chance):.0f} [{low:.0f}, {high:.0f}]",
            ]
            body.append([*head, name, *numbers])
            ahead.append((name, found > high))
    if not body:
        return "Not run: no classes have been grouped."
    told = "; ".join(
        f"purity against {name} is beyond chance in {sum(one for which, one in ahead if which == name)} of "
        f"{sum(which == name for which, _ in ahead)} seeds"
        for name in dict(ahead)
    )
    told = told or "this data set does not say which classes are alike"
    return f"{markdown(header, body)}\n\n**Read:** {told}."


def figure(classes: list[dict]) -> Figure:
    """Classes in the plane, each joined to the middle of its group; look-alikes boxed, companions circled."""
    points = np.array([one["point"] for one in classes])
    groups = np.array([one["group"] for one in classes])
    sizes = np.bincount(groups)
    width = np.ptp(points, axis=0).max()
    drawn, axes = plt.subplots(figsize=(9, 7.4))
    rank = {group: i for i, group in enumerate(np.argsort(-sizes, kind="stable"))}
    colours = [COLOURS[rank[one] % len(COLOURS)] if sizes[one] > 1 else ALONE for one in groups]
    for group in np.flatnonzero(sizes > 1):
        mine = points[groups == group]
        middle = mine.mean(axis=0)
        for point in mine:
            axes.plot(
                *zip(point, middle, strict=True),
                color=COLOURS[rank[group] % len(COLOURS)],
                linewidth=0.7,
                alpha=0.5,
            )
    dense = len(classes) > DENSE
    axes.scatter(*points.T, s=25 if dense else 330, c=colours, alpha=0.3, edgecolors="none")
    for (x, y), one in [] if dense else zip(points, classes, strict=True):
        weight = "bold" if one["frequency"] == "r" else "normal"
        axes.text(x, y, one["shown"], ha="center", va="center", fontsize=14, weight=weight)
    pad = 0.022 * width
    alike = clusters(look_alikes(classes), len(classes))
    for mine in (np.flatnonzero(alike == one) for one in np.flatnonzero(np.bincount(alike) > 1)):
        boxed = set()
        for group in np.unique(groups[mine]):
            together = mine[groups[mine] == group]
            low, high = points[together].min(axis=0) - pad, points[together].max(axis=0) + pad
            if len(together) > 1 and max(high - low) < 2 * NEAR * width:
                axes.add_patch(Rectangle(low, *(high - low), fill=False, linestyle="--", edgecolor="black"))
                boxed |= set(together)
        for one in set(mine) - boxed:
            others = mine[mine != one]
            nearest = others[np.linalg.norm(points[others] - points[one], axis=1).argmin()]
            _line(axes, points[[one, nearest]], "black")
    for a, b in companions(classes):
        apart = points[b] - points[a]
        length = np.hypot(*apart)
        if length < NEAR * width:
            angle = np.degrees(np.arctan2(*apart[::-1]))
            size = length + 3 * pad, 3 * pad
            axes.add_patch(
                Ellipse(
                    points[[a, b]].mean(axis=0),
                    *size,
                    angle=angle,
                    fill=False,
                    edgecolor="#0000CC",
                    linewidth=1.4,
                )
            )
        else:
            _line(axes, points[[a, b]], "#0000CC")
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", aspect="equal")
    axes.grid(False)
    counted = f"{len(sizes)} groups of {len(classes)} classes, the largest of {sizes.max()}"
    axes.set_title(f"{counted}, {(sizes == 1).sum()} alone", fontsize=12)
    handles = [
        plt.Line2D(
            [], [], color=COLOURS[0], marker="o", alpha=0.5, label="a group: its classes and their middle"
        ),
        plt.Line2D([], [], color=ALONE, marker="o", linestyle="", label="a class alone; a rare one is bold"),
        plt.Line2D(
            [], [], color="black", linestyle="--", label="box: look-alikes that share a group, and near"
        ),
        plt.Line2D([], [], color="black", linestyle=":", label="another class's nearest look-alike"),
        plt.Line2D([], [], color="#0000CC", label="ellipse: often seen together, and near"),
        plt.Line2D([], [], color="#0000CC", linestyle=":", label="seen together, and far"),
    ]
    shown = handles if len(look_alikes(classes)) else handles[:2]
    drawn.legend(handles=shown, loc="outside lower center", ncols=2, fontsize=10)
    return drawn


def _line(axes: Axes, ends: Sequence, colour: str) -> None:
    axes.plot(*np.transpose(ends), color=colour, linestyle=":", linewidth=1, zorder=0)
