import pytest
import torch
from jobs import job
from mmdet.registry import MODELS

from fasa.data.lvis import instance_counts, read_annotations
from fasa.detection.embeddings import Embedder
from fasa.detection.training import save_model


@pytest.fixture
def embed(config, tiny_glyphs, tmp_path):
    """Of a network as it is before training."""
    augmenter = dict(type="FASA")
    cfg = config(augmenter)
    save_model(MODELS.build(cfg.model), cfg.classes["names"], tmp_path / "row.pth")
    return Embedder(job(tiny_glyphs, augmenter=augmenter), tmp_path / "row.pth")


def test_objects_of_the_classes_asked_for_are_embedded(embed, tiny_glyphs):
    counts = instance_counts(read_annotations(tiny_glyphs / "annotations" / "train.json"))
    z, labels = embed([0, 3], most=5)
    assert torch.bincount(torch.from_numpy(labels), minlength=6).tolist() == [
        min(5, counts[0]),
        0,
        0,
        min(5, counts[3]),
        0,
        0,
    ]
    assert z.shape == (len(labels), embed.model.roi_head.bbox_head.fc_cls.in_features)
    alone, _ = embed([3], most=5)
    torch.testing.assert_close(
        torch.from_numpy(alone), torch.from_numpy(z[labels == 3]), rtol=1e-3, atol=1e-4
    )
