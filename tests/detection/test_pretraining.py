import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import job
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from msgspec.structs import replace

from fasa.data import alphabet
from fasa.detection.experiment import model_config, train_row, train_warmup
from fasa.detection.pretraining import (
    Classifier,
    accuracy,
    fit,
    losses_table,
    other_characters,
    render,
    train_backbone,
)
from fasa.detection.training import start_from
from fasa.errors import UserError
from fasa.job import Pretraining
from fasa.params import read_params
from fasa.rows import compose, shared_warmup

ROOT = Path(__file__).parents[2]
MODEL = Config.fromfile(ROOT / "configs/embedded/mask_rcnn.py").model
SMALL = Pretraining(
    classes=3, images=16, image_size=32, object_size=(18, 26), iterations=10, batch=16, lr=5e-3, seed=1
)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def pretrained(tiny_glyphs, tmp_path_factory):
    """A checkpoint, and what was measured."""
    out = tmp_path_factory.mktemp("pretrained") / "pretrain.pth"
    return out, train_backbone(MODEL, tiny_glyphs, SMALL, 1, out)


def classes(data):
    categories = json.loads((data / "annotations/train.json").read_text())["categories"]
    return {category["synonyms"][0]: category["name"] for category in categories}


def test_no_character_is_a_class(tiny_glyphs, pretrained):
    rest = len(alphabet.pool()) - 6
    everything = other_characters(tiny_glyphs, rest, np.random.default_rng(0))
    assert len({*everything}) == rest and {*everything} | {*classes(tiny_glyphs)} == {*alphabet.pool()}
    assert not {*everything} & {*classes(tiny_glyphs)}
    with pytest.raises(UserError, match=rf"^pretrain\.classes: is {rest + 1}; choose at most {rest}, "):
        other_characters(tiny_glyphs, rest + 1, np.random.default_rng(0))

    trained = torch.load(pretrained[0], weights_only=True)["meta"]["dataset_meta"]["classes"]
    assert len({*trained}) == 3 and not {*trained} & {*classes(tiny_glyphs).values()}


def test_classes_of_other_data_have_no_synonyms(tiny_glyphs, tmp_path):
    data = shutil.copytree(tiny_glyphs, tmp_path / "photos")
    content = json.loads((data / "annotations/train.json").read_text())
    for category in content["categories"]:
        del category["synonyms"]
    (data / "annotations/train.json").write_text(json.dumps(content))
    rest = other_characters(data, len(alphabet.pool()), np.random.default_rng(0))
    assert sorted(rest) == sorted(alphabet.pool())


def test_pictures_are_of_their_labels():
    pictures, labels = render(list("■oЖ"), 4, SMALL, np.random.SeedSequence(0))
    assert pictures.shape == (12, 3, 32, 32) and pictures.dtype == torch.uint8
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len({picture.numpy().tobytes() for picture in pictures}) == 12
    again, _ = render(list("■oЖ"), 4, SMALL, np.random.SeedSequence(0))
    assert torch.equal(pictures, again)


def test_it_says_how_much_it_has_learnt(pretrained):
    _, found = pretrained
    assert found.keys() == {"classes", "accuracy", "loss", "losses"} and found["classes"] == 3
    assert 0 < found["accuracy"] < 100 and 0 < found["loss"] < 2
    assert len(found["losses"]) == SMALL.iterations


def test_its_losses_are_a_table_of_means():
    assert losses_table([1.0, 2.0, 4.0, 4.0, 9.0], every=2) == "iteration\tloss\n2\t1.50000\n4\t4.00000\n"
    assert losses_table([]) == "iteration\tloss\n"


def test_light_and_dark_are_told_apart():
    def noise(number):
        labels = torch.arange(number) % 2
        pictures = torch.randint(90, (number, 3, 32, 32)) + 160 * labels.view(-1, 1, 1, 1)
        return pictures.to(torch.uint8), labels

    torch.manual_seed(0)
    init_default_scope("mmdet")
    model = Classifier(MODEL, 2)
    model.eval()(noise(1)[0])
    losses = fit(model, *noise(64), replace(SMALL, iterations=40))
    assert len(losses) == 40 and losses[0] > 0.3 and max(losses[-5:]) < 0.1
    pictures, labels = noise(150)
    assert accuracy(model, pictures, labels) > 95
    assert accuracy(model, pictures, 1 - labels) < 5


