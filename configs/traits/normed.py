"""A cosine classifier, mmdet's NormedLinear."""

from fasa.sections import Above0, Section
from fasa.traits import box_heads

imports = []
warmup = True  # it is another layer
scores = True  # of its own


class Settings(Section):
    """The temperature that cosines are multiplied with."""

    temperature: Above0 = 20


def apply(cfg, classes, settings):
    for head in box_heads(cfg):
        head.cls_predictor_cfg = dict(
            type="NormedLinear", tempearture=settings.temperature
        )  # mmdet's spelling
