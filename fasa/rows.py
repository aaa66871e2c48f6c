"""What distinguishes a row of params.yaml, and how long it trains."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any

import fasa
from fasa.errors import UserError
from fasa.grouping import MeanShiftGroups
from fasa.sections import at_least, check_keys, is_number, strict


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        iterations: steps of the optimiser.
        batch: images per iteration.
        lr: peak learning rate.
        ramp: iterations of linear warm-up from lr / 10.
        final: the share of lr that a cosine falls to at the end; 1 keeps it.
    """

    iterations: int = at_least(1)
    batch: int = at_least(1)
    lr: float = at_least(0)
    ramp: int = at_least(0, default=0)
    final: float = at_least(0, default=1.0)


@dataclass(frozen=True)
class Row:
    """What distinguishes a row from plain Mask R-CNN.

    Args:
        augmenter: a class of `fasa` and its arguments, such as ``{type: FASA, prob_scale: 8}``; None: off.
        adapt_every: iterations between adaptation passes; None: never.
        signal: what is measured in a pass: the loss of each class, or its metric, the box AP (appendix B.2).
    """

    augmenter: dict | None = None
    adapt_every: int | None = at_least(1, default=None)
    signal: str = dataclasses.field(default="loss", metadata=dict(known=("loss", "metric")))


def read_row(rows: dict, name: str) -> Row:
    """The row `name` of the section `rows`, every key of it checked."""
    if name not in rows:
        raise UserError(f"params.yaml: there is no row {name!r}; known: {', '.join(sorted(rows))}")
    row = strict(Row, rows[name], f"rows.{name}")
    if row.augmenter is not None:
        where, kind = f"rows.{name}.augmenter", row.augmenter.get("type")
        augmenters = [name for name in fasa.__all__ if is_augmenter(getattr(fasa, name))]
        if kind not in augmenters:
            raise UserError(f"params.yaml: {where}.type is {kind!r}; known: {', '.join(augmenters)}")
        arguments = inspect.signature(getattr(fasa, kind)).parameters
        check_keys(row.augmenter, arguments.keys() - {"num_classes", "width", "seed"} | {"type"}, where)
        for key, value in row.augmenter.items():
            if key in arguments and is_number(arguments[key].default) and not is_number(value):
                raise UserError(f"params.yaml: {where}.{key} is {value!r}, not a number")
        fields = {field.name for field in dataclasses.fields(MeanShiftGroups)}
        check_keys(row.augmenter.get("groups", {}), fields, f"{where}.groups")
    return row


def is_augmenter(thing: Any) -> bool:
    """Whether it is a method of fasa, rather than a part of one."""
    return isinstance(thing, type) and issubclass(thing, fasa.Augmenter) and thing is not fasa.Augmenter
