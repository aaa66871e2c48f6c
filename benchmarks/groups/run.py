"""Mean-shift's quantile at LVIS's number of classes: what it does to the class means of trained classifiers.

    python -m benchmarks.groups.run                          1,203 characters with LVIS's counts
    python -m benchmarks.groups.run --cifar cifar-100.zip    and CIFAR-100, its images as train/CLASS/*.png

A small network with a box head's two layers of ReLU learns to classify; what is grouped is the mean embedding
of each class over what it was trained on, as FASA keeps it.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fasa.data.alphabet import FACES, font, ink, pool
from fasa.grouping import MeanShiftGroups

QUANTILES = (0.003, 0.005, 0.01, 0.02, 0.05)
MOST = 40  # images of a class: LVIS has up to 50,000 instances of one
SIDE = 24  # pixels of a glyph's image
WIDTH = 512  # of an embedding
CATEGORIES = Path(__file__).parents[2] / "tests" / "lvis_v1_categories.tsv"


def glyphs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """1,203 characters as often as LVIS has its classes: images (N, 1, H, W) uint8, labels (N,)."""
    lines = CATEGORIES.read_text().splitlines()[1:]
    counts = np.minimum([int(line.split("\t")[2]) for line in lines], MOST)
    characters = rng.permutation(pool())[: len(counts)]
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 1, SIDE, SIDE), np.uint8)
    pens = [font(face, size) for face in FACES for size in (13, 16)]
    for image, label in zip(images[:, 0], labels, strict=True):
        glyph = np.asarray(ink(characters[label], pens[rng.integers(len(pens))]))[:SIDE, :SIDE]
        y, x = (rng.integers(SIDE - n + 1) for n in glyph.shape)
        image[y : y + glyph.shape[0], x : x + glyph.shape[1]] = glyph
        noisy = image * rng.uniform(0.4, 1) + rng.normal(0, 25, image.shape)
        image[:] = np.clip(noisy if rng.random() < 0.5 else 255 - noisy, 0, 255)
    return images, labels


def cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of CIFAR-100's training images, 100 of a class, and their labels."""
    from fasa.data.folder import Settings, load

    train = load(Settings(path=str(path)), 0).train
    order = np.argsort(train.labels, kind="stable")[::5]
    return train.images[order].transpose(0, 3, 1, 2), train.labels[order]


class Network(nn.Module):
    """Three convolutions, two layers of a box head, a classifier."""

    def __init__(self, channels: int, side: int, classes: int):
        super().__init__()
        widths = (channels, 16, 32, 64)
        layers = []
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(a, b, 3, padding=1, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        flat = 64 * (side // 8) ** 2
        head = [nn.Flatten(), nn.Linear(flat, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.embed, self.classify = nn.Sequential(*layers, *head), nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.embed(x))


def class_means(images: np.ndarray, labels: np.ndarray, epochs: int) -> tuple[np.ndarray, float]:
    """Train with Adam and cosine decay; mean embedding of each class, (K, D), and the accuracy on train."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(images.copy()), torch.from_numpy(labels.copy())
    network = Network(x.shape[1], x.shape[2], int(y.max()) + 1)
    steps = epochs * -(-len(y) // 64)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            loss = F.cross_entropy(network(x[rows].float() / 128 - 1), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        z = torch.cat([network.embed(part.float() / 128 - 1) for part in x.split(512)])
        right = (network.classify(z).argmax(1) == y).float().mean().item()
    means = torch.zeros(int(y.max()) + 1, WIDTH).index_add_(0, y, z) / torch.bincount(y)[:, None]
    return means.numpy(), 100 * right


def table(title: str, means: np.ndarray, rng: np.random.Generator, sizes: list[int]) -> None:
    """Print what each quantile gives, of all classes and of fewer of them."""
    print(f"\n### {title}\n\n| quantile | " + " | ".join(f"{k} classes" for k in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    some = {k: means[rng.permutation(len(means))[:k]] for k in sizes}
    for quantile in QUANTILES:
        cells = []
        for k, mine in some.items():
            if quantile * k < 2.5:  # the nearest of a class is itself
                cells.append("")
                continue
            count = np.bincount(MeanShiftGroups(quantile)(mine))
            cells.append(f"{len(count)}; {count.max()}; {100 * (count == 1).sum() / k:.0f}%")
        print(f"| {quantile} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.groups.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cifar", type=Path, help="a zip file of CIFAR-100's images")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of degenerate groups: they are what is looked for
    torch.set_num_threads(1)
    rng, start = np.random.default_rng(0), time.process_time()
    print("Each cell: groups; classes in the largest; share of classes alone.")
    images, labels = glyphs(rng)
    print(f"{len(labels)} images of characters", flush=True)
    means, right = class_means(images, labels, arguments.epochs)
    title = f"{len(means)} characters with LVIS's counts ({len(labels)} images, {right:.0f}% right on train)"
    table(title, means, rng, [300, len(means)])
    if arguments.cifar:
        images, labels = cifar(arguments.cifar)
        means, right = class_means(images, labels, arguments.epochs)
        table(f"CIFAR-100 ({len(labels)} images, {right:.0f}% right on train)", means, rng, [100])
    print(f"\n{time.process_time() - start:.0f} s of CPU")


if __name__ == "__main__":
    main()
