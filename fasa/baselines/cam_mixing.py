"""CAM mixing: tail objects in the surroundings of classes they are confused with (appendix F, Table 7).

Shapes: P foreground RoIs, (C, H, W) their maps, T the tail ones among them, K classes, B slots of a class's
bank, L maps to draw from, M <= T * samples virtual samples.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fasa.augmenter import Augmenter, Virtual
from fasa.baselines.bank import Bank
from fasa.class_stats import batch_moments, blend


def grad_cam(maps: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Where a map speaks for its class, (M, H, W) in [0, 1]: Grad-CAM (Selvaraju et al., ICCV 2017).

    ``relu(sum_c mean_hw(d score_y / d A_c) * A_c)``, scaled per map from its minimum to its maximum; 0 where
    these are equal. Neither `maps` nor the head's parameters get gradient.

    Args:
        maps: (M, C, H, W), A, float32 at least; M may be 0.
        labels: (M,) int64, y.
        head: maps -> scores (M, >= K).
    """
    if not len(maps):
        return maps.new_zeros(maps[:, 0].shape)
    # Without autocast: small gradients vanish in float16, and the backward pass is autocast too.
    with torch.enable_grad(), torch.autocast(maps.device.type, enabled=False):
        maps = maps.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(head(maps).gather(1, labels[:, None]).sum(), maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    return torch.where(high > low, (cam - low) / (high - low), 0.0)


class CAMMixing(Augmenter):
    """Mixes what is specific to a tail class with what is generic in the head classes it is confused with.

    A tail RoI's partners are `samples` maps of its `confusing` most confusing classes: those head classes
    with the largest running mean softmax over RoIs of its own class. A virtual sample takes the partner's
    vector where the partner's CAM < threshold_generic, but where the tail's CAM > threshold_specific as well
    a fair coin decides; the tail's own vector everywhere else. Its label is the tail's. A tail RoI without a
    class-specific position gives nothing.

    Virtual maps are constants that re-enter through the head: shared FCs and `fc_cls` get gradient, the
    backbone none. Partners come from the bank, this step's maps among them, or, with ``bank=0``, from the
    batch alone: there ``found / attempts`` shows the small-batch limit of appendix F.

    Memory at LVIS size (K = 1203, maps of 256 x 7 x 7, float32): the bank 60 MB for each of B, in the
    checkpoint too; confusion 6 MB; virtual maps up to 150 kB a tail RoI (T = 512: 77 MB), and three times
    that while they are made and scored. The head runs on all P without gradient, for the confusion, and on
    tail RoIs and their partners with one, for the CAM.

    Reference: Chu et al., Feature Space Augmentation for Long-Tailed Data, ECCV 2020. Differs from it: one
    stage beside normal training, with confusion as a running mean, instead of three stages; a vector keeps
    its position, since FCs read positions; the bank.

    Args:
        num_classes, width: K and D.
        map_shape: (C, H, W) of the maps that the bank takes.
        threshold_specific, threshold_generic: T_s and T_g (Table 7).
        confusing, samples: N_f classes and N_a RoIs of theirs for each tail RoI (appendix F).
        tail: classes of fewer instances are tail classes, the others head classes (LVIS's bound of
            "frequent", on instances instead of images).
        bank: B, maps kept of each class; 0 is batch-only, as the appendix ran it.
        momentum: of the running mean softmax, as of FASA's moments.
        loss_weight: of the virtual samples' cross-entropy (main paper, for FASA).
        warmup: iterations before the first virtual sample; confusion and bank are gathered from the start.
        seed: of partners and masks.

    Attributes (in the checkpoint, with those of `Augmenter`):
        confusion: (K, K) float32, row c the mean softmax, over foreground classes, of RoIs of class c; all
            ranks together. seen: (K,) float32, 1 for the rows that there are.
        bank: the `Bank` of maps; each rank has its own.
        attempts, found: () int64, tail RoIs so far, and those with a RoI of a confusing class to mix with.

    Raises:
        ValueError: a number is out of range.
    """

    needs_maps = True

    def __init__(
        self,
        num_classes: int,
        width: int,
        map_shape: Sequence[int] = (256, 7, 7),
        threshold_specific: float = 0.3,
        threshold_generic: float = 0.6,
        confusing: int = 3,
        samples: int = 3,
        tail: int = 100,
        bank: int = 2,
        momentum: float = 0.1,
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(num_classes, width, loss_weight, warmup, seed)
        if confusing < 1 or samples < 1 or bank < 0:
            raise ValueError(f"CAMMixing: {confusing=} and {samples=} must be at least 1, {bank=} at least 0")
        if not (0 <= threshold_specific < 1 and 0 < threshold_generic <= 1 and 0 < momentum <= 1):
            numbers = f"{threshold_specific=}, {threshold_generic=}, {momentum=}"
            raise ValueError(f"CAMMixing: {numbers} must lie in [0, 1), (0, 1], (0, 1]")
        self.threshold_specific, self.threshold_generic = threshold_specific, threshold_generic
        self.confusing, self.samples, self.tail, self.momentum = confusing, samples, tail, momentum
        self.bank = Bank(num_classes, bank, map_shape)
        self.register_buffer("confusion", torch.zeros(num_classes, num_classes))
        self.register_buffer("seen", torch.zeros(num_classes))
        self.register_buffer("attempts", torch.tensor(0))
        self.register_buffer("found", torch.tensor(0))

    def initialise(self, counts: Tensor) -> None:
        """Learn the tail classes and start counting; confusion and bank stay, as FASA's moments do."""
        super().initialise(counts)
        self.attempts.zero_()
        self.found.zero_()

    @torch.no_grad()
    def observe(self, z: Tensor, labels: Tensor, maps=None, head=None) -> None:
        """Update the confusion and put one map of each class present into the bank."""
        maps = maps.to(self.confusion.dtype)
        # Older PyTorch caches weights that autocast cast under no_grad, and the training forward that takes
        # them gives no gradient (pytorch/pytorch#112583).
        with torch.autocast(maps.device.type, enabled=False):
            scores = head(maps) if len(maps) else maps.new_zeros(0, self.num_classes)
        softmax = scores[:, : self.num_classes].softmax(1)
        classes, _, mean, _ = batch_moments(softmax, labels, self.num_classes)
        blend(self.confusion, self.seen, classes, mean, self.momentum)
        self.bank.push(maps, labels, self.iteration)

    @torch.no_grad()
    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """Mix every tail RoI with its partners, float32; the embeddings `z` themselves are not looked at."""
        self.require_counts()
        generator, maps = self.generator(), maps.to(self.confusion.dtype)
        pool, entries, classes = self._pool(maps, labels)
        tail = self.counts[labels] < self.tail
        maps, labels = maps[tail], labels[tail]
        available = self.most_confusing(labels)[:, classes]  # (T, L)
        self.attempts += len(labels)
        self.found += available.any(1).sum()
        # Without replacement: the largest of random numbers, which are -1 where there is nothing to draw.
        key = torch.rand(available.shape, device=z.device, generator=generator).masked_fill(~available, -1)
        key, column = key.topk(min(self.samples, key.size(1)), dim=1)
        specific = grad_cam(maps, labels, head) > self.threshold_specific  # (T, H, W)
        own, nth = ((key >= 0) & specific.flatten(1).any(1, keepdim=True)).nonzero(as_tuple=True)  # (M,)
        column, partner = column[own, nth].unique(return_inverse=True)  # several tail RoIs may share one
        partners = pool[entries[column]]
        generic = grad_cam(partners, classes[column], head) < self.threshold_generic
        specific, generic = specific[own], generic[partner]  # (M, H, W)
        coin = torch.rand(specific.shape, device=z.device, generator=generator) < 0.5
        theirs = generic & ~(specific & coin)
        features = torch.where(theirs[:, None], partners[partner], maps[own])
        return Virtual(features, labels[own], torch.ones_like(features[:, 0, 0, 0]))

    def _pool(self, maps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Maps, which of them may be drawn, (L,), and of what class these are, (L,).
        if not self.bank.size:
            return maps, torch.arange(len(maps), device=maps.device), labels
        entries = self.bank.filled.flatten().nonzero().squeeze(1)
        return self.bank.values.flatten(0, 1), entries, entries // self.bank.size

    def most_confusing(self, labels: Tensor) -> Tensor:
        """The most confusing head classes of each of `labels`, (T,), as a mask (T, K)."""
        softmax = self.confusion[labels].masked_fill(self.counts < self.tail, -1)
        value, most = softmax.topk(min(self.confusing, self.num_classes), dim=1)
        return torch.zeros_like(softmax, dtype=torch.bool).scatter_(1, most, value >= 0)
