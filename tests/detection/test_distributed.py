"""Two real processes, torchrun's environment, gloo on CPU."""

import os
import subprocess
import sys

import pytest
import torch
from jobs import job
from torch.testing import assert_close

from fasa.detection.experiment import held_out, training_config

ROWS = dict(
    fasa=dict(augmenter=dict(type="FASA", prob_scale=2), adapt_every=2, iterations=6),
    smote=dict(augmenter=dict(type="SMOTE", k=2)),
    angular=dict(augmenter=dict(type="AngularTransfer", tail=9)),
    transfer=dict(augmenter=dict(type="FeatureTransfer", phase=2, tail=9)),
    cascade=dict(augmenter=dict(type="FASA", prob_scale=4), adapt_every=2, model="cascade_rcnn"),
)

RUN = """
import os, sys, torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

torch.set_num_threads(1)
# mmengine's own ways of starting processes and of wrapping a model ask for a GPU
torch.distributed.init_process_group("gloo")
init_default_scope("mmdet")
names = "default_scope work_dir train_dataloader train_cfg optim_wrapper custom_hooks randomness"
for row in sys.argv[2:]:
    cfg = Config.fromfile(f"{sys.argv[1]}/{row}_row.py")
    unused = cfg.get("find_unused_parameters", False)
    model = MMDistributedDataParallel(module=MODELS.build(cfg.model), find_unused_parameters=unused)
    settings = {name: cfg.get(name) for name in names.split()}
    runner = Runner(model=model, launcher="pytorch", cfg=cfg, experiment_name=row, **settings)
    runner.train()
    history = [hook.history for hook in runner.hooks if hasattr(hook, "history")]
    weights = {name: value.detach() for name, value in runner.model.module.named_parameters()}
    result = dict(state=runner.model.module.state_dict(), weights=weights, history=history[0])
    torch.save(result, f"{sys.argv[1]}/{row}-{os.environ['RANK']}.pth")
"""


@pytest.fixture(scope="module")
def ranks(tiny_glyphs, tmp_path_factory):
    """What both ranks hold after the training of each row; one start of processes for all."""
    folder = tmp_path_factory.mktemp("ranks")
    for name, settings in ROWS.items():
        one = job(tiny_glyphs, **dict(iterations=4) | settings)
        cfg = training_config(one, one.train, folder / name)
        cfg.dump(folder / f"{name}_row.py")  # not fasa.py, which would hide the package
    (folder / "run.py").write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = os.environ | dict(PYTHONPATH=os.getcwd(), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [*command, folder / "run.py", folder, *ROWS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-9000:]
    return {
        row: [torch.load(folder / f"{row}-{rank}.pth", weights_only=True) for rank in range(2)]
        for row in ROWS
    }


@pytest.mark.parametrize("row", ROWS)
def test_ranks_train_the_same_weights(ranks, row):
    first, second = (one["weights"] for one in ranks[row])
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    iterations = [value for name, value in ranks[row][0]["state"].items() if name.endswith(".iteration")]
    assert len(iterations) == (3 if row == "cascade" else 1)
    assert set(map(int, iterations)) == {ROWS[row].get("iterations", 4)}


@pytest.mark.parametrize("row", ["fasa", "cascade"])
def test_ranks_hold_the_same_state_and_draw_on_their_own(ranks, row):
    first, second = ranks[row]
    augmenters = {name for name in first["state"] if ".augmenter." in name}
    for name in augmenters:
        if not name.endswith(".drawn"):
            assert_close(first["state"][name], second["state"][name], rtol=0, atol=0, equal_nan=True)
    passes = [int(first["state"][name]) for name in augmenters if name.endswith(".adaptations")]
    assert passes == ([3] if row == "fasa" else [2] * 3)
    drawn = [
        [one["state"][name].tolist() for name in sorted(augmenters) if name.endswith(".drawn")]
        for one in (first, second)
    ]
    assert drawn[0] != drawn[1]
    probabilities = [[step["probability"] for step in one["history"]] for one in (first, second)]
    assert probabilities[0] == probabilities[1] and len(probabilities[0]) == sum(passes)


MEASURE = """
import os, sys, torch
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from fasa.detection.adaptation import class_precisions
from fasa.evaluation import read_ground_truth

torch.set_num_threads(1)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
cfg, annotations = Config.fromfile(sys.argv[1]), sys.argv[3]
init_default_scope("mmdet")
torch.manual_seed(0)
model = MODELS.build(cfg.model).eval()
model.init_weights()
loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
metric = METRICS.build(dict(type="FASALVISMetric", ann_file=annotations, protocols=["old", "fixed"]))
metric.dataset_meta = loader.dataset.metainfo
with torch.no_grad():
    for batch in loader:
        metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
values = metric.evaluate(size=len(loader.dataset))
ap = class_precisions(model, loader, read_ground_truth(annotations, "bbox"))
images = sum(len(batch["data_samples"]) for batch in loader)
torch.save(dict(values=values, ap=ap, images=images), f"{sys.argv[2]}/{os.environ.get('RANK', 'alone')}.pth")
"""


def test_ranks_measure_together_what_one_process_measures(config, tiny_glyphs, tmp_path):
    cfg = config()
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    cfg.test_dataloader = held_out(cfg, "val")
    cfg.test_dataloader.batch_size = 1
    cfg.dump(tmp_path / "config.py")
    (tmp_path / "measure.py").write_text(MEASURE)
    annotations = tiny_glyphs / "annotations" / "val.json"
    arguments = [tmp_path / "measure.py", tmp_path / "config.py", tmp_path, annotations]
    environment = os.environ | dict(PYTHONPATH=os.getcwd(), OMP_NUM_THREADS="1")
    for launcher in ([], ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]):
        done = subprocess.run(
            [sys.executable, *launcher, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    alone, first, second = (
        torch.load(tmp_path / f"{name}.pth", weights_only=True) for name in ("alone", "0", "1")
    )
    assert alone["images"] == 6 and first["images"] == second["images"] == 3
    assert alone["ap"].nansum() > 0 and alone["values"]["lvis/bbox_fixed_AP"] > 0
    for rank in (first, second):
        assert_close(rank["ap"], alone["ap"], rtol=0, atol=0, equal_nan=True)
        assert rank["values"] == alone["values"]
