"""FASA itself: virtual features from class statistics, drawn as often as held-out data says they help.

Shapes: K foreground classes, D embedding width, P foreground embeddings, M virtual features, G groups.
"""

import math

import torch
from torch import Tensor

from fasa.augmenter import Augmenter, Virtual, require
from fasa.class_stats import ClassMoments
from fasa.grouping import MeanShiftGroups

UNGROUPED = -1


def inverse_frequency(counts: Tensor, scale: float = 1.0, power: float = 1.0) -> Tensor:
    """p_c = clamp(scale * ((1 / n_c) / sum_j 1 / n_j) ** power, 0, 1), 0 where n_c = 0 (appendix B.1)."""
    inverse = torch.where(counts > 0, 1 / counts.double(), 0.0)
    return (scale * (inverse / inverse.sum()) ** power).clamp(0, 1).where(counts > 0, 0.0).float()


def uniform(counts: Tensor, scale: float = 1.0) -> Tensor:
    """p_c = clamp(scale / K, 0, 1) for every class (appendix B.1)."""
    return torch.full(counts.shape, min(scale / len(counts), 1.0), device=counts.device)


def group_mean(x: Tensor, groups: Tensor, valid: Tensor) -> Tensor:
    """The mean of `x`, (K,), over the valid members of each class's group, (K,); NaN where there are none."""
    valid = valid & (groups != UNGROUPED)
    total = x.new_zeros(len(x)).index_add_(0, groups[valid], x[valid])
    n = x.new_zeros(len(x)).index_add_(0, groups[valid], torch.ones_like(x[valid]))
    return torch.where(groups == UNGROUPED, torch.nan, (total / n)[groups.clamp(min=0)])


