"""How many instances each class has, and which of them share a scene."""

import numpy as np


def zipf_counts(classes: int, total: int, exponent: float) -> np.ndarray:
    """Return the instance counts of K classes, most frequent first: (K,) int64, of the given sum.

    They follow the law of Zipf and Mandelbrot, n_r ~ (r + K / 10) ** -exponent for ranks r = 1 .. K, above
    one instance for each class if `total` >= K. The offset flattens the head, so that no single class fills
    the scenes. Exponent 0 gives counts that are equal up to one.
    """
    weights = (np.arange(1, classes + 1) + classes / 10) ** -float(exponent)
    least = min(1, total // classes)
    bounds = np.rint(np.cumsum(weights) / weights.sum() * (total - least * classes)).astype(np.int64)
    return least + np.sort(np.diff(bounds, prepend=0))[::-1]  # differences of rounded sums keep the total


def deal(
    counts: np.ndarray, sizes: np.ndarray, pairs: np.ndarray, together: float, rng: np.random.Generator
) -> list[list[int]]:
    """Deal instances into scenes: the planted pairs side by side, the rest at random.

    Args:
        counts: instances of each class, (K,).
        sizes: objects of each scene, (S,), of the same sum.
        pairs: classes that often share a scene, (P, 2), disjoint.
        together: share of the rarer partner's instances that are dealt with one of the other, in [0, 1].
        rng: source of randomness.

    Returns:
        The classes of each scene's objects, in the order of painting.
    """
    couples = np.repeat(pairs, (together * counts[pairs].min(1)).astype(np.int64), axis=0)
    hosts = rng.permutation(np.flatnonzero(sizes >= 2))
    couples = rng.permutation(couples)[: len(hosts)]  # at most one couple a scene
    single = counts - np.bincount(couples.ravel(), minlength=len(counts))
    deck = rng.permutation(np.repeat(np.arange(len(counts)), single)).tolist()
    scenes: list[list[int]] = [[] for _ in sizes]
    for host, couple in zip(hosts, couples.tolist(), strict=False):
        scenes[host] += couple
    for scene, size in zip(scenes, sizes, strict=True):
        scene += [deck.pop() for _ in range(size - len(scene))]
        rng.shuffle(scene)
    return scenes
