"""The one interface between a feature-augmentation method and whoever trains a classifier.

Shapes: N embeddings of a batch, P foreground ones, M virtual samples, D embedding width, C channels of a RoI
map, K foreground classes; background, where there is one, is label K.
"""

import inspect
import warnings
from collections.abc import Callable, Set
from numbers import Integral
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from fasa.errors import UserError

FILLED_IN = {"num_classes", "width", "map_shape"}  # arguments that no config gives
LARGEST = 1e15  # of an embedding's elements: sums of larger ones' squares overflow float32
LOOK_EVERY = 100  # steps from one look at `skipped` to the next: a GPU has to stop for it


class Virtual(NamedTuple):
    """Virtual samples for the classification branch; M may be 0."""

    features: Tensor  # (M, D) or (M, C, H, W) float: they re-enter where they were taken
    labels: Tensor  # (M,) int64 in [0, K); background never appears
    weights: Tensor  # (M,) float, >= 0


class HostCopy:
    """What the host knows of a buffer; the device is asked again only after something else has written it."""

    def __init__(self):
        self.buffer, self.version, self.value = None, -1, None

    def get(self, buffer: Tensor, read: Callable[[Tensor], Any]) -> Any:
        """``read(buffer)``, from memory where the buffer is as it was."""
        if self.buffer is not buffer or self.version != buffer._version:
            self.set(buffer, read(buffer))
        return self.value

    def set(self, buffer: Tensor, value: Any) -> None:
        """Remember `value` of the buffer as it is now."""
        self.buffer, self.version, self.value = buffer, buffer._version, value


def require(owner: str, met: bool, name: str, value: Any, rule: str) -> None:
    """Refuse an argument; NaN, for which no comparison holds, among them.

    Raises:
        UserError: one line with what was given and what is asked for.
    """
    if not met:
        raise UserError(f"{owner}: {name} is {value!r}; it must be {rule}")


def check_arguments(method: Callable, arguments: dict[str, Any], where: str, filled_in: Set[str]) -> None:
    """Refuse what a method does not take from a config, and what is no number where it takes one.

    Args:
        where: what the arguments are of, in a message.
        filled_in: arguments that a config leaves to whoever trains.

    Raises:
        UserError: names the first.
    """
    known = inspect.signature(method).parameters
    takes_more = any(one.kind is one.VAR_KEYWORD for one in known.values())  # and hands it on: it will say
    if not takes_more and (unknown := arguments.keys() - (known.keys() - filled_in)):
        names = ", ".join(sorted(known.keys() - filled_in))
        raise UserError(f"{where}.{min(unknown)} is unknown; known: {names}")
    for name, value in arguments.items():
        kind = type(known[name].default) if name in known else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is float and not number:
            raise UserError(f"{where}.{name} is {value!r}, not a number")
        if kind is int and not (number and value % 1 == 0):  # infinity and NaN leave NaN
            raise UserError(f"{where}.{name} is {value!r}, not a whole number")


