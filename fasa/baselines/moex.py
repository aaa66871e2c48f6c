"""MoEx: moments exchanged between positives (appendix F, Table 7).

Shapes: P foreground RoIs, D the width of their embeddings, C channels of their maps.
"""

import torch
from torch import Tensor

from fasa.augmenter import Augmenter, Virtual


def exchange_moments(x: Tensor, partner: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise each sample over its channels and give it the mean and standard deviation of another.

    ``(x - mean(x)) / std(x) * std(x[partner]) + mean(x[partner])``, ``std = sqrt(var + eps)``, var unbiased.

    Args:
        x: (P, C) or (P, C, H, W); the moments of a map are those of each position.
        partner: (P,) int64 in [0, P).

    Returns:
        As `x`, float32 at least.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # squares overflow float16
    mean, std = x.mean(1, keepdim=True), x.var(1, keepdim=True).add(eps).sqrt()
    return (x - mean) / std * std[partner] + mean[partner]


class MoEx(Augmenter):
    """Gives each positive the mean and standard deviation of another, and a share of its label.

    With x~ = `exchange_moments` under a random permutation of the positives, the loss is
    ``lam * CE(x~, y) + (1 - lam) * CE(x~, y[partner])``, mean over the P positives: 2P virtual samples, x~
    twice, the labels ``y`` of weight lam and ``y[partner]`` of weight 1 - lam. `drawn` counts both.

    Gradient flows into the features, through the moments too: MoEx trains the whole network.
    The maps' variant passes 2P maps (P = 256 of 256 x 7 x 7: 26 MB) through the shared FCs.

    Reference: Li et al., On Feature Normalization and Data Augmentation, CVPR 2021; its ImageNet recipe has
    p = 1, lam = 0.9. Differs from it: the clean loss stays and this one is added to it, as with every
    virtual sample here; at the RoI, not after the stem ("in the classifier", appendix F); background RoIs
    neither give nor take moments.

    Args:
        num_classes, width: K and D.
        p: probability that a step exchanges at all (Table 7).
        lam: the share of the sample's own label (the authors' ImageNet recipe; not in Table 7).
        eps: added to the variance (Table 7).
        at: ``"embedding"``, over the D channels of each embedding; or ``"map"``, over the C channels of
            each position of the RoI map, the positional normalisation of the authors' recipe.
        loss_weight: of the virtual samples' cross-entropy (main paper, for FASA).
        warmup: iterations before the first virtual sample.
        seed: of permutations.

    Raises:
        ValueError: p or lam is outside [0, 1], eps is not above 0, or `at` is unknown.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        p: float = 1.0,
        lam: float = 0.9,
        eps: float = 1e-5,
        at: str = "embedding",
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(num_classes, width, loss_weight, warmup, seed)
        if not (0 <= p <= 1 and 0 <= lam <= 1 and eps > 0):
            raise ValueError(f"MoEx: p={p} and lam={lam} must lie in [0, 1], eps={eps} above 0")
        if at not in ("embedding", "map"):
            raise ValueError(f"MoEx: at={at!r} (embedding, map)")
        self.p, self.lam, self.eps = p, lam, eps
        self.needs_maps = at == "map"

    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """2P virtual samples with their graph, or none."""
        generator = self.generator()
        if not len(labels) or torch.rand((), device=z.device, generator=generator) >= self.p:
            return self.nothing(z)
        partner = torch.randperm(len(labels), device=z.device, generator=generator)
        x = exchange_moments(maps if self.needs_maps else z, partner, self.eps)
        share = x.new_tensor([self.lam, 1 - self.lam]).repeat_interleave(len(labels))
        return Virtual(torch.cat([x, x]), torch.cat([labels, labels[partner]]), share)
