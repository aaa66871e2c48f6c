"""FASA in a training loop of plain PyTorch, on a long tail of made-up points; takes seconds.

    python examples/plain_pytorch.py

Prints the accuracy of rare classes without FASA and with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fasa

CLASSES, INPUT, WIDTH = 10, 16, 32
COUNTS = [200, 120, 70, 40, 25, 15, 9, 6, 4, 3]  # of each class in training
RARE = slice(5, None)


class Classifier(nn.Module):
    """Embeddings of width D, and a linear classifier on them."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(INPUT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def points(counts: list[int], seed: int) -> TensorDataset:
    """Clouds that overlap, one a class."""
    centres = 1.2 * torch.randn(CLASSES, INPUT, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(labels), INPUT, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(centres[labels] + noise, labels)


@torch.no_grad()
def class_losses(model: nn.Module, data: TensorDataset) -> Tensor:
    """Mean loss of each class, (K,); NaN, "not measured", where it has no sample."""
    x, labels = data.tensors
    losses = F.cross_entropy(model(x), labels, reduction="none")
    total = torch.zeros(CLASSES).index_add_(0, labels, losses)
    return total / torch.bincount(labels, minlength=CLASSES)


def train(augmenter: fasa.Augmenter | None, epochs: int = 30) -> nn.Module:
    """Plain training, and beside it the loss of virtual features where there is an augmenter."""
    torch.manual_seed(0)
    model, held_out = Classifier(), points([20] * CLASSES, seed=2)
    loader = DataLoader(points(COUNTS, seed=1), batch_size=32, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if augmenter is not None:
        augmenter.initialise(torch.tensor(COUNTS))
    for _ in range(epochs):
        for x, labels in loader:
            z = model.features(x)
            loss = F.cross_entropy(model.classifier(z), labels)
            if augmenter is not None:
                virtual = augmenter(z, labels)
                virtual_loss = fasa.virtual_loss(model.classifier(virtual.features), virtual)
                loss = loss + augmenter.loss_weight * virtual_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if augmenter is not None:
            augmenter.adapt(class_losses(model, held_out))
    return model


@torch.no_grad()
def accuracy(model: nn.Module) -> Tensor:
    """Of each class on a balanced test set, (K,) in percent."""
    x, labels = points([200] * CLASSES, seed=3).tensors
    return 100 * (model(x).argmax(1) == labels).float().view(CLASSES, -1).mean(1)


def main() -> None:
    """Train twice and compare."""
    augmenter = fasa.FASA(CLASSES, WIDTH, prob_scale=5, warmup=50, groups=dict(quantile=0.3))
    for name, one in (("without FASA", None), ("with FASA", augmenter)):
        found = accuracy(train(one))
        print(f"{name}: {found.mean():.1f} % of all, {found[RARE].mean():.1f} % of rare classes")
    print("virtual features of each class:", augmenter.drawn.tolist())


if __name__ == "__main__":
    main()
