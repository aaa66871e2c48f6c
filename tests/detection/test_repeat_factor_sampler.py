import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import ClassBalancedDataset, InfiniteSampler
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from fasa.detection.repeat_factor_sampler import RepeatFactorSampler
from fasa.errors import UserError


class Images:
    """Class 0 almost everywhere, 1 in a quarter of the images, 2 in one image."""

    def __init__(self, n=16):
        self.classes = [[0, 1] if i % 4 == 0 else [0] for i in range(n)]
        self.classes[5] = [0, 2, 2]
        self.classes[6] = []

    def __len__(self):
        return len(self.classes)

    def get_cat_ids(self, i):
        return self.classes[i]


def take(sampler, n):
    return list(itertools.islice(sampler, n))


@pytest.fixture
def glyphs(tiny_glyphs):
    init_default_scope("mmdet")
    return dict(
        type="LVISV1Dataset",
        data_root=str(tiny_glyphs),
        data_prefix=dict(img=""),
        ann_file="annotations/train.json",
    )


@pytest.mark.parametrize("threshold", [1e-3, 0.3, 0.7, 1.0])
def test_an_epoch_is_that_of_class_balanced_dataset(threshold, glyphs):
    dataset = DATASETS.build(glyphs)
    expected = Counter(ClassBalancedDataset(dataset, threshold).repeat_indices)
    indices = iter(RepeatFactorSampler(dataset, threshold, seed=0))
    size = expected.total()
    epochs = [take(indices, size) for _ in range(3)]
    assert all(Counter(epoch) == expected for epoch in epochs)
    assert (epochs[0] != epochs[1]) and (size > len(dataset)) == (threshold >= 0.3)
    in_order = take(RepeatFactorSampler(dataset, threshold, shuffle=False, seed=0), 2 * size)
    assert in_order == 2 * sorted(expected.elements())


@pytest.mark.parametrize("rounding", ["ceil", "stochastic"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_where_nothing_is_repeated_it_is_the_infinite_sampler(rounding, shuffle):
    mine = RepeatFactorSampler(Images(), 1e-3, rounding, shuffle, seed=7)
    assert (mine.factors == 1).all() and len(mine) == 16
    assert take(mine, 100) == take(InfiniteSampler(Images(), shuffle, seed=7), 100)


def test_stochastic_rounding_has_the_factor_as_its_mean():
    sampler = RepeatFactorSampler(Images(), 0.6, "stochastic", seed=3)
    np.testing.assert_allclose(sampler.factors[[0, 1, 5, 6]], [2.4**0.5, 1, 9.6**0.5, 1])
    repeats = np.stack([sampler.repeats(epoch) for epoch in range(4000)])
    whole = np.floor(sampler.factors)
    assert ((repeats == whole) | (repeats == whole + 1)).all()
    np.testing.assert_allclose(repeats.mean(0), sampler.factors, atol=0.04)  # five standard errors
    assert (repeats[:, sampler.factors == 1] == 1).all()
    assert len(np.unique(repeats, axis=0)) == 2**5  # five of the factors have a fraction
    other = RepeatFactorSampler(Images(), 0.6, "stochastic", seed=4)
    assert any((other.repeats(epoch) != sampler.repeats(epoch)).any() for epoch in range(5))
    # Images are rounded one by one, not together.
    assert abs(np.corrcoef(repeats[:, 0], repeats[:, 4])[0, 1]) < 0.1


def test_stochastic_epochs_follow_each_other():
    sampler = RepeatFactorSampler(Images(), 0.6, "stochastic", seed=3)
    indices = iter(sampler)
    for epoch in range(5):
        repeats = sampler.repeats(epoch)
        seen = Counter(take(indices, repeats.sum()))
        assert [seen[i] for i in range(16)] == repeats.tolist()


@pytest.mark.parametrize("rounding", ["ceil", "stochastic"])
def test_ranks_share_the_sequence_out(rounding, monkeypatch):
    whole = take(RepeatFactorSampler(Images(), 0.6, rounding, seed=1), 90)
    parts = []
    for rank in range(3):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 3))
        parts.append(take(RepeatFactorSampler(Images(), 0.6, rounding, seed=1), 30))
    assert [one for group in zip(*parts, strict=True) for one in group] == whole


@pytest.mark.parametrize("rounding", ["ceil", "stochastic"])
def test_the_seed_decides(rounding):
    one, same, other = (RepeatFactorSampler(Images(), 0.6, rounding, seed=s) for s in (1, 1, 2))
    assert take(one, 200) == (sequence := take(same, 200)) != take(other, 200)
    resumed = iter(RepeatFactorSampler(Images(), 0.6, rounding, seed=1))
    take(resumed, 73)  # how mmengine's loop resumes
    assert take(resumed, 127) == sequence[73:]


