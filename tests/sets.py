"""Sets of classification, read and loaded as the stage `images` does."""

from fasa.data.images import LongTailed, check
from fasa.data.kinds import CLASSIFICATION, find


def load(section: dict, seed: int) -> LongTailed:
    """Of a section of params.yaml with a kind."""
    module, settings = find(CLASSIFICATION, section, "data")
    return check(module.load(settings, seed))
