"""Image classification with a long tail: what such a data set holds, and how its tail falls.

Shape legend: N images of a split, H x W pixels, C channels, K classes, P parts that images are divided among.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta

from fasa.errors import UserError
from fasa.files import UNREADABLE, replacing

Ratio = Annotated[float, Meta(ge=1)]  # images of the most frequent class to those of the rarest


PARTS = ("train", "adapt", "test")


class Split(NamedTuple):
    """Images and their classes.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) int64 in [0, K).
    """

    images: np.ndarray
    labels: np.ndarray


class LongTailed(NamedTuple):
    """A data set whose training part has a long tail; class 0 is the most frequent, K - 1 the rarest.

    Args:
        train: what is learnt from.
        adapt: held out of train, for FASA to measure losses on; a class without images is not measured.
        test: what is reported on, balanced.
        names: of the classes, K.
        flip: whether a mirrored image is of the same class, so that training may flip.
    """

    train: Split
    adapt: Split
    test: Split
    names: list[str]
    flip: bool

    @property
    def counts(self) -> np.ndarray:
        """Images of each class in train, (K,) int64."""
        return np.bincount(self.train.labels, minlength=len(self.names))


def exponential_counts(n_max: float, classes: int, ratio: float) -> np.ndarray:
    """Return the images of each class, most frequent first: (K,) int64, from n_max down to n_max / ratio.

    n_i = int(n_max * (1 / ratio) ** (i / (K - 1))), cut and not rounded, as in LDAM-DRW (Cao et al., 2019).
    At K = 100 and ratio 100 that makes 10,847 images of n_max 500 (CIFAR-100-LT), and 2,131 of n_max 100.

    Args:
        n_max: images of the most frequent class.
        classes: K.
        ratio: of the most frequent to the rarest, at least 1.

    Raises:
        ValueError: the rarest class is left without images.
    """
    # Python's own powers: NumPy's may differ in the last bit, and a count is cut off where that matters.
    counts = [int(n_max * (1 / ratio) ** (i / max(classes - 1, 1))) for i in range(classes)]
    if counts[-1] < 1:
        raise ValueError(f"ratio {ratio:g} leaves the rarest class without images; choose at most {n_max:g}")
    return np.array(counts, np.int64)


def divide(labels: np.ndarray, sizes: np.ndarray, seed: int) -> list[np.ndarray]:
    """Divide images among P parts at random, no image in two.

    Class after class is shuffled by NumPy's RandomState, whose stream never changes, and dealt: the first
    sizes[0, k] images of class k to part 0, the next sizes[1, k] to part 1, and so on. That is the rule of
    LDAM-DRW, so with its seed, 0, part 0 of CIFAR-100 holds the very images which it trains on.

    Args:
        labels: (N,) in [0, K).
        sizes: images of each class in each part, (P, K).
        seed: of the shuffles, in [0, 2 ** 32).

    Returns:
        Indices into `labels` for each part, by class.

    Raises:
        UserError: a class has too few images.
    """
    rng = np.random.RandomState(seed)
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for k, wanted in enumerate(sizes.T):
        order = rng.permutation(np.flatnonzero(labels == k))
        if wanted.sum() > len(order):
            raise UserError(
                f"data: {wanted.sum()} images of class {k} are wanted, but there are {len(order)}"
            )
        ends = np.cumsum(wanted)
        for part, start, end in zip(parts, ends - wanted, ends, strict=True):
            part.append(order[start:end])
    return [np.concatenate(part) for part in parts]


def check(data: LongTailed) -> LongTailed:
    """Return a data set that a classifier can be trained and tested on.

    Raises:
        UserError: the first inconsistency.
    """
    classes, size = len(data.names), data.train.images.shape[1:]
    if len(set(data.names)) < classes:
        raise UserError("data.names: two classes have the same name")
    for part in ("train", "adapt", "test"):
        images, labels = getattr(data, part)
        for met, rule in (
            (images.dtype == np.uint8 and images.ndim == 4, "images must be uint8 (N, H, W, C)"),
            (images.shape[1:] == size, f"images must be of the size of train's, {size}"),
            (labels.dtype == np.int64 and labels.ndim == 1, "labels must be int64 (N,)"),
            (len(images) == len(labels), f"{len(images)} images, but {len(labels)} labels"),
            (((labels >= 0) & (labels < classes)).all(), f"labels must be in [0, {classes})"),
        ):
            if not met:
                raise UserError(f"data.{part}: {rule}")
        absent = np.setdiff1d(np.arange(classes), labels)
        if part != "adapt" and len(absent):
            raise UserError(f"data.{part}: no image of class {data.names[absent[0]]} ({len(absent)} in all)")
    if (np.diff(data.counts) > 0).any():
        raise UserError("data.train: classes must be in order of their counts, the most frequent first")
    return data


def save(data: LongTailed, path: Path) -> None:
    """Write a data set as one npz file; equal data, equal bytes."""
    parts = {part: getattr(data, part) for part in PARTS}
    arrays = {
        f"{part}_{name}": array for part, split in parts.items() for name, array in split._asdict().items()
    }
    with replacing(path) as file:
        np.savez(file, names=np.array(data.names), flip=np.array(data.flip), **arrays)


def load(path: str | Path) -> LongTailed:
    """Read what `save` wrote.

    Raises:
        UserError: a file that is missing or broken.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = [Split(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in PARTS]
            return check(LongTailed(*parts, arrays["names"].tolist(), bool(arrays["flip"])))
    except UNREADABLE as error:
        raise UserError(
            f"{path}: missing or broken ({error}); run: dvc repro -fs images@{Path(path).parent.name}"
        ) from None