class Augmenter(nn.Module):
    """What a method may do to the classification branch; the default does nothing.

    A trainer calls `initialise` once, with the instance counts of the part trained on; in every training step
    `encode` on what enters the classifier, `logits` on what leaves it, `losses`, and the augmenter itself on
    the embeddings, which gives virtual samples; at test time `encode` and `logits`; and `adapt` after every
    pass over held-out data, then `record` for its history. Where there are stages, `frozen` says before a
    step what it must not train. A method overrides what it needs: these, `observe` and `virtual`. Nothing
    else of a method is the trainer's business.

    Embeddings that are not finite, as mixed precision now and then gives, enter no method's state.
    Buffers are numbers, never bool nor NaN, so that wrappers which average them (EMA, SWA) may.

    Args:
        num_classes: K, without background.
        width: D, the width of an embedding.
        loss_weight: of the virtual samples' cross-entropy.
        warmup: iterations before the first virtual sample; state is gathered from the start.
        seed: of all that is drawn.

    Attributes (in the checkpoint):
        iteration: () int64, training steps so far.
        drawn: (K,) int64, the virtual samples of each class so far, on this rank.
        skipped: () int64, the steps so far in which embeddings were left out, on this rank, see `usable`.
        counts: (K,) int64, the instance counts; -1 before `initialise`.
    """

    needs_maps: bool = False  # whether `observe` and `virtual` look at the RoI maps
    changes_scores: bool = False  # whether a model needs the augmenter at test time too
    own_moments: bool = False  # whether it must not go on from what FASA gathered in a warm-up
    phase: int = 0  # iterations of the first of two stages after the warm-up; 0: there are no stages

    def __init__(
        self, num_classes: int, width: int, loss_weight: float = 0.1, warmup: int = 0, seed: int = 0
    ):
        super().__init__()
        for name, value in dict(num_classes=num_classes, width=width).items():
            told = isinstance(value, Integral) and value >= 1
            require(type(self).__name__, told, name, value, "a whole number from 1")
        require(type(self).__name__, isinstance(seed, Integral), "seed", seed, "a whole number")
        require(type(self).__name__, loss_weight >= 0, "loss_weight", loss_weight, "0 or more")
        told = isinstance(warmup, int | float) and warmup >= 0
        require(type(self).__name__, told, "warmup", warmup, "0 or more iterations")
        self.num_classes, self.width = num_classes, width
        self.loss_weight, self.warmup, self.seed = loss_weight, warmup, seed
        self.register_buffer("iteration", torch.tensor(0))
        self.register_buffer("drawn", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("skipped", torch.tensor(0))
        self.register_buffer("counts", torch.full((num_classes,), -1))
        self._step, self._counted, self._told = HostCopy(), HostCopy(), False

    @property
    def step(self) -> int:
        """`iteration`, without a stop of the GPU."""
        return self._step.get(self.iteration, Tensor.item)

    def initialise(self, counts: Tensor) -> None:
        """Take the instance counts, (K,), of the data trained on, and count iterations from 0.

        Raises:
            ValueError: they are not of K classes, or no whole numbers from 0.
        """
        if len(counts) != self.num_classes:
            raise ValueError(f"{type(self).__name__}: {len(counts)} counts for {self.num_classes} classes")
        counts = torch.as_tensor(counts)
        if len(wrong := counts[~((counts >= 0) & (counts % 1 == 0))]):
            raise ValueError(f"{type(self).__name__}: {wrong[0].item()} is no number of instances")
        self.counts.copy_(counts)
        self.iteration.zero_()
        self.drawn.zero_()
        self.skipped.zero_()

    def require_counts(self) -> None:
        """Refuse to go on before `initialise`.

        Raises:
            RuntimeError: the class counts are not known.
        """
        if not self._counted.get(self.counts, lambda counts: bool((counts >= 0).all())):
            raise RuntimeError(f"{type(self).__name__} needs the class counts: call initialise(counts)")

    def forward(
        self,
        z: Tensor,
        labels: Tensor,
        maps: Tensor | None = None,
        head: Callable[[Tensor], Tensor] | None = None,
    ) -> Virtual:
        """One training step: observe, then make virtual samples unless it is too early.

        `observe` and `virtual` get the P embeddings that are foreground and `usable`.

        Args:
            z: (N, D), embeddings before `encode`, with their graph.
            labels: (N,) int64; what is not in [0, K) is background.
            maps: (N, C, H, W), the RoI maps that they come from, where `needs_maps`.
            head: maps (M, C, H, W) -> scores (M, >= K), where `needs_maps`.

        Returns:
            Features in float32, whatever `z` is; a classifier that is in another precision wants them cast.

        Raises:
            ValueError: embeddings of another width, or other labels than one of each.
        """
        if z.shape[1:] != (self.width,):
            raise ValueError(f"{type(self).__name__}: embeddings {tuple(z.shape)}, not (N, {self.width})")
        if labels.shape != z.shape[:1] or labels.dtype != torch.int64:
            told = f"{tuple(labels.shape)} {str(labels.dtype).removeprefix('torch.')}"
            raise ValueError(f"{type(self).__name__}: labels {told}, not ({len(z)},) int64")
        step = self.step + 1
        self.iteration += 1
        self._step.set(self.iteration, step)
        maps = maps if self.needs_maps else None
        foreground, usable = (labels >= 0) & (labels < self.num_classes), self.usable(z, maps)
        self.skipped += (foreground & ~usable).any()
        if step % LOOK_EVERY == 0:
            self._tell_skipped()
        rows = (foreground & usable).nonzero().squeeze(1)
        z, labels, maps = z[rows], labels[rows], maps if maps is None else maps[rows]
        self.observe(z, labels, maps, head)
        if step <= self.warmup:
            return self.nothing(z)
        virtual = self.virtual(z, labels, maps, head)
        self.drawn.index_add_(0, virtual.labels, torch.ones_like(virtual.labels))
        return virtual

    @staticmethod
    def usable(z: Tensor, maps: Tensor | None = None) -> Tensor:
        """Which embeddings, (N, D), and maps are finite and no larger than statistics can bear, (N,) bool."""
        parts = [z.detach()] if maps is None else [z.detach(), maps.detach().flatten(1)]
        return torch.stack([part.abs().amax(1).float() < LARGEST for part in parts]).all(0)

    def _tell_skipped(self) -> int:
        """The number of steps in which embeddings were left out; warns of it, once."""
        if (skipped := self.skipped.item()) and not self._told:
            self._told = True
            warnings.warn(
                f"{type(self).__name__}: embeddings were not finite in {skipped} of {self.step} steps and "
                "have been left out; a few are normal in mixed precision",
                stacklevel=3,
            )
        return skipped

    def encode(self, z: Tensor) -> Tensor:
        """What the classifier sees of all embeddings `z`, (N, D)."""
        return z

    def logits(self, scores: Tensor, z: Tensor, weight: Tensor, labels: Tensor | None = None) -> Tensor:
        """The class scores, (N, >= K), in place of the classifier's own.

        Args:
            scores: (N, >= K), the classifier's.
            z: (N, D), what it saw.
            weight: (>= K, D), its weight.
            labels: (N,) in [0, K] in training; None at test time.
        """
        return scores

    def observe(self, z: Tensor, labels: Tensor, maps=None, head=None) -> None:
        """Update the method's state from P embeddings of a batch; arguments else as `forward`'s."""

    def virtual(self, z: Tensor, labels: Tensor, maps=None, head=None) -> Virtual:
        """Make virtual samples from P embeddings; arguments else as `forward`'s."""
        return self.nothing(z)

    def losses(self, z: Tensor, labels: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Losses of the method's own, their names beginning with ``loss_``.

        Args:
            z: (N, D), embeddings before `encode`.
            labels: (N,) in [0, K].
            scores: (N, >= K), what `logits` gave.
        """
        return {}

    def frozen(self, step: int | None = None) -> str | None:
        """What a step, counted from 1, must not train: ``"features"``, ``"classifier"`` or None.

        Args:
            step: None: the coming one.
        """
        return None

    def adapt(self, signal: Tensor) -> None:
        """Take a class signal, (K,): lower is better (a metric comes negated), NaN is not measured."""

    def record(self) -> dict[str, list | int]:
        """What there is to see after a pass, as plain data; `skipped` only where there is some."""
        skipped = self._tell_skipped()
        return dict(skipped=skipped) if skipped else {}

    @classmethod
    def adapts(cls) -> bool:
        """Whether the method does something with class signals."""
        return cls.adapt is not Augmenter.adapt

    def nothing(self, z: Tensor) -> Virtual:
        """No virtual sample at all."""
        features = torch.zeros(0, self.width, device=z.device)  # float32, as of the iterations that draw some
        return Virtual(features, self.drawn.new_zeros(0), features.new_zeros(0))

    def generator(self) -> torch.Generator:
        """A generator for this step, on the device of the state; call it once a step.

        Seeded anew from (seed, rank, iteration): a resumed run draws what an unbroken one would have.
        """
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        seed = hash((self.seed, rank, self.step))  # of integers: the same in every process
        return torch.Generator(self.drawn.device).manual_seed(seed % 2**63)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        if prefix + "iteration" in state_dict:  # an older one, trained with counts that it did not keep
            state_dict.setdefault(prefix + "counts", torch.zeros_like(self.counts))
            state_dict.setdefault(prefix + "skipped", torch.zeros_like(self.skipped))
        super()._load_from_state_dict(state_dict, prefix, *args)


def virtual_loss(logits: Tensor, virtual: Virtual) -> Tensor:
    """Weighted mean cross-entropy of virtual samples; 0, with a gradient path, where there are none.

    Args:
        logits: (M, >= K), the scores of `virtual.features`.
    """
    losses = F.cross_entropy(logits.float(), virtual.labels, reduction="none")
    weights = virtual.weights.float()  # 1e-12 is 0 in half precision
    # Not .mean(): it is NaN for M = 0, and a rank without the term would stall its peers.
    return (weights * losses).sum() / weights.sum().clamp(min=1e-12)
