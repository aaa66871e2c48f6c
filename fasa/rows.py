"""What distinguishes a row of params.yaml, and how long it trains."""

import dataclasses
import inspect
from dataclasses import dataclass

import fasa
from fasa.errors import UserError
from fasa.grouping import MeanShiftGroups
from fasa.sections import at_least, check_keys, is_number, known, strict

MODEL = "mask_rcnn"
FILLED_IN = {"num_classes", "width", "map_shape", "seed"}  # of an augmenter, by who builds it


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
class RFS:
    """Repeat factor sampling, see `fasa.data.repeat_factors`.

    Args:
        threshold: the share of images below which a class has its images repeated; the paper's is 1e-3.
        rounding: of repeat factors.
    """

    threshold: float = at_least(0)
    rounding: str = known(("ceil", "stochastic"))


@dataclass(frozen=True)
class Row:
    """What distinguishes a row from plain Mask R-CNN, trained on images drawn uniformly.

    Args:
        model: a file of the profile's configs, without its suffix.
        classifier: the last layer: a linear one, or mmdet's NormedLinear.
        loss: of the classifier: cross-entropy, or mmdet's SeesawLoss.
        rfs: the arguments of `RFS`; None: off.
        nms_resampling: whether the RPN keeps more proposals of rare objects (appendix G).
        instaboost: whether objects are moved about in their images.
        augmenter: a class of `fasa` and its arguments, such as ``{type: FASA, prob_scale: 8}``; None: off.
        adapt_every: iterations between adaptation passes; None: never.
        signal: what is measured in a pass: the loss of each class, or its metric, the box AP (appendix B.2).
    """

    model: str = MODEL
    classifier: str = known(("linear", "normed"))
    loss: str = known(("cross_entropy", "seesaw"))
    rfs: dict | None = None
    nms_resampling: bool = False
    instaboost: bool = False
    augmenter: dict | None = None
    adapt_every: int | None = at_least(1, default=None)
    signal: str = known(("loss", "metric"))

    @property
    def shares_warmup(self) -> bool:
        """Whether plain Mask R-CNN's warm-up is this row's too: the same network, with the same scores."""
        plain = (self.model, self.classifier, self.loss) == (MODEL, "linear", "cross_entropy")
        return plain and not (self.augmenter and method(self.augmenter).changes_scores)


def read_row(rows: dict, name: str) -> Row:
    """The row `name` of the section `rows`, every key of it checked.

    Raises:
        UserError: an unknown key or value, or a combination that cannot be.
    """
    if name not in rows:
        raise UserError(f"params.yaml: there is no row {name!r}; known: {', '.join(sorted(rows))}")
    row = strict(Row, rows[name], f"rows.{name}")
    if row.rfs is not None:
        strict(RFS, row.rfs, f"rows.{name}.rfs")
    adapts = False
    if row.augmenter is not None:
        check_augmenter(row.augmenter, f"rows.{name}.augmenter")
        kind = method(row.augmenter)
        adapts = kind.adapts()
        if kind.changes_scores and (row.classifier, row.loss) != ("linear", "cross_entropy"):
            own = f"{kind.__name__} makes scores of its own"
            raise UserError(f"params.yaml: rows.{name}: {own}; leave classifier and loss out")
    if row.adapt_every and not adapts:
        raise UserError(f"params.yaml: rows.{name}.adapt_every: nothing adapts in this row; leave it out")
    return row


def check_augmenter(section: dict, where: str) -> None:
    """Refuse an augmenter that does not exist, and arguments that it does not take."""
    if (kind := section.get("type")) not in fasa.METHODS:
        raise UserError(f"params.yaml: {where}.type is {kind!r}; known: {', '.join(sorted(fasa.METHODS))}")
    arguments = inspect.signature(method(section)).parameters
    check_keys(section, arguments.keys() - FILLED_IN | {"type"}, where)
    for key, value in section.items():
        if key in arguments and is_number(arguments[key].default) and not is_number(value):
            raise UserError(f"params.yaml: {where}.{key} is {value!r}, not a number")
    fields = {field.name for field in dataclasses.fields(MeanShiftGroups)}
    check_keys(section.get("groups", {}), fields, f"{where}.groups")


def method(section: dict) -> type:
    """The class that an augmenter's section names."""
    return getattr(fasa, section["type"])