def test_a_config_names_it(glyphs):
    glyphs |= dict(pipeline=[dict(type="PackDetInputs", meta_keys=["sample_idx"])])
    sampler = dict(type="RepeatFactorSampler", threshold=0.7, rounding="stochastic")
    cfg = dict(dataset=glyphs, sampler=sampler, batch_size=2, num_workers=0)
    loader = Runner.build_dataloader(cfg, seed=4)
    assert isinstance(loader.sampler, RepeatFactorSampler) and loader.sampler.seed == 4
    batches = list(itertools.islice(iter(loader), 30))  # more than an epoch
    direct = RepeatFactorSampler(loader.dataset, 0.7, "stochastic", seed=4)
    assert [one.sample_idx for batch in batches for one in batch["data_samples"]] == take(direct, 60)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="rounding is 'floor'; known: ceil, stochastic"):
        DATA_SAMPLERS.build(dict(type="RepeatFactorSampler", dataset=Images(), threshold=1, rounding="floor"))
    with pytest.raises(UserError, match="list has no get_cat_ids; use a data set that has"):
        RepeatFactorSampler([1, 2], 0.5, seed=0)


def wrapped(glyphs):
    """Wrappers around the tiny data set, and which image each place of them is."""
    twelve = list(range(12))
    balanced = ClassBalancedDataset(DATASETS.build(glyphs), 0.5).repeat_indices
    return {
        "RepeatDataset": (dict(type="RepeatDataset", times=2, dataset=glyphs), 2 * twelve),
        "ConcatDataset": (dict(type="ConcatDataset", datasets=[glyphs, glyphs]), 2 * twelve),
        "ClassBalancedDataset": (
            dict(type="ClassBalancedDataset", oversample_thr=0.5, dataset=glyphs),
            balanced,
        ),
        "MultiImageMixDataset": (dict(type="MultiImageMixDataset", dataset=glyphs, pipeline=[]), twelve),
        "wrappers of wrappers": (
            dict(
                type="ConcatDataset",
                datasets=[dict(type="RepeatDataset", times=3, dataset=glyphs), glyphs],
            ),
            4 * twelve,
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "RepeatDataset",
        "ConcatDataset",
        "ClassBalancedDataset",
        "MultiImageMixDataset",
        "wrappers of wrappers",
    ],
)
def test_wrapped_data_sets_are_looked_into(glyphs, name):
    cfg, places = wrapped(glyphs)[name]
    dataset, plain = DATASETS.build(cfg), DATASETS.build(glyphs)
    mine = RepeatFactorSampler(dataset, 0.9, seed=0)

    class Same:
        def __len__(self):
            return len(places)

        def get_cat_ids(self, i):
            return plain.get_cat_ids(places[i])

    assert len(dataset) == len(places) and (mine.factors > 1).any()
    np.testing.assert_array_equal(mine.factors, RepeatFactorSampler(Same(), 0.9, seed=0).factors)


def test_an_empty_data_set_is_refused():
    images = Images()
    images.classes = []
    with pytest.raises(UserError, match="the data set has no image"):
        RepeatFactorSampler(images, 0.5, seed=0)


@pytest.mark.parametrize("threshold", [-1, 2, float("nan")])
def test_a_threshold_is_a_fraction(threshold):
    with pytest.raises(UserError, match=r"threshold is .*; it must lie in \[0, 1\]"):
        RepeatFactorSampler(Images(), threshold, seed=0)


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_loop_by_epochs_is_refused(tmp_path, by_epoch):
    class Toy(BaseModel):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x, mode):
            return dict(loss=self.layer(torch.stack(x).float()).mean())

    class Items(Images, Dataset):
        metainfo = {}

        def __getitem__(self, i):
            return dict(x=torch.tensor([i]))

    sampler = dict(type="RepeatFactorSampler", threshold=0.5)
    runner = Runner(
        Toy(),
        str(tmp_path),
        train_dataloader=dict(dataset=Items(), batch_size=2, num_workers=0, sampler=sampler),
        train_cfg=dict(by_epoch=True, max_epochs=1) if by_epoch else dict(by_epoch=False, max_iters=3),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        custom_hooks=[dict(type="AdaptationHook")] if by_epoch else [],
        default_scope="mmdet",
        experiment_name=tmp_path.name,
        log_level="ERROR",
    )
    if not by_epoch:
        runner.train()
        assert runner.iter == 3
        return
    with pytest.raises(UserError, match="an epoch of it never ends; set train_cfg to an IterBasedTrainLoop"):
        runner.train()
