"""What a person looks at in JupyterLab: one class of an evaluated run, from all sides.

Shapes: K classes in the order of their ids, D the width of embeddings, T adaptation passes, P embeddings.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from fasa.class_stats import ClassMoments
from fasa.data import lvis, source
from fasa.data.images import LongTailed
from fasa.errors import UserError
from fasa.evaluation import ERRORS, Detections, GroundTruth, Result, by_class
from fasa.evaluation.ap import RECALLS
from fasa.report.figures import FREQUENCY, line, nothing_ran, outline
from fasa.report.style import COLOUR, MARKER, ROWS
from fasa.report.summary import read_census

NEAREST = 8  # classes that are named beside one
OBJECTS = 14  # of a class that are shown


Embed = Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]


class Classes(NamedTuple):
    """The classes of a data set: what its census says of each, and the annotations of train."""

    census: list[dict[str, Any]]
    train: dict[str, Any]
    images: str  # the folder

    @classmethod
    def read(cls, profile: str) -> "Classes":
        """Of a profile that has been prepared."""
        data = f"data/{profile}"
        train = lvis.read_annotations(f"{data}/annotations/train.json")
        return cls(read_census(f"results/{profile}")["classes"], train, source(data).images)

    def options(self) -> list[tuple[str, int]]:
        """Each class with a label to choose it by: rare ones first, of those the one with most objects."""
        order = sorted(
            range(len(self.census)), key=lambda k: ("rcf".index(self.frequency(k)), -self.census[k]["train"])
        )
        return [(f"{self.shown(k)}   {FREQUENCY[self.frequency(k)]}, {self.name(k)}", k) for k in order]

    def shown(self, k: int) -> str:
        return self.census[k]["shown"]

    def name(self, k: int) -> str:
        return self.census[k]["name"]

    def frequency(self, k: int) -> str:
        return self.census[k]["frequency"]

    def colour(self, k: int) -> str:
        return COLOUR[self.frequency(k)]


def objects(classes: Classes, k: int) -> Figure:
    """Objects of a class in train, each with its outline and some of what lies about it."""
    ids = [category["id"] for category in classes.train["categories"]]
    mine = [one for one in classes.train["annotations"] if one["category_id"] == ids[k]]
    images = {image["id"]: image for image in classes.train["images"]}
    figure, panels = plt.subplots(2, OBJECTS // 2, figsize=(10, 3.4))
    for axes, annotation in zip(panels.flat, mine, strict=False):
        image, (x, y, width, height) = images[annotation["image_id"]], annotation["bbox"]
        axes.imshow(plt.imread(lvis.image_path(classes.images, image)))
        outline(axes, annotation.get("segmentation"), annotation["bbox"], image)
        side = 0.75 * max(width, height)
        axes.set(xlim=(x + width / 2 - side, x + width / 2 + side))
        axes.set(ylim=(y + height / 2 + side, y + height / 2 - side))
    for axes in panels.flat:
        axes.axis("off")
    one = classes.census[k]
    figure.suptitle(
        f"{one['shown']}   {one['name']}, {FREQUENCY[one['frequency']]}: {len(mine)} objects "
        f"in {one['images']} images of train, {one['val']} objects in val"
    )
    return figure


def moments(classes: Classes, saved: ClassMoments, k: int) -> Figure:
    """A class's mean and standard deviation in each dimension, and the classes whose means point its way."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(3, 2))
    mean, std = saved.mean.numpy(), saved.var.sqrt().numpy()
    order = np.argsort(-mean[k], kind="stable")
    x = np.arange(len(order))
    low, high = mean[k, order] - std[k, order], mean[k, order] + std[k, order]
    left.fill_between(x, low, high, color=classes.colour(k), alpha=0.3, label="± standard deviation", lw=0)
    left.plot(x, mean[k, order], color=classes.colour(k), label="mean")
    left.set(xlabel="dimension of the embedding, largest mean first", ylabel="value", xlim=(0, len(x) - 1))
    left.legend()
    near = nearest(saved, k)
    cosine = cosines(mean, k)
    y = np.arange(len(near))
    right.barh(y, cosine[near], color=[classes.colour(one) for one in near])
    right.set_yticks(y, [classes.shown(one) for one in near])
    right.set(ylim=(len(near) - 0.5, -0.5), xlim=(min(0, *cosine[near]), 1), xlabel="cosine of the two means")
    right.set_title("nearest classes")
    figure.suptitle(f"Moments of {classes.shown(k)}")
    return figure


