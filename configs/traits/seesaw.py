"""SeesawLoss in place of cross-entropy (mmdet's, with its published p and q)."""

from fasa.sections import NonNegative, Section
from fasa.traits import box_heads

imports = []
warmup = True  # it has outputs of its own
scores = True  # of its own


class Settings(Section):
    """Exponents of the mitigation and the compensation factor."""

    p: NonNegative = 0.8
    q: NonNegative = 2.0


def apply(cfg, classes, settings):
    for head in box_heads(cfg):
        head.loss_cls = dict(type="SeesawLoss", p=settings.p, q=settings.q, num_classes=len(classes.names))
