"""Repeat factor sampling: images of rare classes come more often (appendix F).

With a loop by epochs mmdet's ClassBalancedDataset, with one by iterations a sampler that repeats alike.
"""

from typing import Literal

from fasa.sections import Above0, Section

imports = ["fasa.detection.repeat_factor_sampler"]
warmup = False


class Settings(Section):
    """See `fasa.data.repeat_factors`.

    Args:
        threshold: the share of images below which a class has its images repeated; the paper's is 1e-3.
        rounding: of repeat factors; by epochs always "ceil".
    """

    threshold: Above0 = 1e-3
    rounding: Literal["ceil", "stochastic"] = "ceil"


def apply(cfg, classes, settings):
    loader = cfg.train_dataloader
    if cfg.train_cfg.type == "EpochBasedTrainLoop":
        wrapper = dict(type="ClassBalancedDataset", oversample_thr=settings.threshold)
        loader.dataset = wrapper | dict(dataset=loader.dataset)
    else:
        loader.sampler = dict(
            type="RepeatFactorSampler", threshold=settings.threshold, rounding=settings.rounding
        )
