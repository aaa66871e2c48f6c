"""Every method as its obvious loop: one class, or one RoI, at a time, in plain PyTorch.

Each inherits its method's arguments, state and generator: both get the same random numbers in the same order
and must end in the same state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fasa.algorithm import FASA
from fasa.augmenter import Virtual
from fasa.baselines.angular_transfer import LIMIT, TINY, AngularTransfer
from fasa.baselines.bank import Bank
from fasa.baselines.cam_mixing import CAMMixing, grad_cam
from fasa.baselines.feature_transfer import FeatureTransfer
from fasa.baselines.moex import MoEx
from fasa.baselines.smote import SMOTE
from fasa.class_stats import ClassMoments


def update(moments: ClassMoments, c: int, mine: Tensor) -> None:
    """Running mean and variance of class `c` from its embeddings in a batch, (n, D)."""
    blend(moments.mean, moments.seen, c, mine.mean(0), moments.momentum)
    if len(mine) > 1:
        blend(moments.var, moments.spread, c, mine.var(0), moments.momentum)


def blend(running: Tensor, known: Tensor, c: int, new: Tensor, momentum: float) -> None:
    """One row of a running mean, which the first observation initialises."""
    running[c] = (1 - momentum) * running[c] + momentum * new if known[c] else new
    known[c] = True


def push(bank: Bank, x: Tensor, labels: Tensor, turn: Tensor) -> dict[int, int]:
    """One sample of each class into the bank; returns its row by class."""
    taken = {}
    for c in labels.unique().tolist():
        rows = (labels == c).nonzero().squeeze(1).tolist()
        taken[c] = rows[turn % len(rows)]
        bank.values[c, bank.pushed[c] % bank.size] = x[taken[c]]
        bank.pushed[c] += 1
    return taken


def stacked(features: list[Tensor], labels: list[int], like: Virtual) -> Virtual:
    """Virtual samples of weight 1 from a list; `like`, which are none, where it is empty."""
    if not labels:
        return like
    features = torch.stack(features)
    return Virtual(features, torch.tensor(labels), features.new_ones(len(labels)))


class FASALoop(FASA):
    """One class of the batch, then one class that is drawn, at a time, as in the released code."""

    @torch.no_grad()
    def observe(self, z, labels, maps=None, head=None):
        for c in labels.unique():
            rows = torch.nonzero(labels == c).squeeze(1)
            update(self.moments, int(c), z[rows])

    @torch.no_grad()
    def virtual(self, z, labels, maps=None, head=None):
        generator, moments = self.generator(), self.moments
        chance = torch.rand(self.num_classes, generator=generator)
        chosen = [int(c) for c in torch.where(chance < self.probability)[0] if moments.seen[c]]
        noise = torch.randn(len(chosen), self.width, generator=generator)
        made = [moments.mean[c] + moments.var[c].sqrt() * eps for c, eps in zip(chosen, noise, strict=True)]
        return stacked(made, chosen, self.nothing(z))


class SMOTELoop(SMOTE):
    """One RoI at a time among the entries of its class."""

    @torch.no_grad()
    def observe(self, z, labels, maps=None, head=None):
        self.taken = push(self.bank, z, labels, self.iteration)

    @torch.no_grad()
    def virtual(self, z, labels, maps=None, head=None):
        which, lam = torch.rand(2, len(z), generator=self.generator())
        features, of = [], []
        for i, c in enumerate(labels.tolist()):
            pushed = self.bank.pushed[c].item()
            itself = (pushed - 1) % self.bank.size if self.taken[c] == i else None
            slots = [slot for slot in range(min(pushed, self.bank.size)) if slot != itself]
            if slots:
                entries = self.bank.values[c, slots]
                near = F.cosine_similarity(z[i], entries, dim=1).topk(min(self.k, len(slots))).indices
                other = entries[near[int(which[i] * len(near))]]
                features.append((1 - lam[i]) * z[i] + lam[i] * other)
                of.append(c)
        return stacked(features, of, self.nothing(z))


class MoExLoop(MoEx):
    """One pair at a time."""

    def virtual(self, z, labels, maps=None, head=None):
        generator = self.generator()
        if torch.rand((), generator=generator) >= self.p:
            return self.nothing(z)
        x, made = maps if self.needs_maps else z, []
        partner = torch.randperm(len(labels), generator=generator).tolist()
        for own, other in zip(x, x[partner], strict=True):
            std, other_std = ((one.var(0) + self.eps).sqrt() for one in (own, other))
            made.append((own - own.mean(0)) / std * other_std + other.mean(0))
        share = x.new_tensor([self.lam] * len(labels) + [1 - self.lam] * len(labels))
        return Virtual(torch.stack(made * 2), torch.cat([labels, labels[partner]]), share)


class AngularTransferLoop(AngularTransfer):
    """One RoI at a time, against all rows of the classifier's weight."""

    def logits(self, scores, z, weight, labels=None):
        rows = F.normalize(weight, eps=TINY)
        angles = [(rows @ F.normalize(x, dim=0, eps=TINY)).clamp(-LIMIT, LIMIT).acos() for x in z]
        every = labels.tolist()
        for c in set(every) - {self.num_classes}:
            mine = [angle[c] for angle, y in zip(angles, every, strict=True) if y == c]
            update(self.angles, c, torch.stack(mine).detach()[:, None])
        var, spread, counts = self.angles.var[:, 0], self.angles.spread.tolist(), self.counts.tolist()
        lenders = [var[c] for c in range(self.num_classes) if counts[c] >= self.tail and spread[c]]
        lent = sum(lenders) / max(len(lenders), 1)
        noise = torch.randn(len(every), dtype=var.dtype, generator=self.generator())
        out = []
        for angle, y, eps in zip(angles, every, noise, strict=True):
            tail = y < self.num_classes and counts[y] < self.tail
            angle = angle + ((lent - var[y]).clamp(min=0).sqrt() * eps if tail else 0)
            angle[y] += self.margin
            out.append(self.scale * angle.clamp(0, torch.pi).cos())
        return torch.stack(out)


