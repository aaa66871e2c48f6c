"""SMOTE on embeddings (appendix F, Eq. 1).

Shapes: P foreground embeddings, D their width, M <= P virtual samples, K classes, B slots of a class's bank.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fasa.augmenter import Augmenter, Virtual
from fasa.baselines.bank import Bank, one_of_each


class SMOTE(Augmenter):
    """Interpolates every embedding with one of its nearest neighbours of the same class.

    ``x = lam * x_i + (1 - lam) * x_j``, lam uniform in (0, 1], x_j uniform among the k nearest to x_i by
    cosine distance, of x_i's label. An embedding without a neighbour gives nothing.

    Proposals of one object are each other's nearest neighbours and must not crowd out the rest. Nothing in
    embeddings and labels tells them apart for certain, so neighbours are sought in the class's bank alone,
    which takes one embedding of a class a step, this step's included: at most one of x_i's neighbours is
    of its own batch, and the others are of other steps.

    Only `fc_cls` gets gradient, as with FASA's virtual features: bank and batch are constants.
    The bank is K * B * D floats: 49 MB at K = 1203, B = 10, D = 1024; a step gathers P * B * D of them.

    Reference: Chawla et al., SMOTE: Synthetic Minority Over-sampling Technique, JAIR 2002. Differs from it:
    neighbours by cosine distance (appendix F), found in a bank instead of the whole data set, and every
    foreground class is augmented, one virtual sample for each real one, instead of minorities up to balance.

    Args:
        num_classes, width: K and D.
        k: neighbours (appendix F).
        bank: B, embeddings kept of each class; the paper is silent on where neighbours come from.
        loss_weight: of the virtual samples' cross-entropy (main paper, for FASA).
        warmup: iterations before the first virtual sample; the bank fills from the start.
        seed: of neighbours and lam.

    Attributes (in the checkpoint, with those of `Augmenter`):
        bank: the `Bank` of embeddings; each rank has its own.

    Raises:
        ValueError: k or bank is less than 1, or bank more than 1,000.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        k: int = 5,
        bank: int = 10,
        loss_weight: float = 0.1,
        warmup: int = 0,
        seed: int = 0,
    ):
        super().__init__(num_classes, width, loss_weight, warmup, seed)
        if k < 1 or bank < 1:
            raise ValueError(f"SMOTE: k={k} and bank={bank} must be at least 1")
        self.k = k
        self.bank = Bank(num_classes, bank, (width,))

    def observe(self, z: Tensor, labels: Tensor, maps=None, head=None) -> None:
        """Put one embedding of each class present into the bank."""
        self.bank.push(z, labels, self.iteration)

    @torch.no_grad()
    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """One virtual sample, float32, for each embedding that has a neighbour."""
        z, usable = z.to(self.bank.values.dtype), self.bank.filled[labels]  # (P, D), (P, B)
        classes, rows = one_of_each(labels, self.num_classes, self.iteration)
        usable[rows, (self.bank.pushed[classes] - 1) % self.bank.size] = False  # what `observe` took: itself
        similarity = self._similarity(z, labels).masked_fill(~usable, -torch.inf)
        nearest = similarity.topk(min(self.k, self.bank.size), dim=1).indices  # (P, k), usable ones first
        neighbours = usable.sum(1).clamp(max=self.k)
        which, lam = torch.rand(2, len(z), device=z.device, generator=self.generator())
        slot = nearest.gather(1, (which * neighbours).long()[:, None]).squeeze(1)
        lam = (1 - lam)[:, None].to(z.dtype)  # rand is in [0, 1)
        features = lam * z + (1 - lam) * self.bank.values[labels, slot]
        found = neighbours > 0
        return Virtual(features[found], labels[found], torch.ones_like(features[found, 0]))

    def _similarity(self, z: Tensor, labels: Tensor) -> Tensor:
        """Cosine of each embedding and each entry of its class, (P, B); an entry is copied once a class."""
        present, row = labels.unique(return_inverse=True)
        entries = F.normalize(self.bank.values[present], dim=2, eps=1e-8)  # (U, B, D)
        with torch.autocast(z.device.type, enabled=False):  # which neighbour is nearest hangs on digits
            cosine = F.normalize(z, eps=1e-8) @ entries.flatten(0, 1).T
        rows = torch.arange(len(z), device=z.device)
        return cosine.view(len(z), len(present), self.bank.size)[rows, row]
