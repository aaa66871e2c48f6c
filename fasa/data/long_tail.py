"""How many instances each class has, and which of them share a scene."""

import numpy as np


def tail_counts(classes: int, total: int, ratio: float) -> np.ndarray:
    """Return the instance counts of K classes, most frequent first: (K,) int64, of the given sum.

    They fall exponentially, n_i ~ ratio ** -(i / (K - 1)), i = 0 .. K - 1, as those of CIFAR-100-LT, but to
    no less than one instance if `total` >= K. Ratio 1 gives counts that are equal up to one.

    The numbers of LVIS's images are about of that law: by rank, a third of its classes are in up to 10, a
    third in up to 100. By a power law most classes would be rare, or few frequent.
    """
    weights = np.float64(ratio) ** (-np.arange(classes) / max(classes - 1, 1))
    least = min(1, total // classes)
    head = classes  # so many have more than the least
    while head > 1 and weights[head - 1] / weights[:head].sum() * (total - least * (classes - head)) < least:
        head -= 1
    bounds = np.cumsum(weights[:head]) / weights[:head].sum() * (total - least * (classes - head))
    counts = np.full(classes, least)
    # Differences of rounded sums keep the total.
    counts[:head] = np.sort(np.diff(np.floor(bounds + 0.5).astype(np.int64), prepend=0))[::-1]
    return counts


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
        The classes of each scene's objects.
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
