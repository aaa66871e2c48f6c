"""RoIAlign on a CPU: where mmcv's loops over each channel of each sample, rows of channels are summed.

Shapes: N RoIs, C channels of a map of H x W, P x P bins of a RoI, S x S samples of a bin.
"""

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn

from fasa.errors import UserError


class RowRoIAlign(nn.Module):
    """mmcv's `RoIAlign`, aligned and with the average of samples, to the last digits.

    A sample is the weighted sum of four places of the map, a bin the mean of its samples: a bag of 4 S^2
    embeddings, which torch sums, and whose gradient it scatters, a row of C numbers at a time.

    Args:
        output_size: P.
        spatial_scale: of the map to the image.
        sampling_ratio: S, at least 1: as many samples in every RoI.
    """

    def __init__(self, output_size: int, spatial_scale: float, sampling_ratio: int):
        super().__init__()
        if sampling_ratio < 1:
            raise UserError(f"roi_layer.sampling_ratio is {sampling_ratio}: it must be 1 or more")
        self.output_size, self.scale, self.samples = (output_size, output_size), spatial_scale, sampling_ratio

    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Maps of RoIs (N, C, P, P), of maps (B, C, H, W) and RoIs (N, 5): image, x1, y1, x2, y2."""
        batch, channels, height, width = maps.shape
        side, many = self.output_size[0], 2 * self.samples
        x, x_weight = self.places(rois[:, 1], rois[:, 3], width)
        y, y_weight = self.places(rois[:, 2], rois[:, 4], height)
        first = rois[:, 0].long() * height * width
        x, x_weight = (one.view(-1, 1, side, 1, many) for one in (x, x_weight))
        y, y_weight = (one.view(-1, side, 1, many, 1) for one in (y, y_weight))
        place = first.view(-1, 1, 1, 1, 1) + width * y + x
        weight = y_weight * x_weight / self.samples**2
        rows = maps.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
        bags = F.embedding_bag(
            place.flatten(0, 2).flatten(1),
            rows,
            mode="sum",
            per_sample_weights=weight.flatten(0, 2).flatten(1),
        )
        return bags.view(len(rois), side, side, channels).permute(0, 3, 1, 2)

    def places(self, start: Tensor, end: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The two places along an axis that each sample is between, and their weights, (N, P S 2).

        Args:
            start, end: of each RoI in the image, (N,).
            size: of the map. Samples more than a pixel outside count nothing.
        """
        start, end = start * self.scale - 0.5, end * self.scale - 0.5
        samples = torch.arange(self.output_size[0] * self.samples, dtype=start.dtype, device=start.device)
        step = (end - start) / len(samples)
        at = start[:, None] + (samples + 0.5) * step[:, None]
        inside = (at >= -1) & (at <= size)
        at = at.clamp(0, size - 1)
        low = at.long()
        high = (low + 1).clamp(max=size - 1)
        share = at - low
        weight = torch.stack([1 - share, share], -1) * inside[..., None]
        return torch.stack([low, high], -1).flatten(1), weight.flatten(1)


@MODELS.register_module(force=True)
class RowRoIExtractor(SingleRoIExtractor):
    """mmdet's `SingleRoIExtractor` with `RowRoIAlign` for its `roi_layer`, ``dict(type="RoIAlign", ...)``."""

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: list[int]) -> nn.ModuleList:
        """A layer for each map."""
        settings = {name: value for name, value in layer_cfg.items() if name != "type"}
        return nn.ModuleList(RowRoIAlign(spatial_scale=1 / stride, **settings) for stride in featmap_strides)
