"""The long-tailed classification data sets, by kind."""

from typing import Any

from fasa.data import cifar_lt, digits_lt, glyph_crops
from fasa.data.images import LongTailed, check
from fasa.errors import UserError
from fasa.sections import strict

KINDS = {"glyphs": glyph_crops, "digits": digits_lt, "cifar100": cifar_lt}


def load(kind: str, settings: dict[str, Any], seed: int) -> LongTailed:
    """Render, divide or read a data set, and check it.

    Args:
        kind: one of `KINDS`.
        settings: for the kind's `Settings`; what is left out has its default.
        seed: of everything that is drawn, in [0, 2 ** 32).

    Raises:
        UserError: an unknown kind or setting, or what the data set itself refuses.
    """
    if kind not in KINDS:
        raise UserError(f"data.kind: is {kind!r}; known: {', '.join(KINDS)}")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UserError(f"data.seed: is {seed!r}; it must be a whole number from 0 to {2**32 - 1}")
    module = KINDS[kind]
    return check(module.load(strict(module.Settings, settings, "data"), seed))