def cosines(mean: np.ndarray, k: int) -> np.ndarray:
    """Of each class's mean, (K, D), with that of class k: (K,)."""
    length = np.linalg.norm(mean, axis=1)
    return mean @ mean[k] / np.maximum(length * length[k], 1e-12)


def nearest(saved: ClassMoments, k: int, n: int = NEAREST) -> list[int]:
    """The classes, k left out, whose means point its way most, of those that were seen."""
    cosine = np.where(saved.seen.numpy() > 0, cosines(saved.mean.numpy(), k), -np.inf)
    return [one for one in np.argsort(-cosine, kind="stable").tolist() if one != k and cosine[one] > -np.inf][
        :n
    ]


def virtual(saved: ClassMoments, k: int, n: int, seed: int = 0) -> np.ndarray:
    """As FASA draws them for a class: mean + standard deviation * eps, (n, D); main paper, sec. 3.1."""
    eps = np.random.default_rng(seed).standard_normal((n, saved.mean.shape[1]))
    return saved.mean[k].numpy() + saved.var[k].sqrt().numpy() * eps


def feature_map(classes: Classes, saved: ClassMoments, embed: Embed, k: int) -> Figure:
    """A class's real and virtual features in the plane by t-SNE, with real ones of its three nearest classes.

    Args:
        embed: gives embeddings of objects of train, (P, D), and their classes, (P,), for some classes: an
            `Embedder` of `fasa.detection.embeddings`.
    """
    from sklearn.manifold import TSNE  # a second

    z, label = embed([k, *nearest(saved, k, 3)])
    figure, axes = plt.subplots(figsize=(7.5, 5))
    drawn = virtual(saved, k, 40)
    points = np.concatenate([z, drawn])
    plane = TSNE(perplexity=min(20, (len(points) - 1) / 3), init="pca", random_state=0).fit_transform(points)
    real, made = plane[: len(z)], plane[len(z) :]
    for i, one in enumerate(one for one in dict.fromkeys(label.tolist()) if one != k):
        mine, style = label == one, dict(marker="sD^v"[i % 4], color=str(0.45 + 0.12 * (i % 4)))
        axes.scatter(*real[mine].T, s=22, label=f"{classes.shown(one)}, real", **style)
    axes.scatter(*real[label == k].T, s=45, color="black", label=f"{classes.shown(k)}, real", zorder=3)
    axes.scatter(
        *made.T, s=40, marker="x", color=ROWS[False, True], label=f"{classes.shown(k)}, virtual", zorder=2
    )
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"Features of {classes.shown(k)} and its nearest classes")
    return figure


def sampling(classes: Classes, passes: list[dict[str, Any]], k: int) -> Figure:
    """How often a class is drawn, and what decides it, over training; thin lines are others of its group.

    Args:
        passes: T records of `fasa.detection.adaptation`; of a cascade the first stage's are taken.
    """
    passes = [one for one in passes if not one.get("stage")]
    if not passes:
        return nothing_ran("this row does not adapt")
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.9))
    signals = dict(class_loss="held-out loss [nats]", class_ap="held-out box AP")
    keys = dict(probability="probability $p_c$ of a draw") | {
        key: label for key, label in signals.items() if key in passes[0]
    }
    x, group = [one["iteration"] for one in passes], passes[-1]["group"]
    mates = [one for one in range(len(group)) if group[one] == group[k] and one != k and group[k] >= 0]
    for axes, (key, label) in zip(panels, keys.items(), strict=True):
        values = np.array([one[key] for one in passes], dtype=float)
        for one in mates:
            axes.plot(x, values[:, one], color="0.7", linewidth=1)
        axes.plot(x, values[:, k], marker=MARKER[classes.frequency(k)], color=classes.colour(k))
        axes.set(xlabel="iteration after the warm-up", ylabel=label, ylim=(0, None))
    handles = [line(classes.shown(k), classes.colour(k)), line("others of its group", "0.7")]
    figure.legend(handles=handles, ncols=2, loc="outside lower center")
    named = " ".join(classes.shown(one) for one in mates[:20]) or "nothing else"
    figure.suptitle(f"How often {classes.shown(k)} is drawn; in its group at the end: {named}")
    return figure


