"""A backbone learns to tell characters apart that are no classes of the data set, as on ImageNet the paper's.

A loop of plain PyTorch on pictures of one character each, rendered as scenes are.

Shapes: N pictures of H = W pixels, K characters.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from tqdm import tqdm

from fasa.data import alphabet
from fasa.data.lvis import read_annotations
from fasa.data.scenes import Thing, paint
from fasa.detection.training import save_model
from fasa.errors import UserError
from fasa.job import Pretraining

TESTED = 5  # pictures of each character that accuracy is measured on
DECAY = 0.05  # of weights, an iteration, times the learning rate
SHIFT = 4  # pixels by which pictures are moved at most
RAMP = 0.1  # of the iterations are a linear warm-up; the rate falls by a cosine


def other_characters(data: str | Path, number: int, rng: np.random.Generator) -> list[str]:
    """Draw characters that a prepared data set has no class of, of those that can be classes.

    Raises:
        UserError: there are fewer.
    """
    categories = read_annotations(Path(data, "annotations", "train.json"))["categories"]
    classes = {name for category in categories for name in category.get("synonyms", ())}
    others = [character for character in alphabet.pool() if character not in classes]
    if number > len(others):
        raise UserError(f"pretrain.classes: is {number}; choose at most {len(others)}, which are no classes")
    return [others[i] for i in np.sort(rng.choice(len(others), number, replace=False))]


def render(
    characters: list[str], each: int, settings: Pretraining, seed: np.random.SeedSequence
) -> tuple[Tensor, Tensor]:
    """Paint `each` pictures of every character: (N, 3, H, W) uint8, RGB, and labels (N,) int64."""
    labels = np.repeat(np.arange(len(characters)), each)
    size = settings.image_size
    pictures = torch.empty((len(labels), 3, size, size), dtype=torch.uint8)
    rngs = map(np.random.default_rng, seed.spawn(len(labels)))
    shown = tqdm(labels.tolist(), desc="render", unit="", mininterval=5)
    for picture, label, rng in zip(pictures, shown, rngs, strict=True):
        painted, _ = paint([Thing(characters[label])], size, settings.object_size, rng)
        picture.copy_(torch.from_numpy(painted).permute(2, 0, 1))
    return pictures, torch.from_numpy(labels)


class Classifier(nn.Module):
    """A detector's backbone, its last map averaged over all places, and a linear layer.

    Args:
        model: of the detector's config; its preprocessor says how pixels are standardised.
        classes: K.
    """

    def __init__(self, model: ConfigDict, classes: int):
        super().__init__()
        self.backbone = MODELS.build(model.backbone)
        self.fc = nn.LazyLinear(classes)
        for name in ("mean", "std"):
            values = torch.tensor(model.data_preprocessor[name]).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores (N, K) of pictures (N, 3, H, W) uint8."""
        return self.fc(self.backbone((pictures - self.mean) / self.std)[-1].mean((2, 3)))


def train_backbone(
    model: ConfigDict, data: str | Path, settings: Pretraining | None, threads: int, out: Path
) -> dict[str, Any]:
    """Train the backbone of a model to tell characters apart, by AdamW: SGD stays at chance for minutes.

    Writes the checkpoint `out`; one without weights where there are no settings.

    Args:
        model: of an mmdet config.
        data: the folder of the prepared data set.
        threads: of the CPU, which the last digits of sums depend on.

    Returns:
        classes, K; accuracy, in percent, on pictures of the same characters that were not trained on; loss,
        the mean of the last 50 iterations; losses, of each iteration. Nothing where nothing is trained.

    Raises:
        UserError: more characters than there are, or a loss that is not a number.
    """
    if settings is None:
        save_model(nn.Module(), [], out)
        return {}
    torch.set_num_threads(threads)
    plan, train, test = np.random.SeedSequence(settings.seed).spawn(3)
    characters = other_characters(data, settings.classes, np.random.default_rng(plan))
    pictures, labels = render(characters, settings.images, settings, train)
    init_default_scope("mmdet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        classifier = Classifier(model, len(characters))
        classifier.backbone.init_weights()
        classifier.eval()(pictures[:1])  # fixes the linear layer's width
        losses = fit(classifier, pictures, labels, settings)
    names = [alphabet.class_name(character) for character in characters]
    save_model(nn.ModuleDict(dict(backbone=classifier.backbone)), names, out)
    pictures, labels = render(characters, TESTED, settings, test)
    found = accuracy(classifier, pictures, labels)
    told = dict(classes=len(characters), accuracy=found, loss=float(np.mean(losses[-50:])))
    return told | dict(losses=losses)


def fit(model: Classifier, pictures: Tensor, labels: Tensor, settings: Pretraining) -> list[float]:
    """Train a classifier; returns the loss of each iteration."""
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=DECAY)
    steps = settings.iterations
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / (RAMP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2,
    )
    model.train()
    losses, order = [], torch.empty(0, dtype=torch.int64)
    for step in (shown := tqdm(range(steps), desc="pretrain", mininterval=5)):
        if len(order) < settings.batch:
            order = torch.randperm(len(labels))
        batch, order = order[: settings.batch], order[settings.batch :]
        # Colours are drawn alike for all channels, and places at random: this makes more pictures of one.
        shift = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
        varied = pictures[batch][:, torch.randperm(3)].roll(shift, (2, 3))
        loss = F.cross_entropy(model(varied), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise UserError(f"pretrain: the loss is {losses[-1]} in iteration {step + 1}: lower pretrain.lr")
        shown.set_postfix(loss=f"{losses[-1]:.2f}", refresh=False)
    return losses


def losses_table(losses: Sequence[float], every: int = 10) -> str:
    """The mean of the losses of every few iterations, a line each, tab-separated: iteration, loss."""
    means = [(end, np.mean(losses[end - every : end])) for end in range(every, len(losses) + 1, every)]
    return "iteration\tloss\n" + "".join(f"{end}\t{mean:.5f}\n" for end, mean in means)


@torch.no_grad()
def accuracy(model: nn.Module, pictures: Tensor, labels: Tensor) -> float:
    """Percent of pictures whose best score is of their label."""
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in pictures.split(100)])
    return 100 * (found == labels).double().mean().item()