class CAMMixingLoop(CAMMixing):
    """Grad-CAM of one RoI at a time, and of every partner anew."""

    @torch.no_grad()
    def observe(self, z, labels, maps=None, head=None):
        softmax = head(maps)[:, : self.num_classes].softmax(1)
        for c in labels.unique().tolist():
            blend(self.confusion, self.seen, c, softmax[labels == c].mean(0), self.momentum)
        push(self.bank, maps, labels, self.iteration)

    @torch.no_grad()
    def virtual(self, z, labels, maps=None, head=None):
        generator, counts, size = self.generator(), self.counts.tolist(), self.bank.size
        rows = [i for i, c in enumerate(labels.tolist()) if counts[c] < self.tail]
        pool = [(c, slot) for c, n in enumerate(self.bank.pushed.tolist()) for slot in range(min(n, size))]
        pairs = []
        for i, chance in zip(rows, torch.rand(len(rows), len(pool), generator=generator), strict=True):
            row = self.confusion[labels[i]].tolist()
            heads = sorted((c for c, n in enumerate(counts) if n >= self.tail), key=lambda c: -row[c])
            confusing = set(heads[: self.confusing])
            drawn = sorted((-chance[j], j) for j, (c, _) in enumerate(pool) if c in confusing)[: self.samples]
            self.attempts += 1
            self.found += bool(drawn)
            specific = grad_cam(maps[i : i + 1], labels[i : i + 1], head)[0] > self.threshold_specific
            if specific.any():
                pairs += [(i, specific, pool[j]) for _, j in drawn]
        coins = torch.rand(len(pairs), *maps.shape[2:], generator=generator) < 0.5
        features = []
        for (i, specific, (c, slot)), coin in zip(pairs, coins, strict=True):
            partner = self.bank.values[c, slot]
            generic = grad_cam(partner[None], torch.tensor([c]), head)[0] < self.threshold_generic
            features.append(torch.where(generic & ~(specific & coin), partner, maps[i]))
        none = Virtual(maps[:0], labels[:0], maps.new_zeros(0))
        return stacked(features, [labels[i].item() for i, _, _ in pairs], none)


class FeatureTransferLoop(FeatureTransfer):
    """One outer product and one projection at a time; R, Dec and the eigenvectors are ours."""

    @torch.no_grad()
    def observe(self, z, labels, maps=None, head=None):
        counts, squares, n = self.counts.tolist(), torch.zeros_like(self.scatter), 0
        for x, c in zip(z, labels.tolist(), strict=True):
            if counts[c] >= self.tail and self.moments.seen[c]:
                deviation = x - self.moments.mean[c]
                squares += torch.outer(deviation, deviation)
                n += 1
        if n:
            self.scatter.mul_(1 - self.covariance_momentum).add_(squares, alpha=self.covariance_momentum)
        for c in labels.unique().tolist():
            update(self.moments, c, z[labels == c])

    @torch.no_grad()
    def virtual(self, z, labels, maps=None, head=None):
        counts, mean, step = self.counts.tolist(), self.moments.mean, self.iteration.item()
        tails = [c for c in range(self.num_classes) if counts[c] < self.tail and self.moments.seen[c]]
        heads = [(x, c) for x, c in zip(z, labels.tolist(), strict=True) if counts[c] >= self.tail]
        if not tails or self.frozen(step) == "classifier" or not self._ready(step):
            return self.nothing(mean)
        picks = torch.randint(len(tails), (len(heads),), generator=self.generator()).tolist()
        chosen = [tails[i] for i in picks]
        features = [
            mean[t] + self.basis @ (self.basis.T @ (x - mean[c]))
            for (x, c), t in zip(heads, chosen, strict=True)
        ]
        return stacked(features, chosen, self.nothing(mean))
