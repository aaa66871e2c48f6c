"""FASA with what its released code computes otherwise than the paper says, to measure what that does.

Shapes: P foreground embeddings, D their width, K classes, U the classes present in a batch.
"""

import torch
from torch import Tensor

from fasa.algorithm import FASA
from fasa.class_stats import ClassMoments, batch_moments, blend


class ReleasedMoments(ClassMoments):
    """Class moments where one sample of a class in a batch counts as variance 0, and shrinks the estimate."""

    @torch.no_grad()
    def update(self, z: Tensor, labels: Tensor) -> None:
        """Take a batch, as `ClassMoments.update`."""
        classes, n, mean, var = batch_moments(z.detach().to(self.mean.dtype), labels, len(self.seen))
        blend(self.mean, self.seen, classes, mean, self.momentum)
        blend(self.var, self.spread, classes, var.masked_fill(n[:, None] == 1, 0.0), self.momentum)


class ReleasedFASA(FASA):
    """FASA that groups and gathers as the released code does.

    Affinity propagation takes the squared distance of class means for their similarity, though it grows where
    they differ; classes never seen are grouped with the rest, by a mean of 0; where it finds no exemplar, no
    class has a group, and no probability moves. And see `ReleasedMoments`.

    Not taken over, since the trainer decides it, not the method: statistics of each rank alone, a summed
    loss in place of the mean, adaptation on the split that is reported.

    Args: as FASA's; `groups` is left out, since Mean-shift has no part in it.
    """

    own_moments = True  # those of a warm-up that gathered FASA's would last: a rare class is seldom seen

    def __init__(
        self,
        num_classes: int,
        width: int,
        initial: str = "inverse",
        prob_scale: float = 1.0,
        power: float = 1.0,
        momentum: float = 0.1,
        up: float = 1.1,
        down: float = 0.9,
        level: str = "group",
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(
            num_classes,
            width,
            initial=initial,
            prob_scale=prob_scale,
            power=power,
            momentum=momentum,
            up=up,
            down=down,
            level=level,
            loss_weight=loss_weight,
            warmup=warmup,
            seed=seed,
        )
        self.moments = ReleasedMoments(num_classes, width, momentum)

    def _regroup(self) -> None:
        from sklearn.cluster import AffinityPropagation  # as in fasa.grouping

        mean = self.moments.mean.double()
        distance = torch.cdist(mean, mean, compute_mode="donot_use_mm_for_euclid_dist").square()
        found = AffinityPropagation(affinity="precomputed", random_state=0).fit(distance.cpu().numpy())
        self.groups.copy_(torch.as_tensor(found.labels_))  # -1 of all classes: no group
