"""AdamW for all parameters, whatever the profile trains with (beyond the paper).

It scales the step of each parameter: rare classes' weights move as far as others, where SGD leaves them
behind.
"""

from fasa.sections import Above0, NonNegative, Section

imports = []
warmup = True  # or the classifier would start from where another optimizer left it


class Settings(Section):
    """See `fasa.job.Optimizer`."""

    lr: Above0 = 1e-3
    weight_decay: NonNegative = 0.05


def apply(cfg, classes, settings):
    cfg.optim_wrapper.pop("constructor", None)
    cfg.optim_wrapper.optimizer = dict(
        type="AdamW", lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