class FASA(Augmenter):
    """Feature augmentation and sampling adaptation (main paper, sec. 3; appendix B).

    In every step each seen class is drawn with its probability p_c, and a drawn class gives one virtual
    feature ``mean_c + sqrt(var_c) * eps``, ``eps ~ N(0, I)``, for `fc_cls` alone. After every adaptation
    pass a group of classes whose mean held-out loss fell gets ``p <- min(1, up * p)``, one whose loss
    rose ``p <- down * p``; a pass in the warm-up, and the first one, only record.

    Differs from the released code: Mean-shift (as the appendix says) instead of affinity propagation on
    a distance, a mean instead of a summed loss per group, classes never seen are left out, statistics
    and random numbers are exact on resume. Every rank holds the same state and draws on its own.

    Args:
        num_classes, width: K and D.
        initial: ``"inverse"`` or ``"uniform"`` initial probabilities.
        prob_scale, power: of the initial probabilities, from 0; with 1 about one virtual feature an
            iteration in all, right for the paper's 24 epochs of LVIS.
        momentum: of the class moments, above 0 and at most 1.
        up, down: factors of the adaptation, at least 1; above 0 and at most 1.
        level: ``"group"`` or ``"class"`` (appendix B.3).
        groups: how class means are grouped, arguments of `MeanShiftGroups`.
        loss_weight: of the virtual features' cross-entropy.
        warmup: iterations before the first draw (the paper: an epoch); moments are gathered from the start.
        seed: of the draws.

    Attributes (in the checkpoint, with those of `Augmenter`):
        probability: (K,) float32; 0 before `initialise`.
        class_loss, measured: (K,) float32, the last signal of each class, and 1 where there is one.
        groups: (K,) int64, -1 for classes without a group.
        adaptations: () int64, passes so far.

    Raises:
        ValueError: an argument out of these ranges.
    """

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
        groups: dict | None = None,
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(num_classes, width, loss_weight, warmup, seed)
        if initial not in ("inverse", "uniform") or level not in ("group", "class"):
            raise ValueError(f"FASA: initial={initial!r} (inverse, uniform), level={level!r} (group, class)")
        require("FASA", 0 <= prob_scale < math.inf, "prob_scale", prob_scale, "a finite number from 0")
        require("FASA", 0 <= power < math.inf, "power", power, "a finite number from 0")
        require("FASA", 0 < momentum <= 1, "momentum", momentum, "above 0 and at most 1")
        require("FASA", 1 <= up < math.inf, "up", up, "a finite number from 1")
        require("FASA", 0 < down <= 1, "down", down, "above 0 and at most 1")
        require("FASA", isinstance(groups, dict | None), "groups", groups, "a dict of MeanShiftGroups'")
        self.initial, self.prob_scale, self.power = initial, prob_scale, power
        self.up, self.down, self.level, self.group = up, down, level, MeanShiftGroups(**(groups or {}))
        self.moments = ClassMoments(num_classes, width, momentum)
        self.register_buffer("probability", torch.zeros(num_classes))
        self.register_buffer("class_loss", torch.zeros(num_classes))
        self.register_buffer("measured", torch.zeros(num_classes))
        self.register_buffer("groups", torch.full((num_classes,), UNGROUPED))
        self.register_buffer("adaptations", torch.tensor(0))

    def initialise(self, counts: Tensor) -> None:
        """Set the initial probabilities from instance counts, (K,), of the data trained on.

        Everything else but the moments starts anew: a row that branches from a warm-up takes its moments,
        never its probabilities.
        """
        super().initialise(counts)
        counts = torch.as_tensor(counts, device=self.probability.device)
        if self.initial == "inverse":
            self.probability.copy_(inverse_frequency(counts, self.prob_scale, self.power))
        else:
            self.probability.copy_(uniform(counts, self.prob_scale))
        self.class_loss.zero_()
        self.measured.zero_()
        self.groups.fill_(UNGROUPED)
        self.adaptations.zero_()

    def observe(self, z: Tensor, labels: Tensor, maps=None, head=None) -> None:
        """Update the moments with `z`, (P, D), of `labels`, (P,); float32 whatever `z` is."""
        self.moments.update(z, labels)

    @torch.no_grad()
    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """Draw from the classes seen so far; what the batch holds has no part in it."""
        self.require_counts()
        generator, device = self.generator(), self.probability.device
        chance = torch.rand(self.num_classes, device=device, generator=generator)
        chosen = ((chance < self.probability) & (self.moments.seen > 0)).nonzero().squeeze(1)
        eps = torch.randn(len(chosen), self.width, device=device, generator=generator)
        features = self.moments.mean[chosen] + self.moments.var[chosen].sqrt() * eps
        return Virtual(features, chosen, torch.ones_like(eps[:, 0]))

    @torch.no_grad()
    def adapt(self, signal: Tensor) -> None:
        """Regroup the classes, compare `signal`, (K,), with the last one, and move the probabilities.

        A group's signal is the mean over its members measured in both passes, old and new under the new
        membership; a group without such a member keeps its probabilities.

        Raises:
            ValueError: `signal` has another shape.
        """
        signal = torch.as_tensor(signal).to(self.class_loss)
        if signal.shape != self.class_loss.shape:
            raise ValueError(f"FASA: a signal {tuple(signal.shape)} for {self.num_classes} classes")
        known = signal.isfinite()
        self._regroup()
        groups = self.groups
        if self.level == "class":
            groups = torch.where(groups == UNGROUPED, groups, torch.arange(len(groups), device=groups.device))
        # Before the first draw losses fall by themselves: that says nothing about the probabilities.
        both = known & (self.measured > 0) & (self.step > self.warmup)
        change = group_mean(signal, groups, both) - group_mean(self.class_loss, groups, both)
        self.probability.mul_(torch.where(change < 0, self.up, 1.0).where(~(change > 0), self.down))
        self.probability.clamp_(max=1.0)
        self.class_loss.copy_(torch.where(known, signal, self.class_loss))
        self.measured.masked_fill_(known, 1)
        self.adaptations += 1

    def record(self) -> dict[str, list | int]:
        """Probability and group of each class, (K,) lists."""
        return dict(probability=self.probability.tolist(), group=self.groups.tolist()) | super().record()

    def _regroup(self) -> None:
        seen = self.moments.seen > 0
        self.groups.fill_(UNGROUPED)
        if seen.any():
            ids = self.group(self.moments.mean[seen].cpu().numpy())
            self.groups[seen] = torch.as_tensor(ids, device=seen.device)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        loss = state_dict.get(prefix + "class_loss")
        if loss is not None and prefix + "measured" not in state_dict:  # an older one: NaN stood for it
            state_dict[prefix + "measured"] = (~loss.isnan()).float()
            for name in ("class_loss", "probability"):
                state_dict[prefix + name] = state_dict[prefix + name].nan_to_num(0.0)
        if prefix + "counts" in state_dict and prefix + "probability" not in state_dict:
            # Another method's: FASA's own state is to begin anew, see `AdaptationHook.before_train`.
            state_dict[prefix + "counts"] = torch.full_like(self.counts, -1)
        super()._load_from_state_dict(state_dict, prefix, *args)
