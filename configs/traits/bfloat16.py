"""Backbone, neck and heads compute in bfloat16: what a profile's `precision` gives all of its rows."""

from fasa.sections import Section

imports = ["fasa.detection.bfloat16"]
warmup = True  # or a row would begin where float32 left it


class Settings(Section):
    """Nothing to set."""


def apply(cfg, classes, settings):
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="BFloat16Hook")]
