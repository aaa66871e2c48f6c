"""One run of a classifier, resolved: what travels from the plan through the notebook to this package."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from fasa.sections import Above0, Count, NonNegative, Positive, Section, Seed

Losses = Literal["cross_entropy", "ldam_drw", "balanced_softmax"]  # the names of `losses.LOSSES`


class Schedule(Section):
    """How long and how fast to train; the defaults are LDAM-DRW's protocol, which has 200 epochs.

    Args:
        epochs: passes over the part trained on.
        batch: images per iteration.
        lr: peak learning rate; `schedule.learning_rate` says how it moves.
        warmup: epochs of linear warm-up.
        momentum, decay: of SGD.
        crop: pixels of padding before a random crop.
    """

    epochs: Positive
    batch: Positive = 128
    lr: Above0 = 0.1
    warmup: Count = 5
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    decay: NonNegative = 2e-4
    crop: Count = 4


class Row(Section):
    """What distinguishes a run from plain cross-entropy.

    Args:
        loss: of the classifier.
        augmenter: a class of `fasa` and its arguments, such as ``{type: FASA, prob_scale: 8, warmup: 5}``;
            here its `warmup` counts epochs. None: off.
        adapt_every: epochs between adaptation passes.
        adapt_split: what is measured: images held out for it, or the paper's choice, the test split itself,
            whose results are then leaky.
        signal: what of it: the mean cross-entropy of each class, or its accuracy (appendix B.2).
    """

    loss: Losses = "cross_entropy"
    augmenter: dict[str, Any] | None = None
    adapt_every: Positive = 1
    adapt_split: Literal["adapt", "test"] = "adapt"
    signal: Literal["loss", "metric"] = "loss"


class Job(Section):
    """A row on a data set, for one seed; made by `fasa.rows.compose_classifier`.

    Args:
        set, row, seed: name the run; the seed is of weights, order and virtual features.
        shots: few-shot classes have fewer images than the first, many-shot ones more than the second.
        threads: of the CPU.
        precision: of the network up to the embeddings.
    """

    set: str
    row: str
    seed: Seed
    schedule: Schedule
    settings: Row
    shots: list[Count]
    threads: Positive
    precision: Literal["float32", "bfloat16"]
