"""Two real processes, torchrun's environment, gloo on CPU."""

import os
import subprocess
import sys

import torch
from torch.testing import assert_close

from fasa.experiments import held_out

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
cfg = Config.fromfile(sys.argv[1])
init_default_scope("mmdet")
model = MMDistributedDataParallel(module=MODELS.build(cfg.model))
names = "default_scope work_dir train_dataloader train_cfg optim_wrapper custom_hooks randomness"
runner = Runner(model=model, launcher="pytorch", cfg=cfg, **{name: cfg.get(name) for name in names.split()})
runner.train()
head = runner.model.module.roi_head.bbox_head
(history,) = [hook.history for hook in runner.hooks if hasattr(hook, "history")]
result = dict(state=head.augmenter.state_dict(), fc=head.fc_cls.weight.detach(), history=history)
torch.save(result, f"{sys.argv[2]}/{os.environ['RANK']}.pth")
"""


def test_ranks_hold_the_same_state_and_draw_on_their_own(config, tmp_path):
    cfg = config(dict(type="FASA", prob_scale=4), adapt_every=2, iterations=6)
    cfg.dump(tmp_path / "config.py")
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = os.environ | dict(PYTHONPATH=os.getcwd(), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [*command, tmp_path / "run.py", tmp_path / "config.py", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    for name, value in ranks[0]["state"].items():
        if name != "drawn":
            assert_close(value, ranks[1]["state"][name], rtol=0, atol=0, equal_nan=True)
    assert ranks[0]["state"]["adaptations"] == 3
    assert ranks[0]["state"]["drawn"].tolist() != ranks[1]["state"]["drawn"].tolist()
    assert torch.equal(ranks[0]["fc"], ranks[1]["fc"])
    assert ranks[0]["history"][-1]["probability"] == ranks[1]["history"][-1]["probability"]


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