def test_same_settings_same_bytes(tiny_glyphs, tmp_path):
    short = replace(SMALL, iterations=2)
    for name, settings in (("a", short), ("b", short), ("c", replace(short, seed=2))):
        train_backbone(MODEL, tiny_glyphs, settings, 1, tmp_path / name)
    a, b, c = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert a == b != c


def test_without_settings_nothing_is_trained(tiny_glyphs, tmp_path):
    assert train_backbone(MODEL, tiny_glyphs, None, 1, tmp_path / "none.pth") == {}
    assert torch.load(tmp_path / "none.pth", weights_only=True)["state_dict"] == {}


def test_a_rate_that_is_too_high_is_named(tiny_glyphs, tmp_path):
    with pytest.raises(UserError, match=r"the loss is nan in iteration \d+: lower pretrain\.lr"):
        train_backbone(MODEL, tiny_glyphs, replace(SMALL, lr=1e30), 1, tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []


def backbone(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("backbone.")}


def test_a_detector_starts_from_it(pretrained, tiny_glyphs):
    cfg = model_config(job(tiny_glyphs))
    start_from(cfg, pretrained[0])
    model = MODELS.build(cfg.model)
    model.init_weights()
    wanted = backbone(pretrained[0])
    assert len(wanted) == len(model.backbone.state_dict()) > 100
    for name, value in wanted.items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("own", [False, True])
def test_a_warm_up_starts_from_it_and_a_row_from_its_warm_up(own, pretrained, tiny_glyphs, tmp_path):
    """With a rate of next to nothing weights stay where they started; the statistics of norms do not."""
    settings = dict(iterations=1, lr=1e-12, pretrained=str(pretrained[0]))
    one = job(tiny_glyphs, augmenter=dict(type="FASA"), **settings)
    warmup, out = tmp_path / "warmup.pth", tmp_path / "row.pth"
    train_warmup(one, tmp_path / "w", warmup)
    if own:
        train_row(replace(one, own_warmup=True), Path("nowhere.pth"), tmp_path / "r", out, tmp_path / "h")
    else:
        train_row(replace(one, pretrained="nowhere.pth"), warmup, tmp_path / "r", out, tmp_path / "h")
    for path in (warmup, out):
        assert backbone(path).keys() == backbone(pretrained[0]).keys() != set()
        for name, value in backbone(path).items():
            if "running" not in name and "tracked" not in name:
                torch.testing.assert_close(value, backbone(pretrained[0])[name], atol=1e-6, rtol=0)


def test_another_backbone_is_refused(pretrained, tiny_glyphs, tmp_path):
    cfg = model_config(job(tiny_glyphs))
    cfg.model.backbone.base_channels = 16
    with pytest.raises(UserError, match=r"pretrain\.pth is of another model: layer1\.0\.conv1\.weight"):
        start_from(cfg, pretrained[0])
    with pytest.raises(UserError, match=r"none\.pth"):
        start_from(cfg, tmp_path / "none.pth")


def test_a_backbone_that_knows_the_classes_is_refused(pretrained, tiny_glyphs):
    cfg = model_config(job(tiny_glyphs))
    cfg.classes["names"][2] = torch.load(pretrained[0], weights_only=True)["meta"]["dataset_meta"]["classes"][
        1
    ]
    with pytest.raises(
        UserError, match=rf"has learnt {cfg.classes['names'][2]} and 0 more of the data's cla"
    ):
        start_from(cfg, pretrained[0])


def test_rows_know_whether_their_profile_pretrains():
    params = read_params(ROOT / "params.yaml")
    for profile, path in (("embedded", "runs/embedded/pretrain.pth"), ("lvis", None)):
        assert compose(params, profile, "mask_rcnn_fasa", 0).pretrained == path
        assert shared_warmup(params, profile, 0).pretrained == path
