"""Yin et al. as the appendix has it: tail classes borrow the deviations of head embeddings from their mean.

Shapes: N embeddings g, P of them foreground, D their width, K foreground classes, M virtual features.
"""

import torch
from torch import Tensor, nn

from fasa.augmenter import Augmenter, Virtual
from fasa.class_stats import ClassMoments, all_reduce_sum


class ResidualMLP(nn.Module):
    """``x + W2 relu(W1 x + b1) + b2``, width D throughout, the identity at first (W2 = 0, b2 = 0).

    A network that was trained without it goes on from where it was.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        nn.init.zeros_(self.layers[2].weight)
        nn.init.zeros_(self.layers[2].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class FeatureTransfer(Augmenter):
    """Feature transfer with an encoder, a decoder and two stages (appendix F).

    The classifier sees ``f = R(g)``. Added are ``a_recon * ||Dec(f) - g||^2 / D``, mean over the positives,
    and ``a_reg * ||W f + b||^2``, mean over all samples. Each head embedding g_h of a batch, if there are
    tail classes seen so far, gives one virtual feature to one of them, t, drawn uniformly:

    ``g_t = mean_t + Q Q^T (g_h - mean_h)``, detached, before R;

    Q, (D, components), holds the leading eigenvectors of the pooled covariance of the head classes: a sum
    of deviations from the running class means, older batches fading, whose scale has no part in Q.

    Reference: Yin et al., Feature transfer learning for face recognition with under-represented data,
    CVPR 2019.

    Differs from Yin et al.: Dec gives back the embedding, not the image (appendix F); the mean of squares,
    not the sum (its curvature, ||f||^2, is more than SGD bears at a rate of 0.02); g is a constant there,
    as the image is, or else smaller embeddings would lower the loss; the stages do not alternate.

    Args:
        num_classes, width: K and D.
        reconstruction, regularization: a_recon and a_reg (Table 7).
        mean_score: divide the regularisation by the number of scores. Without it, as in Yin et al., the best
            score of a label is below 1 / (2 a_reg) = 2, however many classes there are.
        components: columns of Q (Yin et al.), at most D; Q Q^T is the identity where it is D.
        refresh: iterations from one eigendecomposition to the next (ours).
        phase: iterations of the first stage, after the warm-up, see `frozen` (ours); 0: no stages.
        tail: a class with fewer instances is a tail class (ours: LVIS's bound of frequent).
        momentum: of the class means (ours: FASA's).
        covariance_momentum: of the covariance, smaller for its D^2 elements (ours).
        loss_weight: of the virtual features' cross-entropy.
        warmup: iterations before the first virtual feature; means and covariance are gathered from the start.
        seed: of the tail classes drawn.

    Attributes (in the checkpoint, with R, Dec and those of `Augmenter`):
        moments.mean: (K, D) float32, the class means.
        scatter: (D, D) float32, the covariance but for its scale.
        basis: (D, components) float32, Q; 0 in columns without variance.
        refreshed: () int64, the iteration of `basis`, -1 before the first.

    Raises:
        ValueError: an argument is out of its range.
    """

    changes_scores = True

    def __init__(
        self,
        num_classes: int,
        width: int,
        reconstruction: float = 0.5,
        regularization: float = 0.25,
        mean_score: bool = False,
        components: int = 150,
        refresh: int = 100,
        phase: int = 0,
        tail: int = 100,
        momentum: float = 0.1,
        covariance_momentum: float = 0.01,
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(num_classes, width, loss_weight, warmup, seed)
        if not (min(reconstruction, regularization, phase, tail) >= 0 and min(components, refresh) >= 1):
            got = f"{reconstruction=}, {regularization=}, {phase=}, {tail=} (>= 0), {components=}, {refresh=}"
            raise ValueError(f"FeatureTransfer: {got} (>= 1)")
        if not (0 < momentum <= 1 and 0 < covariance_momentum <= 1):
            raise ValueError(f"FeatureTransfer: {momentum=}, {covariance_momentum=} (in (0, 1])")
        self.reconstruction, self.regularization, self.mean_score = reconstruction, regularization, mean_score
        self.refresh, self.phase, self.tail = refresh, phase, tail
        self.covariance_momentum = covariance_momentum
        self.encoder, self.decoder = ResidualMLP(width), ResidualMLP(width)
        self.moments = ClassMoments(num_classes, width, momentum)
        self.register_buffer("scatter", torch.zeros(width, width))
        self.register_buffer("basis", torch.zeros(width, min(components, width)))
        self.register_buffer("refreshed", torch.tensor(-1))

    def initialise(self, counts: Tensor) -> None:
        """Take the instance counts, (K,), which say what is tail; class means and covariance stay."""
        super().initialise(counts)
        self.refreshed.fill_(-1)

    def frozen(self, step: int | None = None) -> str | None:
        """What a step must not train: the coming one, or `step`, counted from 1 (appendix F).

        Returns:
            "features" in the first stage: what the embeddings come from (R, Dec and `fc_cls` learn);
            "classifier" after it: `fc_cls`. None in the warm-up, or where there are no stages.
        """
        step = self.step + 1 if step is None else step
        if self.phase == 0 or step <= self.warmup:
            return None
        return "features" if step <= self.warmup + self.phase else "classifier"

    def encode(self, z: Tensor) -> Tensor:
        """R(g), (N, D)."""
        return self.encoder(z)

    def losses(self, z: Tensor, labels: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Reconstruction and regularisation, float32; 0, with a gradient path, where there is no sample."""
        g = z[labels < self.num_classes]
        error = self.decoder(self.encode(g)).float() - g.detach().float()
        scores = scores.float()
        n = max(len(scores), 1) * (scores.size(1) if self.mean_score else 1)
        return {
            "loss_reconstruction": self.reconstruction * error.square().sum() / max(error.numel(), 1),
            "loss_regularization": self.regularization * scores.square().sum() / n,
        }

    @torch.no_grad()
    def observe(self, z: Tensor, labels: Tensor, maps=None, head=None) -> None:
        """Update scatter and means with `z`, (P, D), of `labels`, (P,); float32 whatever `z` is."""
        self.require_counts()
        mean, momentum = self.moments.mean, self.covariance_momentum
        z = z.to(mean.dtype)
        # From the means before this batch: from its own, a lone sample would not deviate at all.
        counted = ((self.counts >= self.tail) & (self.moments.seen > 0))[labels]
        deviation = (z - mean[labels]) * counted[:, None]
        with torch.autocast(z.device.type, enabled=False):
            squares = all_reduce_sum(deviation.T @ deviation)
        # Nothing fades in a batch without a head sample: many of those would leave 0.
        kept = torch.where(all_reduce_sum(counted.sum()) > 0, 1 - momentum, 1.0).to(mean.dtype)
        self.scatter.mul_(kept).add_(squares, alpha=momentum)
        self.moments.update(z, labels)

    @torch.no_grad()
    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """One feature for each head embedding; none in the second stage, nor before anything deviated."""
        step, mean = self.step, self.moments.mean
        tails = ((self.counts < self.tail) & (self.moments.seen > 0)).nonzero().squeeze(1)
        if not len(tails) or self.frozen(step) == "classifier" or not self._ready(step):
            return self.nothing(mean)
        head = self.counts[labels] >= self.tail
        deviation = z[head].to(mean.dtype) - mean[labels[head]]
        generator = self.generator()
        chosen = tails[torch.randint(len(tails), (len(deviation),), device=tails.device, generator=generator)]
        with torch.autocast(z.device.type, enabled=False):
            features = mean[chosen] + deviation @ self.basis @ self.basis.T
        return Virtual(features, chosen, torch.ones_like(features[:, 0]))

    def _ready(self, step: int) -> bool:
        """Whether there is a basis, which is computed anew if it is old."""
        last = self.refreshed.item()
        if (last < 0 or step - last >= self.refresh) and self.scatter.any():
            values, vectors = torch.linalg.eigh(self.scatter)  # ascending
            # Eigenvectors without variance are arbitrary, and not the same on every machine.
            varies = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
            self.basis.copy_((vectors * varies)[:, -self.basis.size(1) :])
            self.refreshed.fill_(step)
        return self.refreshed.item() >= 0
