"""Figure 1: the groups of classes that Mean-shift finds, against what a rendered set knows of its classes.

Shapes: K classes, P permutations.
"""

from string import ascii_lowercase as LETTERS

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

from fasa.report.claims import PERMUTATIONS, companions, look_alikes, nearness, same_group
from fasa.report.figures import DENSE, HALO, group_map, line, mark
from fasa.report.tables import markdown, signed

BLUE = "#0000CC"
NEAR = (
    0.15  # of the plane's width: companions nearer than that are circled, look-alikes than twice that boxed
)
PAD = 0.022  # of it, around a class's name
MARK = np.array([0.05, 0.065])  # of its width and height: what a class's mark takes
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
        "pairs in one group",
        "by chance",
        "nearer than pairs on average, %",
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
                body.append([*head, name, *["-"] * 5])
                continue
            truth, together = clusters(pairs, len(mine)), same_group(classes)
            rng = np.random.default_rng(0)
            shuffled = [rng.permutation(len(mine)) for _ in range(PERMUTATIONS // 10)]
            by_chance = [purity(mine[one], truth) for one in shuffled]
            share, found = together[pairs[:, 0], pairs[:, 1]].mean(), purity(mine, truth)
            low, high = np.percentile(by_chance, [2.5, 97.5])
            expected = together[np.triu_indices(len(mine), 1)].mean()
            numbers = [
                f"{round(share * len(pairs) / 100)} of {len(pairs)} ({share:.0f}%)",
                f"{expected:.1f}%",
                signed(nearness(classes)[pairs[:, 0], pairs[:, 1]].mean()),
                f"{found:.0f}",
                f"{np.mean(by_chance):.0f} [{low:.0f}, {high:.0f}]",
            ]
            body.append([*head, name, *numbers])
            ahead.append((name, found > high))
    if not body:
        return "Nothing yet: no class has been grouped, or rows share no warm-up whose classes could be."
    told = "; ".join(
        f"purity against {name} is beyond chance in {sum(one for which, one in ahead if which == name)} of "
        f"{sum(which == name for which, _ in ahead)} seeds"
        for name in dict(ahead)
    )
    told = told or "this data set does not say which classes are alike"
    return f"{markdown(header, body)}\n\n**Read:** {told}."


def apart(points: np.ndarray) -> np.ndarray:
    """Points of the plane, (K, 2), of which those whose marks would overlap are pushed away from each other.

    Points that are the same stay so.
    """
    size = MARK * np.maximum(np.ptp(points, axis=0), 1e-9)
    at = points / size
    for _ in range(200):
        between = at[:, None] - at
        distance = np.linalg.norm(between, axis=-1)
        push = np.clip(1 - distance, 0, None) / 2
        at = at + (between * (push / np.maximum(distance, 1e-9))[..., None]).sum(axis=1)
    return at * size


def figure(classes: list[dict]) -> Figure:
    """The map of the classes and their groups; look-alikes boxed, companions circled, as one where near."""
    points = np.array([one["point"] for one in classes])
    points = apart(points) if len(points) <= DENSE else points
    groups = np.array([one["group"] for one in classes])
    drawn = group_map(points, groups, *([one[key] for one in classes] for key in ("shown", "frequency")))
    axes, width = drawn.axes[0], np.ptp(points, axis=0).max()
    alike = clusters(look_alikes(classes), len(classes))
    for mine in (np.flatnonzero(alike == one) for one in np.flatnonzero(np.bincount(alike) > 1)):
        boxed = set()
        for group in np.unique(groups[mine]):
            together = mine[groups[mine] == group]
            low, high = points[together].min(axis=0) - PAD * width, points[together].max(axis=0) + PAD * width
            inside = ((low < points) & (points < high)).all(axis=1)
            if inside.sum() == len(together) > 1 and max(high - low) < 2 * NEAR * width:
                axes.add_patch(Rectangle(low, *(high - low), fill=False, linestyle="--", edgecolor="black"))
                boxed |= set(together)
        for one in set(mine) - boxed:
            others = mine[mine != one]
            nearest = others[np.linalg.norm(points[others] - points[one], axis=1).argmin()]
            axes.plot(*points[[one, nearest]].T, color="black", linestyle=":", linewidth=1, zorder=0)
    rings = 0
    for pair in companions(classes):
        a, b = points[pair]
        length = np.hypot(*(b - a))
        angle = np.degrees(np.arctan2(*(b - a)[::-1]))
        size = length + 3 * PAD * width, 3 * PAD * width
        ellipse = Ellipse((a + b) / 2, *size, angle=angle, fill=False, edgecolor=BLUE, linewidth=1.4)
        if length < NEAR * width and ellipse.contains_points(points).sum() == 2:
            axes.add_patch(ellipse)
        else:
            axes.scatter(*points[pair].T, s=620, facecolors="none", edgecolors=BLUE, linewidths=1.4, zorder=3)
            for place in points[pair]:
                style = dict(fontsize=9, color=BLUE, weight="bold", path_effects=HALO, zorder=4)
                axes.annotate(
                    LETTERS[rings % len(LETTERS)], place, (-16, 7), textcoords="offset points", **style
                )
            rings += 1
    marks = {
        Rectangle: line("box: look-alikes of one group, near and alone", "black", ls="--"),
        "black": line("other look-alikes, to the nearest", "black", ls=":", lw=1),
        Ellipse: line("ellipse: often seen together, near and alone", BLUE, lw=1.4),
        BLUE: mark("o", "rings of one letter: often seen together", BLUE, mfc="none", markersize=11),
    }
    there = (
        {type(one) for one in axes.patches}
        | {one.get_color() for one in axes.lines}
        | ({BLUE} if rings else set())
    )
    handles = [handle for kind, handle in marks.items() if kind in there]
    drawn.legend(handles=handles, ncols=2, loc="outside lower left")
    return drawn
