"""What a backbone starts from: fetched with a checksum from a local server, or a file of one's own."""

import hashlib
import io

import pytest
import torch
from mmdet.models import ResNet
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from fasa.detection import weights
from fasa.detection.weights import PUBLIC, initial_weights
from fasa.errors import UserError

BACKBONE = dict(type="ResNet", depth=50, base_channels=8, stem_channels=8, frozen_stages=1, norm_eval=True)


def state(**changes):
    """The state dict of a backbone as torchvision saves it: with a classifier, which mmdet has not."""
    init_default_scope("mmdet")
    torch.manual_seed(1)
    backbone = MODELS.build(BACKBONE | changes)
    for value in backbone.state_dict().values():
        value.copy_(torch.rand(value.shape) if value.is_floating_point() else torch.zeros(value.shape))
    return backbone.state_dict() | {"fc.weight": torch.zeros(3, 2), "fc.bias": torch.zeros(3)}


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def public(server, tmp_path, monkeypatch):
    """A small ResNet-50's weights where torchvision's lie."""
    data = saved(state())
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"resnet50-{sha256[:8]}.pth"
    server.files[f"/{name}"] = data
    monkeypatch.setattr(weights, "HOST", server.url.rstrip("/"))
    monkeypatch.setitem(PUBLIC, 50, (name, sha256))
    monkeypatch.chdir(tmp_path)
    return server, name


def test_public_weights_are_fetched_once_and_are_what_the_backbone_starts_from(public, tmp_path):
    server, name = public
    for _ in range(2):
        init = initial_weights("imagenet", BACKBONE)
    assert init == dict(type="Pretrained", checkpoint=f"data/{name}") and len(server.requests) == 1
    backbone = MODELS.build(BACKBONE | dict(init_cfg=init))
    backbone.init_weights()
    theirs = state()
    mine = backbone.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_other_bytes_than_those_published_are_refused(public, tmp_path):
    server, name = public
    server.files[f"/{name}"] = server.files[f"/{name}"][:-1] + b"x"
    with pytest.raises(UserError, match="is not the file expected"):
        initial_weights("imagenet", BACKBONE)
    assert not (tmp_path / "data" / name).exists()


def test_a_file_of_ones_own_by_the_network_s_depth(tmp_path):
    (tmp_path / "resnet50.pth").write_bytes(saved(dict(state_dict=state())))
    init = initial_weights(f"{tmp_path}/resnet{{depth}}.pth", BACKBONE)
    assert init["checkpoint"] == f"{tmp_path}/resnet50.pth"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            saved(state(base_channels=16)),
            "layer1.0.conv1.weight is (8, 8, 1, 1) in a ResNet-50, and the file has",
        ),
        (saved({"a": torch.zeros(1)}), "conv1.weight is (8, 3, 7, 7) in a ResNet-50, and the file has none"),
        (saved(state())[:5000], "cut off or no checkpoint"),
        (b"<html>", "cut off or no checkpoint"),
    ],
)
def test_a_file_of_another_network_or_none(content, message, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError) as error:
        initial_weights(str(tmp_path / "w.pth"), BACKBONE)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "backbone", "message"),
    [
        ("nowhere.pth", BACKBONE, "nowhere.pth: No such file"),
        ("imagenet", BACKBONE | dict(depth=18), "public ones of ResNet-50 and ResNet-101, none of depth 18"),
        (None, BACKBONE, "weights is null, and the config keeps the first layers as they are"),
    ],
)
def test_what_cannot_be_is_one_line(wanted, backbone, message):
    with pytest.raises(UserError, match=message) as error:
        initial_weights(wanted, backbone)
    assert "\n" not in str(error.value)


def test_random_weights_train_all_layers():
    assert initial_weights(None, BACKBONE | dict(frozen_stages=-1)) is None


def test_the_published_sums_begin_as_the_names_say():
    for depth, (name, sha256) in PUBLIC.items():
        assert name == f"resnet{depth}-{sha256[:8]}.pth" and len(sha256) == 64


def test_mmdet_s_layers_have_torchvision_s_names():
    """Of torchvision's ResNet-50, from memory of its format: a bottleneck's."""
    names = ResNet(50).state_dict().keys()
    for name in ("conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer3.5.conv3.weight"):
        assert name in names
    assert len([name for name in names if name.endswith("weight")]) == 53 * 2
