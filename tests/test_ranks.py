"""Training and evaluation on two ranks, gloo on the CPU: the real stages of the tiny profile."""

import json

import numpy as np
import pytest
from clones import cloned, dvc, fasa, one_row
from msgspec.structs import replace

from fasa.detection import experiment
from fasa.job import Job
from fasa.pipeline.project import read_job
from fasa.sections import read

ROW = "mask_rcnn_fasa-0"
EVALUATE = f"evaluate@tiny-{ROW}"
TWO_RANKS = "torchrun --nproc_per_node=2"
# Each of two hosts runs this; here both are this one.
TWO_HOSTS = """trap 'kill 0' TERM
for host in 0 1; do
  torchrun --no-python --nnodes=2 --node-rank=$host --nproc_per_node=1 \\
    --master-addr=127.0.0.1 --master-port=29577 "$@" &
  hosts="$hosts $!"
done
for host in $hosts; do wait $host || exit; done
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A clone in which two ranks have trained and evaluated a row; `val` has several batches."""
    folder = tmp_path_factory.mktemp("ranks") / "fasa"
    cloned(folder, **one_row("mask_rcnn_fasa"))
    (folder / "hosts.sh").write_text(TWO_HOSTS)
    done = fasa(folder, "run", EVALUATE, FASA_LAUNCH=TWO_RANKS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("launch", ["", "sh hosts.sh"], ids=["one process", "two hosts"])
def test_one_checkpoint_has_the_same_metrics_to_the_byte(trained, launch):
    """Detections, the record, metrics and the executed notebook: dvc.lock has the hashes of all."""
    before = (trained / "dvc.lock").read_text()
    assert (trained / f"runs/tiny/evaluate/{ROW}/detections.npz").stat().st_size > 5_000
    done = dvc(trained, "repro", "--force", "--no-run-cache", "--single-item", EVALUATE, FASA_LAUNCH=launch)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (trained / "dvc.lock").read_text() == before


def test_what_ranks_train_is_as_near_as_another_seed(trained, tmp_path, monkeypatch):
    """Not the same: losses are means of each rank's images. The measure is that which FASA adapts to."""
    monkeypatch.chdir(trained)
    job = read(Job, read_job(f"train@tiny-{ROW}")["settings"]["run"])
    losses = []
    for seed in range(3):
        one, folder = replace(job, seed=seed), tmp_path / str(seed)
        experiment.train_warmup(one, folder / "warmup", folder / "warmup.pth")
        written = dict(out=folder / "out.pth", history=folder / "history.json")
        experiment.train_row(one, warmup=folder / "warmup.pth", work_dir=folder / "train", **written)
        losses.append(class_losses(folder / "history.json"))
    ranks = class_losses(trained / f"runs/tiny/history/{ROW}.json")
    spread = max(np.abs(losses[0] - losses[1]).max(), np.abs(losses[0] - losses[2]).max())
    assert 0 < np.abs(ranks - losses[0]).max() < spread


def class_losses(history):
    """The mean loss of each class on images held out, after the last iteration, (K,)."""
    return np.array(json.loads(history.read_text())["passes"][-1]["class_loss"])