def precision_recall(classes: Classes, result: Result, k: int) -> Figure:
    """Precision over recall of a class at an IoU of .5 and .75, and the mean over .5 to .95."""
    curves = result.precision[..., k]
    if np.isnan(curves).all():
        return nothing_ran(f"val has no object of {classes.shown(k)}")
    figure, axes = plt.subplots(figsize=(6, 4))
    shown = {"IoU .5": (curves[0], "-"), "IoU .75": (curves[5], "--"), "mean": (curves.mean(axis=0), ":")}
    for label, (curve, dashes) in shown.items():
        said = f"{label}: AP {100 * curve.mean():.1f}"
        axes.plot(RECALLS, curve, dashes, color=classes.colour(k), label=said, linewidth=2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    figure.suptitle(f"Precision and recall of {classes.shown(k)}")
    axes.legend(loc="upper right")
    return figure


def error_counts(classes: Classes, gt: GroundTruth, detections: Detections, k: int) -> Figure:
    """How many of TIDE's errors a class has, by kind, among the best 300 detections of each image."""
    figure, axes = plt.subplots(figsize=(8, 3))
    counts = {name: int(n[k]) for name, n in by_class(gt, detections, gt.iou_type).items()}
    bars = axes.barh(list(counts), list(counts.values()), color=classes.colour(k))
    axes.bar_label(bars, padding=3)
    for y, name in enumerate(counts):
        axes.text(1.02, y, ERRORS[name], transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set(xlabel="errors", xlim=(0, 1.2 * max(*counts.values(), 1)))
    figure.suptitle(f"Errors with {classes.shown(k)}")
    axes.invert_yaxis()
    return figure


def class_precision(class_ap: dict[str, np.ndarray], census: list[dict[str, Any]]) -> Figure:
    """AP of each class against the images of train that hold it, a panel for masks and boxes each.

    Args:
        class_ap: in percent, (K,), NaN for a class without objects, by "segm" and "bbox".
    """
    figure, panels = plt.subplots(1, len(class_ap), figsize=(4.6 * len(class_ap) + 1, 4), squeeze=False)
    images = np.maximum([one["images"] for one in census], 1)
    for axes, (kind, ap) in zip(panels.flat, class_ap.items(), strict=True):
        for letter, name in FREQUENCY.items():
            mine = np.array([one["frequency"] == letter for one in census])
            axes.plot(images[mine], ap[mine], MARKER[letter], alpha=0.6, color=COLOUR[letter], label=name)
        what = dict(segm="masks", bbox="boxes")[kind]
        axes.set(title=what, xscale="log", xlabel="images of train that hold the class", ylim=(-2, 102))
    panels[0, 0].set_ylabel("AP on val [%]")
    panels[0, -1].legend(title="a class that is", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle("AP of each class")
    return figure


def one_of_each(data: LongTailed, most: int = 40) -> Figure:
    """The first image of train of each class, the most frequent first; of many classes every few."""
    shown = np.unique(np.linspace(0, len(data.names) - 1, min(most, len(data.names))).astype(int))
    lines = -(-len(shown) // 10)
    figure, panels = plt.subplots(lines, 10, figsize=(10, 1.4 * lines), squeeze=False)
    for axes, k in zip(panels.flat, shown.tolist(), strict=False):
        image = data.train.images[np.flatnonzero(data.train.labels == k)[0]]
        axes.imshow(image.squeeze(), cmap="gray" if image.shape[-1] == 1 else None)
        axes.set_title(f"{data.names[k][:12]}: {data.counts[k]}", fontsize=8)
    for axes in panels.flat:
        axes.axis("off")
    return figure


def evaluated(profile: str, first: str) -> list[tuple[str, Path]]:
    """The runs of a profile that have been evaluated here, ROW-SEED and the file of detections of each.

    Args:
        first: the run to begin with, if it is among them.

    Raises:
        UserError: there are none.
    """
    paths = sorted(Path("runs", profile, "evaluate").glob("*/detections.npz"))
    if not paths:
        raise UserError(
            f"no row has been evaluated here yet. In a terminal: fasa run --here 'evaluate@{profile}-*'"
        )
    return sorted([(path.parent.name, path) for path in paths], key=lambda one: one[0] != first)
