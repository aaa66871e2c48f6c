"""Repeat factor sampling as a data sampler of mmdet."""

import itertools
from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import InfiniteSampler

from fasa.data.repeat_factors import repeat_factors
from fasa.errors import UserError

ROUNDINGS = ("ceil", "stochastic")


def image_labels(dataset: Sized) -> list[list[int]]:
    """The labels of each image's objects, of a data set as mmdet's or of wrappers around some.

    Raises:
        UserError: it does not tell them.
    """
    if hasattr(dataset, "datasets"):  # ConcatDataset
        return [labels for part in dataset.datasets for labels in image_labels(part)]
    if hasattr(dataset, "dataset"):
        inner = image_labels(dataset.dataset)
        if hasattr(dataset, "_get_ori_dataset_idx"):  # RepeatDataset, ClassBalancedDataset
            dataset.full_init()
            return [inner[dataset._get_ori_dataset_idx(i)] for i in range(len(dataset))]
        return inner  # MultiImageMixDataset
    if not hasattr(dataset, "get_cat_ids"):
        raise UserError(
            f"RepeatFactorSampler: {type(dataset).__name__} has no get_cat_ids; "
            "use a data set that has, such as LVISV1Dataset"
        )
    return [dataset.get_cat_ids(i) for i in range(len(dataset))]


@DATA_SAMPLERS.register_module(force=True)
class RepeatFactorSampler(InfiniteSampler):
    """An `InfiniteSampler` whose epochs hold an image as often as its repeat factor says.

    For an `IterBasedTrainLoop`. By epochs the first would never end, which `AdaptationHook` refuses: wrap the
    data set in mmengine's `ClassBalancedDataset` there. Where nothing is repeated, the order is
    `InfiniteSampler`'s of the same seed.

    Args:
        dataset: one with `get_cat_ids`, as mmdet's have, or mmengine's wrappers around such.
        threshold: fraction of images below which a class is repeated; see `repeat_factors`.
        rounding: "ceil": ceil(r) times in every epoch, the multiset of `ClassBalancedDataset`.
            "stochastic": floor(r) times and once more with probability r - floor(r), drawn anew for each
            epoch (as in detectron2), so that the mean is r.
        shuffle: whether an epoch is in random order.
        seed: of order and rounding, equal on all ranks. None: one that ranks agree on.

    Raises:
        UserError: an unknown rounding, a threshold that is no fraction, or a data set that is empty or does
            not tell its images' classes.

    Attributes:
        factors: (I,) float64, at least 1.
    """

    def __init__(
        self,
        dataset: Sized,
        threshold: float,
        rounding: str = "ceil",
        shuffle: bool = True,
        seed: int | None = None,
    ):
        if rounding not in ROUNDINGS:
            raise UserError(f"RepeatFactorSampler: rounding is {rounding!r}; known: {', '.join(ROUNDINGS)}")
        if not 0 <= threshold <= 1:
            raise UserError(f"RepeatFactorSampler: threshold is {threshold!r}; it must lie in [0, 1]")
        images = image_labels(dataset)[: len(dataset)]
        if not images:
            raise UserError("RepeatFactorSampler: the data set has no image")
        super().__init__(dataset, shuffle, seed)
        self.rounding = rounding
        num_classes = 1 + max(itertools.chain.from_iterable(images), default=-1)
        self.factors = repeat_factors(images, num_classes, threshold)

    def repeats(self, epoch: int) -> np.ndarray:
        """How often an epoch holds each image, (I,) int64."""
        if self.rounding == "ceil":
            return np.ceil(self.factors).astype(np.int64)
        whole = np.floor(self.factors)
        more = np.random.default_rng([self.seed, epoch]).random(self.size) < self.factors - whole
        return whole.astype(np.int64) + more

    def _infinite_indices(self) -> Iterator[int]:
        """Epoch after epoch; the parent deals them out to the ranks."""
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        for epoch in itertools.count():
            indices = np.repeat(np.arange(self.size), self.repeats(epoch))
            if self.shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator).numpy()]
            yield from indices.tolist()
