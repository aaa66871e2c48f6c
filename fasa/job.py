"""One run of a detector, resolved: what travels from the plan through a notebook to `fasa.detection`."""

from typing import Annotated, Any, Literal

from msgspec import Meta

import fasa
from fasa.sections import Above0, Count, NonNegative, Positive, Section, Seed

MODEL = "mask_rcnn"  # whose warm-up rows share


class Optimizer(Section):
    """How weights follow their gradients. A `Schedule` scales every rate in here in proportion.

    Args:
        type: AdamW, or SGD, with which the paper trains.
        lr: peak learning rate.
        weight_decay: a share of lr in both; SGD's passes through the momentum, AdamW's does not.
        momentum: of SGD; AdamW has its own.
        classifier: another one for the layer that makes class scores, `fc_cls`, of every stage of a cascade,
            whatever a row makes of it; what an augmenter adds to the head is not part of it.
    """

    type: Literal["AdamW", "SGD"]
    lr: Above0
    weight_decay: NonNegative
    momentum: Annotated[float, Meta(ge=0, lt=1)] | None = None
    classifier: "Optimizer | None" = None

    def __post_init__(self):
        if (self.momentum is not None) != (self.type == "SGD"):
            raise ValueError("SGD needs a momentum, and AdamW takes none")
        if self.classifier and self.classifier.classifier:
            raise ValueError("a classifier's optimizer has no classifier")


class Schedule(Section):
    """How long to train, and how the learning rate moves.

    Args:
        iterations, epochs: the length, one of the two.
        batch: images per iteration, of all ranks together.
        ramp: iterations of linear warm-up from a tenth of the peak rate.
        final: the share of the peak that a cosine falls to at the end; 1 keeps it.
        steps: where the rate falls to a tenth, in the unit of the length (the paper: epochs 16 and 22).
    """

    batch: Positive
    iterations: Positive | None = None
    epochs: Positive | None = None
    ramp: Count = 0
    final: Annotated[float, Meta(ge=0, le=1)] = 1.0
    steps: list[Positive] = []

    def __post_init__(self):
        if (self.iterations is None) == (self.epochs is None):
            raise ValueError("give either iterations or epochs")
        if self.steps and self.final < 1:
            raise ValueError("steps and final exclude each other: the rate falls in steps or by a cosine")
        if self.steps != sorted(set(self.steps)) or self.steps and self.steps[-1] >= self.length:
            raise ValueError(f"steps {self.steps} must rise and lie below the length, {self.length}")
        if self.iterations is not None and self.ramp >= self.iterations:
            raise ValueError(f"ramp {self.ramp} must be below iterations, {self.iterations}")
        if self.epochs is not None and self.final < 1:
            raise ValueError("final needs a length in iterations")

    @property
    def length(self) -> int:
        """In iterations, or in epochs."""
        return self.iterations or self.epochs


class Pretraining(Section):
    """How a backbone learns to tell characters apart that are no classes, see `fasa.detection.pretraining`.

    Args:
        classes: characters.
        images: pictures of each that are trained on.
        image_size: side of the square pictures, in pixels.
        object_size: smallest and largest side of a character before it is turned, in pixels.
        iterations: of `batch` pictures.
        batch: pictures.
        lr: peak learning rate.
        seed: of pictures, weights and order; rows of all seeds share the backbone.
    """

    classes: Annotated[int, Meta(ge=2)]
    images: Positive
    image_size: Annotated[int, Meta(ge=32, le=1024)]
    object_size: tuple[Positive, Positive]
    iterations: Positive
    batch: Annotated[int, Meta(ge=2)]
    lr: Above0
    seed: Seed = 0

    def __post_init__(self):
        smallest, largest = self.object_size
        # What does not fit, turned, is drawn again, so some must.
        if not 8 <= smallest <= largest <= self.image_size or smallest > 0.75 * self.image_size:
            raise ValueError(
                "object_size must be [smallest, largest], at least 8 and at most 3/4 and 1 of image_size, "
                f"{self.image_size}"
            )


class Job(Section):
    """A row of params.yaml at the scale of a profile, for one seed; made by `fasa.rows.compose`.

    Args:
        profile: the scale; what is written lies in ``runs/PROFILE``.
        data: the folder of the prepared data set.
        configs: the folder below ``configs`` that the model is from.
        config: what differs from that config, nested as it is.
        weights: that the backbone starts from, see `fasa.detection.weights`; None: random.
        row: its name, such as ``mask_rcnn_rfs_fasa``.
        seed: of weights, order of images and virtual features.
        threads: of the CPU, which the last digits of sums depend on.
        model: a file of ``configs/CONFIGS``, without its suffix.
        traits: settings of the fragments in ``configs/traits`` that change the config, in their order.
        augmenter: a method and its arguments, such as ``{type: FASA, prob_scale: 8}``; None: off.
        adapt_every: iterations between adaptation passes; 0: each epoch, or as many images; None: never.
        signal: what is measured in a pass: the loss of each class, or its metric, the box AP (appendix B.2).
        optimizer: of all that is trained.
        warmup: of what the rows of a seed share; None: a row is trained from its initial weights.
        train: of the row's own part.
        pretrained: the checkpoint that the backbone starts from; None: it starts from `weights`.
        own_warmup: whether the row's network, or what trains it, is another one than the shared warm-up's.
    """

    profile: str
    data: str
    configs: str
    row: str
    seed: Seed
    threads: Positive
    optimizer: Optimizer
    train: Schedule
    warmup: Schedule | None = None
    config: dict[str, Any] = {}
    weights: str | None = None
    model: str = MODEL
    traits: dict[str, dict[str, Any]] = {}
    augmenter: dict[str, Any] | None = None
    adapt_every: Count | None = None
    signal: Literal["loss", "metric"] = "loss"
    pretrained: str | None = None
    own_warmup: bool = False

    @property
    def name(self) -> str:
        """``ROW-SEED``, as its files and stages are called."""
        return f"{self.row}-{self.seed}"


class Candidate(Section):
    """One candidate of a tuning study, for one seed; made by `fasa.rows.candidate`.

    Args:
        rows: the jobs of the study's rows.
        warmup: the job of a warm-up of its own, which its rows share; None: the profile's.
        data: module and settings of a data set of its own; None: the one that the jobs name.
        pretrain: of a backbone of its own; None: the one that the jobs name, if any.
    """

    rows: list[Job]
    warmup: Job | None = None
    data: dict[str, Any] | None = None
    pretrain: Pretraining | None = None


def method(augmenter: dict[str, Any]) -> type:
    """The class that an augmenter's section names."""
    return getattr(fasa, augmenter["type"])
