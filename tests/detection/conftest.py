from pathlib import Path

import pytest
import torch
from jobs import job

from fasa.detection.experiment import training_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fixed_threads():
    torch.set_num_threads(1)


@pytest.fixture
def config(tiny_glyphs, tmp_path, monkeypatch):
    """Make the embedded config on the tiny data set."""
    monkeypatch.chdir(ROOT)

    def make(augmenter=None, adapt_every=None, iterations=6, work_dir=None, lr=1e-3, **settings):
        one = job(
            tiny_glyphs,
            augmenter=augmenter,
            adapt_every=adapt_every,
            iterations=iterations,
            lr=lr,
            **settings,
        )
        return training_config(one, one.train, work_dir or tmp_path / "work")

    return make


@pytest.fixture
def batch(config):
    """Two training images with their objects, as the data loader gives them."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    init_default_scope("mmdet")
    return next(iter(Runner.build_dataloader(config().train_dataloader, seed=0)))
