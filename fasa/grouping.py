"""Groups of classes that lie close in feature space (appendix D).

Shapes: S seen classes, D embedding width.
"""

import warnings
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MeanShiftGroups:
    """Mean-shift on class means of length 1, reduced by PCA.

    The bandwidth decides everything, so it has a rule: a class's distance to the furthest of the nearest
    share `quantile` of all classes, itself among them, mean over classes. scikit-learn's default (0.3) puts
    every class into one group; raw means put most classes into one group and the rest alone, since their
    lengths differ by training.

    Args:
        quantile: share of classes that count as near, in (0, 1]; larger gives fewer groups.
        components: at most this many principal components are kept.
    """

    quantile: float = 0.05
    components: int = 10

    def __post_init__(self):
        if not isinstance(self.quantile, float | int) or not 0 < self.quantile <= 1:
            raise ValueError(f"groups.quantile is {self.quantile!r}; it must be above 0 and at most 1")
        if not isinstance(self.components, int) or self.components < 1:
            raise ValueError(f"groups.components is {self.components!r}; it must be a whole number from 1")

    def __call__(self, means: np.ndarray) -> np.ndarray:
        """Group `means`, (S, D) floats; returns (S,) int64 group ids from 0."""
        # here, not above: a second that who checks settings, or evaluates, does not need
        from sklearn.cluster import MeanShift, estimate_bandwidth

        if len(means) < 3:
            return np.zeros(len(means), dtype=np.int64)
        points = self.project(means)
        groups = np.zeros(len(points), dtype=np.int64)
        if bandwidth := estimate_bandwidth(points, quantile=max(self.quantile, 2.5 / len(points))):
            groups = MeanShift(bandwidth=bandwidth).fit(points).labels_.astype(np.int64)
        warn_if_degenerate(groups)
        return groups

    def project(self, means: np.ndarray) -> np.ndarray:
        """The points that are clustered, (S, min(components, S, D))."""
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import normalize

        points = normalize(np.asarray(means, dtype=np.float64))
        return PCA(min(self.components, *points.shape), svd_solver="full").fit_transform(points)


def describe(groups: np.ndarray) -> str:
    """The number of groups and their sizes in words."""
    sizes = np.bincount(groups)
    return f"{len(sizes)} groups, the largest of {sizes.max()}, {(sizes == 1).sum()} classes alone"


def warn_if_degenerate(groups: np.ndarray) -> None:
    """Warn where grouping says nothing: one group only, or nine in ten classes alone."""
    sizes = np.bincount(groups)
    if len(sizes) == 1:
        warnings.warn(f"all {len(groups)} classes fell into one group: lower the quantile", stacklevel=3)
    elif (sizes == 1).sum() > 0.9 * len(groups):
        warnings.warn(
            f"{(sizes == 1).sum()} of {len(groups)} classes are alone in their group: raise the quantile",
            stacklevel=3,
        )
