"""The long-tailed classification data sets, by kind."""

from typing import Any

from fasa.data import CLASSIFICATION, find
from fasa.data.images import LongTailed, check
from fasa.sections import Seed, read


def load(section: dict[str, Any], seed: int, where: str = "data") -> LongTailed:
    """Render, divide or read a data set, and check it.

    Args:
        section: `kind`, one of `fasa.data.CLASSIFICATION`, and settings of that kind.
        seed: of everything that is drawn.
        where: the section's dotted path in params.yaml.

    Raises:
        UserError: an unknown kind or setting, or what the data set itself refuses.
    """
    module, settings = find(CLASSIFICATION, section, where)
    return check(module.load(settings, read(Seed, seed, f"{where}.seed")))
