import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from fasa.detection.roi_align import RowRoIAlign, RowRoIExtractor
from fasa.errors import UserError


def rois(n, size, generator):
    """Inside, over the edge, outside, thin and empty ones, of three images."""
    xy = torch.rand(n, 2, generator=generator) * 1.6 * size - 0.4 * size
    wh = torch.rand(n, 2, generator=generator) * size * torch.randint(0, 2, (n, 2), generator=generator)
    return torch.cat([torch.randint(0, 3, (n, 1), generator=generator).float(), xy, xy + wh], 1)


@pytest.mark.parametrize(
    ("output_size", "samples", "scale"), [(7, 1, 1 / 8), (14, 1, 1 / 4), (3, 2, 1 / 8), (1, 3, 1)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_mmcvs_in_values_and_gradients(output_size, samples, scale, layout):
    generator = torch.Generator().manual_seed(output_size)
    maps = torch.randn(3, 5, 9, 12, generator=generator, dtype=torch.float64)
    boxes = rois(60, 9 / scale, generator).double()
    found = []
    for layer in (RoIAlign(output_size, scale, samples), RowRoIAlign(output_size, scale, samples)):
        ours = isinstance(layer, RowRoIAlign)
        x = maps.clone(memory_format=layout if ours else torch.contiguous_format).requires_grad_()
        out = layer(x, boxes)
        out.backward(torch.sin(torch.arange(out.numel(), dtype=torch.float64)).view(out.shape))
        found.append((out.detach(), x.grad))
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert theirs.abs().sum() > 0


def test_a_sample_on_the_last_place_and_one_beyond_it():
    maps = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4).contiguous()
    at = torch.tensor([3.0, 3.9, 4.0, 4.1, -0.5, -1.1])  # of the only sample, along x
    boxes = torch.stack([torch.zeros(6), at, torch.ones(6), at + 1, 2 * torch.ones(6)], 1)
    found = RowRoIAlign(1, 1.0, 1)(maps, boxes).flatten()
    assert found.tolist() == RoIAlign(1, 1.0, 1)(maps, boxes).flatten().tolist() == [3, 3, 3, 0, 0, 0]


def test_the_extractor_takes_the_place_of_mmdets():
    init_default_scope("mmdet")
    settings = dict(out_channels=4, featmap_strides=[8, 16], finest_scale=28)
    layer = dict(type="RoIAlign", output_size=7, sampling_ratio=1)
    ours = MODELS.build(dict(type="RowRoIExtractor", roi_layer=layer, **settings))
    theirs = MODELS.build(dict(type="SingleRoIExtractor", roi_layer=layer, **settings))
    assert isinstance(ours, RowRoIExtractor) and not list(ours.parameters())
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, 4, size, size, generator=generator) for size in (16, 8)]
    boxes = rois(40, 128, generator)
    torch.testing.assert_close(ours(maps, boxes), theirs(maps, boxes), rtol=1e-5, atol=1e-5)
    assert ours(maps, boxes[:0]).shape == (0, 4, 7, 7)
    assert isinstance(ours.roi_layers, nn.ModuleList) and len(ours.roi_layers) == 2


def test_as_many_samples_as_a_roi_is_large_are_refused():
    with pytest.raises(UserError, match="roi_layer.sampling_ratio is 0: it must be 1 or more"):
        RowRoIAlign(7, 1.0, 0)
