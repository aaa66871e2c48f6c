import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fasa.classification.resnet32 import WIDTH, Block, CosineLinear, ResNet32


@pytest.mark.parametrize(("classes", "millions"), [(10, 0.464154), (100, 0.470004)])
def test_number_of_parameters(classes, millions):
    """He et al.'s Table 6 has 0.46 million, for 10 classes."""
    assert sum(p.numel() for p in ResNet32(classes).parameters()) == 1e6 * millions


def test_layers():
    """31 convolutions and one linear layer, in three stages of five blocks."""
    model = ResNet32(10)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16] * 11 + [32] * 10 + [64] * 10
    assert [i for i, m in enumerate(convolutions) if m.stride == (2, 2)] == [11, 21]


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((9, 11), 3), ((32, 32), 3)])
def test_any_size_and_channels(size, channels):
    model = ResNet32(7, channels).eval()
    x = torch.randn(2, channels, *size)
    z = model.features(x)
    assert z.shape == (2, WIDTH)
    assert_close(model(x), z @ model.classifier.weight.T + model.classifier.bias)


def test_shortcut_has_no_parameters():
    """Option A: every other pixel, between two halves of zeros."""
    block, x = Block(4, 8), torch.randn(2, 4, 5, 6)
    expected = torch.zeros(2, 8, 3, 3)
    for c in range(4):
        for i in range(3):
            for j in range(3):
                expected[:, 2 + c, i, j] = x[:, c, 2 * i, 2 * j]
    assert torch.equal(block.shortcut(x), expected)
    assert Block(4, 4).shortcut(x) is x


@pytest.mark.parametrize("outputs", [4, 8])
def test_block_adds_the_shortcut_before_the_last_relu(outputs):
    block, x = Block(4, outputs).eval(), torch.randn(2, 4, 6, 6)
    y = F.conv2d(x, block.conv1.weight, stride=outputs // 4, padding=1)
    y = F.conv2d(F.relu(block.bn1(y)), block.conv2.weight, padding=1)
    assert_close(block(x.clone()), F.relu(block.bn2(y) + block.shortcut(x)))


def test_initial_weights_have_the_variance_of_he():
    model = ResNet32(100)
    for weight in (model.blocks[-1].conv2.weight, model.classifier.weight):
        fan_in = weight[0].numel()
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert abs(weight.mean().item()) < 0.05 * weight.std().item() + 1e-3


def test_cosine_classifier():
    classifier, x = CosineLinear(5, 3, scale=30.0), torch.randn(4, 5)
    assert_close(classifier.weight.norm(dim=1), torch.ones(3))
    with torch.no_grad():
        classifier.weight *= torch.tensor([[1.0], [2.0], [3.0]])
    for i in range(4):
        for k in range(3):
            cosine = torch.cosine_similarity(x[i], classifier.weight[k], dim=0)
            assert_close(classifier(x)[i, k], 30 * cosine)
    assert isinstance(ResNet32(3, scale=30.0).classifier, CosineLinear)
