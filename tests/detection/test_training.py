import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from fasa.detection.experiment import held_out
from fasa.detection.inference import load_model
from fasa.detection.training import save_model, train
from fasa.errors import UserError
from fasa.job import Optimizer

FASA = dict(type="FASA", prob_scale=4)

RUN = """
import os, signal, sys, torch
from mmengine.config import Config
from mmengine.hooks import Hook
from fasa.detection.training import save_model, train
from mmdet.registry import HOOKS

@HOOKS.register_module()
class Kill(Hook):
    priority = "LOWEST"
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
config, kill_at, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
cfg = Config.fromfile(config)
cfg.default_hooks.checkpoint.every = 3
cfg.default_hooks.progress.every = 4
cfg.custom_hooks.append(dict(type="Kill"))
runner = train(cfg)
save_model(runner.model, ["a"], __import__("pathlib").Path(out))
"""


def run(config, kill_at, out):
    command = [sys.executable, "-c", RUN, str(config), str(kill_at), str(out)]
    return subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd())


SGD = Optimizer(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4)
APART = Optimizer(type="AdamW", lr=1e-3, weight_decay=0.05, classifier=SGD)


@pytest.mark.parametrize(
    "settings",
    [dict(instaboost=True), dict(optimizer=APART)],
    ids=["augmented before an iteration begins", "a classifier apart, by SGD"],
)
def test_killed_and_resumed_equals_unbroken(config, tmp_path, settings):
    files = []
    for name in ("whole", "broken"):
        cfg = config(FASA, 2, iterations=10, work_dir=tmp_path / name, **settings)
        cfg.dump(tmp_path / f"{name}.py")
        files.append(tmp_path / f"{name}.py")
    whole = run(files[0], 0, tmp_path / "whole.pth")
    assert whole.returncode == 0, whole.stderr[-2000:]
    killed = run(files[1], 8, tmp_path / "broken.pth")  # the last checkpoint is of iteration 6
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "broken.pth").exists()
    resumed = run(files[1], 0, tmp_path / "broken.pth")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert (tmp_path / "whole.pth").read_bytes() == (tmp_path / "broken.pth").read_bytes()
    whole, broken = (tmp_path / name / "losses.tsv" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes() and len(whole.read_text().splitlines()) == 4


def test_checkpoint_of_an_interrupted_run_is_plain_data(config, tmp_path):
    cfg = config(FASA, adapt_every=2, iterations=4)
    cfg.default_hooks.checkpoint.every = 4
    train(cfg)
    checkpoint = torch.load(tmp_path / "work" / "last.pth", weights_only=True)
    assert checkpoint["meta"]["iter"] == 4 and len(checkpoint["adaptation_history"]) == 2


def test_loss_that_is_not_a_number_stops_with_one_line(config, tmp_path):
    cfg = config(FASA, adapt_every=50, iterations=40, lr=1e9)
    cfg.optim_wrapper.optimizer = dict(type="SGD", lr=1e9)
    cfg.optim_wrapper.clip_grad = None
    with pytest.raises(
        UserError, match=r"loss\w* is (nan|inf|-inf) at iteration \d+: lower the learning rate"
    ) as info:
        train(cfg)
    assert "\n" not in str(info.value)


def test_row_branches_with_weights_and_moments_but_not_probabilities(config, tmp_path):
    warm = train(config(FASA | dict(warmup=3), iterations=3, work_dir=tmp_path / "warm"))
    warm.model.roi_head.bbox_head.augmenter.probability.fill_(0.123)
    save_model(warm.model, ["a"], tmp_path / "warm.pth")
    cfg = config(FASA | dict(prob_scale=2), adapt_every=50, iterations=1, lr=0.0, work_dir=tmp_path / "row")
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    row = train(cfg, branch_from=tmp_path / "warm.pth")
    before, after = warm.model.state_dict(), row.model.state_dict()
    weights = [name for name, _ in row.model.named_parameters()]
    assert all(torch.equal(before[name], after[name]) for name in weights)
    augmenter = row.model.roi_head.bbox_head.augmenter
    assert augmenter.moments.seen.sum() >= warm.model.roi_head.bbox_head.augmenter.moments.seen.sum() > 0
    assert augmenter.iteration == 1 and not (augmenter.probability == 0.123).any()
    assert abs(augmenter.probability.sum().item() - 2) < 1e-3 or (augmenter.probability == 1).any()


def test_checkpoint_of_another_model_is_refused(config, tmp_path):
    torch.save(dict(state_dict={"backbone.conv9.weight": torch.zeros(1)}), tmp_path / "other.pth")
    with pytest.raises(UserError, match="other.pth is of another model"):
        train(config(iterations=1), branch_from=tmp_path / "other.pth")


STOCK = """
import sys
sys.modules["fasa"] = None  # not installed
import json, torch
from mmengine.config import Config
from mmdet.apis import inference_detector, init_detector
torch.set_num_threads(1)
model = init_detector(Config.fromfile(sys.argv[1]), sys.argv[2], device="cpu")
found = inference_detector(model, sys.argv[3]).pred_instances
result = dict(classes=model.dataset_meta["classes"], area=found.masks.sum((1, 2)).tolist())
print(json.dumps(result | dict(boxes=found.bboxes.tolist(), scores=found.scores.tolist())))
"""


def test_checkpoint_serves_a_stock_model_and_mmdet_inference(config, tiny_glyphs, tmp_path):
    import json

    from mmdet.apis import inference_detector, init_detector

    cfg = config(FASA, adapt_every=2, iterations=6)
    runner = train(cfg)
    classes = list(cfg.train_dataloader.dataset.metainfo.classes)
    save_model(runner.model, classes, tmp_path / "model.pth")
    image = str(tiny_glyphs / "val" / "000001.png")
    # what inference needs from a config is its test pipeline
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    for extractor in (cfg.model.roi_head.bbox_roi_extractor, cfg.model.roi_head.mask_roi_extractor):
        extractor.type = "SingleRoIExtractor"  # mmdet's own, or last digits differ
    cfg.test_dataloader = held_out(cfg, "val")
    cfg.test_dataloader.dataset.pipeline = [
        step for step in cfg.test_dataloader.dataset.pipeline if step.type != "LoadAnnotations"
    ]
    ours = inference_detector(
        init_detector(cfg, str(tmp_path / "model.pth"), device="cpu"), image
    ).pred_instances
    assert len(ours) > 0

    stock = Config(cfg.to_dict())
    stock.pop("custom_imports"), stock.pop("custom_hooks"), stock.pop("default_hooks")
    stock.test_dataloader.dataset.type = "LVISV1Dataset"
    stock.model.roi_head.bbox_head.type = "Shared2FCBBoxHead"
    stock.model.roi_head.bbox_head.pop("augmenter")
    stock.dump(tmp_path / "stock.py")
    command = [sys.executable, "-c", STOCK, str(tmp_path / "stock.py"), str(tmp_path / "model.pth"), image]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs["classes"] == classes
    assert theirs["boxes"] == ours.bboxes.tolist() and theirs["scores"] == ours.scores.tolist()
    assert theirs["area"] == ours.masks.sum((1, 2)).tolist()


def test_saved_bytes_depend_on_the_weights_alone(tmp_path):
    model = torch.nn.Linear(2, 3)
    save_model(model, ["a"], tmp_path / "one.pth")
    save_model(model, ["a"], tmp_path / "another-name.pth")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another-name.pth").read_bytes()


def test_a_checkpoint_of_other_classes_is_refused(config, tmp_path):
    """As many classes, which nothing but their names tells apart."""
    cfg = config()
    init_default_scope("mmdet")
    model, names = MODELS.build(cfg.model), cfg.classes["names"]
    save_model(model, names, tmp_path / "mine.pth")
    load_model(cfg, tmp_path / "mine.pth")
    save_model(model, [*names[:-1], "a_cat"], tmp_path / "theirs.pth")
    with pytest.raises(
        UserError, match="was trained on other classes than those of the data: 'a_cat' and 1 more"
    ):
        load_model(cfg, tmp_path / "theirs.pth")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    path = tmp_path / "model.pth"
    save_model(torch.nn.Linear(2, 3), ["a"], path)
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=r"File too large$"):
            save_model(torch.nn.Linear(100, 100), ["a"], path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
