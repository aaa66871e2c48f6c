"""ResNet-32 for small images (He et al. 2016, sec. 4.2): embeddings first, then scores.

Shapes: N images of C channels and H x W pixels, D = 64 the width of an embedding, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64  # D


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size, up to its stride."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters (option A).

    Where the channels double, the size halves: the shortcut keeps every other pixel of every other row and
    puts zeros into the new channels, half of them before the old ones and half after.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.stride, self.new = outputs // inputs, outputs - inputs
        self.conv1, self.bn1 = conv3x3(inputs, outputs, self.stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)).add_(self.shortcut(x)), inplace=True)

    def shortcut(self, x: Tensor) -> Tensor:
        """The input, in the size of the output."""
        if not self.new:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2))


class CosineLinear(nn.Module):
    """Scores ``scale * cos(x, w_k)``, the classifier of LDAM (Cao et al. 2019)."""

    def __init__(self, width: int, num_classes: int, scale: float):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, width).uniform_(-1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, K)."""
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class ResNet32(nn.Module):
    """Three stages of five blocks with 16, 32 and 64 channels, mean pooling, one classifier.

    Weights of convolutions and of the linear classifier start as in LDAM-DRW's code: normal, with variance
    2 / fan-in (He et al. 2015). From 8 x 8 pixels on, any size will do.

    Args:
        num_classes: K.
        in_channels: C.
        scale: of a cosine classifier; None: a linear one.

    Attributes:
        classifier: (N, D) -> (N, K); scores virtual features as it does real ones.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, scale: float | None = None):
        super().__init__()
        self.stem = nn.Sequential(conv3x3(in_channels, 16), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        widths = [16] * 6 + [32] * 5 + [WIDTH] * 5
        self.blocks = nn.Sequential(*map(Block, widths, widths[1:]))
        self.classifier = (
            nn.Linear(WIDTH, num_classes) if scale is None else CosineLinear(WIDTH, num_classes, scale)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def features(self, x: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, C, H, W)."""
        return self.blocks(self.stem(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, K) of images (N, C, H, W)."""
        return self.classifier(self.features(x))
