"""What a classifier does on a split, class by class.

Shapes: N images, K classes.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fasa.classification.batches import Images
from fasa.classification.resnet32 import ResNet32

BATCH = 500  # images at a time


class ClassScores(NamedTuple):
    """Per class, on a split; loss and accuracy are NaN where it has no image. And image by image."""

    n: Tensor  # (K,) int64, images
    loss: Tensor  # (K,) float64, mean cross-entropy of the plain logits in nats, whatever the training loss
    accuracy: Tensor  # (K,) float64 in [0, 1], of the argmax of the plain logits
    right: Tensor  # (N,) bool, whether that is an image's class, in the order of the split


@torch.no_grad()
def measure(model: ResNet32, images: Images, num_classes: int) -> ClassScores:
    """Pass over a split in eval mode; it draws no random number and leaves no trace in the model."""
    loss, found = torch.zeros(2, num_classes, dtype=torch.float64, device=images.labels.device)
    right, training = [], model.training
    model.eval()
    for x, labels in images.in_order(BATCH):
        logits = model(x)
        loss.index_add_(0, labels, F.cross_entropy(logits, labels, reduction="none").double())
        right.append(logits.argmax(1) == labels)
        found.index_add_(0, labels, right[-1].double())
    model.train(training)
    n = torch.bincount(images.labels, minlength=num_classes)
    return ClassScores(n, loss / n, found / n, torch.cat(right))


def shot_accuracy(
    per_class: np.ndarray, counts: np.ndarray, shots: tuple[int, int] = (20, 100)
) -> dict[str, float]:
    """Mean accuracy of the many-, medium- and few-shot classes (Liu et al. 2019).

    Args:
        per_class: accuracy of each class, (K,), NaN where not measured.
        counts: images of each class in the part trained on, (K,).
        shots: few-shot classes have fewer images than the first, many-shot ones more than the second.

    Returns:
        many, medium and few, in the unit of `per_class`; NaN where there is no such class.
    """
    few, many = counts < shots[0], counts > shots[1]
    groups = dict(many=many, medium=~few & ~many, few=few)
    members = {name: per_class[group & ~np.isnan(per_class)] for name, group in groups.items()}
    return {name: float(one.mean()) if len(one) else float("nan") for name, one in members.items()}
