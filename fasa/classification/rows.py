"""What distinguishes a row of classification, and how long it trains."""

from dataclasses import dataclass

from fasa.classification.losses import LOSSES
from fasa.errors import UserError
from fasa.rows import check_augmenter, method
from fasa.sections import at_least, known, strict


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; the defaults are LDAM-DRW's protocol, which has 200 epochs.

    Args:
        epochs: passes over the part trained on.
        batch: images per iteration.
        lr: peak learning rate; `schedule.learning_rate` says how it moves.
        warmup: epochs of linear warm-up.
        momentum, decay: of SGD.
        crop: pixels of padding before a random crop.
    """

    epochs: int = at_least(1)
    batch: int = at_least(1, default=128)
    lr: float = at_least(0, default=0.1)
    warmup: int = at_least(0, default=5)
    momentum: float = at_least(0, default=0.9)
    decay: float = at_least(0, default=2e-4)
    crop: int = at_least(0, default=4)


@dataclass(frozen=True)
class Row:
    """What distinguishes a row from plain cross-entropy.

    Args:
        loss: a name of `losses.LOSSES`.
        augmenter: a class of `fasa` and its arguments, such as ``{type: FASA, prob_scale: 8, warmup: 5}``;
            here its `warmup` counts epochs. None: off.
        adapt_every: epochs between adaptation passes; None: never.
        adapt_split: what is measured: images held out for it, or the paper's choice, the test split itself,
            whose results are then leaky.
        signal: what of it: the mean cross-entropy of each class, or its accuracy (appendix B.2).
    """

    loss: str = known(tuple(LOSSES), default="cross_entropy")
    augmenter: dict | None = None
    adapt_every: int | None = at_least(1, default=1)
    adapt_split: str = known(("adapt", "test"))
    signal: str = known(("loss", "metric"))


def read_row(rows: dict, name: str) -> Row:
    """The row `name` of the section `rows`, every key of it checked."""
    if name not in rows:
        raise UserError(f"params.yaml: there is no row {name!r}; known: {', '.join(sorted(rows))}")
    row = strict(Row, rows[name], f"rows.{name}")
    if row.augmenter is not None:
        where = f"rows.{name}.augmenter"
        check_augmenter(row.augmenter, where)
        kind = method(row.augmenter)
        if kind.needs_maps or kind.changes_scores:
            raise UserError(f"params.yaml: {where}.type: {kind.__name__} needs a detector's head")
    return row
