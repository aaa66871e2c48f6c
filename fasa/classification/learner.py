"""A classifier, its loss, its augmenter and its optimiser, trained an epoch at a time.

Shapes: B images of a batch, D the width of an embedding, M virtual features, K classes.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

import fasa
from fasa.augmenter import Augmenter, virtual_loss
from fasa.classification.job import Row, Schedule
from fasa.classification.losses import LOSSES
from fasa.classification.resnet32 import WIDTH, ResNet32
from fasa.classification.schedule import learning_rate
from fasa.errors import UserError


def build_augmenter(row: Row, counts: Tensor, iterations: int, seed: int) -> Augmenter | None:
    """The row's augmenter, on the counts' device and knowing them.

    Args:
        counts: images of each class trained on, (K,).
        iterations: of an epoch, in which the row gives `warmup`.
    """
    if row.augmenter is None:
        return None
    arguments = {name: value for name, value in row.augmenter.items() if name != "type"}
    if "warmup" in arguments:
        arguments["warmup"] *= iterations
    augmenter = getattr(fasa, row.augmenter["type"])(len(counts), WIDTH, seed=seed, **arguments)
    augmenter.to(counts.device).initialise(counts)
    return augmenter


class Learner:
    """Plain training, and beside it the loss of virtual features where the row has an augmenter.

    Args:
        counts: images of each class trained on, (K,), on the device to train on.
        in_channels: of the images.
        schedule, row: what to do.
        seed: of weights and virtual features; torch's global generator is left as it was.
        amp: the network up to the embeddings in bfloat16, which needs no scaling of the loss; weights,
            classifier, losses and class statistics stay float32.

    Attributes:
        iterations: of an epoch.
    """

    def __init__(
        self, counts: Tensor, in_channels: int, schedule: Schedule, row: Row, seed: int, amp: bool = False
    ):
        self.schedule, self.amp = schedule, amp
        self.loss = LOSSES[row.loss](counts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = ResNet32(len(counts), in_channels, self.loss.scale)
        self.model.to(counts.device, memory_format=torch.channels_last)
        self.iterations = math.ceil(counts.sum().item() / schedule.batch)
        self.augmenter = build_augmenter(row, counts, self.iterations, seed)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), schedule.lr, schedule.momentum, weight_decay=schedule.decay
        )

    def epoch(
        self,
        epoch: int,
        batches: Iterable[tuple[Tensor, Tensor]],
        report: Callable[[int, int, dict[str, Tensor]], None],
    ) -> dict[str, float]:
        """Train on every batch once.

        Args:
            epoch: counted from 0; learning rate and loss follow it.
            report: called after every batch with `epoch`, the images seen and the batch's losses.

        Returns:
            lr, and each loss as the mean over images.

        Raises:
            UserError: a loss is not a number.
        """
        rate = learning_rate(self.schedule, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        total, seen = {}, 0
        for x, labels in batches:
            losses = self.step(x, labels, epoch / self.schedule.epochs)
            total = {name: total.get(name, 0) + len(labels) * loss.double() for name, loss in losses.items()}
            seen += len(labels)
            report(epoch, seen, losses)
        means = {name: value.item() / seen for name, value in total.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise UserError(
                    f"{name} is {mean} in epoch {epoch + 1}: lower the learning rate (lr in params.yaml)"
                )
        return dict(lr=rate) | means

    def step(self, x: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
        """One step of the optimiser on images (B, C, H, W) of `labels`, (B,): returns its losses."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp):
            z = self.model.features(x)
        z = z.float()
        losses = dict(loss=self.loss(self.model.classifier(z), labels, progress))
        if self.augmenter is not None:
            virtual = self.augmenter(z, labels)
            loss = virtual_loss(self.model.classifier(virtual.features), virtual)
            losses["loss_virtual"] = self.augmenter.loss_weight * loss
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def state_dict(self) -> dict[str, dict]:
        """All that the next epoch depends on, as tensors and plain data."""
        parts = dict(model=self.model, optimizer=self.optimizer, augmenter=self.augmenter)
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Take up what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.augmenter is not None:
            self.augmenter.load_state_dict(state["augmenter"])
