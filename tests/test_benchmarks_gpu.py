"""The GPU benchmark's own code on a CPU: what it checks, and that its faster training trains the same."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.augmenters import run as steps
from benchmarks.gpu import agreement, cifar, cifar_data, mmcv_ops, run
from fasa.classification import experiment, training
from fasa.classification.job import Row, Schedule
from fasa.classification.learner import Learner
from fasa.data.images import LongTailed, Split
from fasa.params import read_params

ROOT = Path(__file__).parents[1]

CPU = torch.device("cpu")
EPOCHS = 2


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    counts = np.array([9, 6, 4, 2])

    def split(counts):
        labels = np.repeat(np.arange(4), counts)
        noise = rng.integers(0, 60, (len(labels), 8, 8, 3))
        return Split((noise + 40 * labels[:, None, None, None]).astype(np.uint8), labels)

    return LongTailed(split(counts), split([0, 2, 2, 2]), split([2] * 4), list("abcd"), flip=True)


def results(path):
    return [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]


def test_writes_each_result_and_goes_on_after_a_failure(monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(agreement, "costs", broken)
    few = {name: steps.CONTENDERS[name] for name in ("MoEx", "FASA")}
    monkeypatch.setattr(steps, "CONTENDERS", few)
    assert run.main([str(tmp_path), "--device", "cpu", "--tiny", "--only", "costs", "agreement"]) == 1
    machine, *agreements, cost = results(tmp_path)
    assert machine["torch"] == torch.__version__
    assert [one["method"] for one in agreements] == ["MoEx"] * 2 + ["FASA"] * 2
    assert all(one["agrees"] and one["differ_by"] == 0 for one in agreements)
    assert "no room" in cost["failed"]


def test_part_without_time_is_said_to_be_left_out(tmp_path):
    assert run.main([str(tmp_path), "--device", "cpu", "--tiny", "--only", "costs", "--minutes", "0"]) == 1
    assert "skipped" in results(tmp_path)[-1]


def test_costs_are_of_a_step_with_fasa_and_without():
    plain, with_fasa = agreement.costs(CPU, tiny=True)
    assert (plain["fasa"], with_fasa["fasa"]) == (False, True)
    assert plain["ms"] > 0 and with_fasa["ms"] > 0


def test_finds_a_device_that_computes_something_else(monkeypatch):
    contender, first = steps.CONTENDERS["FASA"], []

    class Wrong(contender.ours):
        def observe(self, z, labels, maps=None, head=None):
            first.append(self)
            super().observe(z if self is first[0] else z * (1 + 1e-3), labels)

    monkeypatch.setattr(steps.Contender, "ours", Wrong)
    sizes = Namespace(classes=12, width=16, positives=40)
    assert agreement.disagreement(contender, sizes, CPU, torch.float32) > agreement.TOLERANCE


def test_random_numbers_are_the_cpus():
    generator = torch.Generator().manual_seed(3)
    expected = torch.rand(4, generator=generator)
    with agreement.DrawOnCPU():
        given = torch.Generator().manual_seed(3)
        assert torch.rand(4, device="meta", generator=given).device.type == "meta"
        assert torch.equal(given.get_state(), generator.get_state())  # four numbers further
        assert torch.equal(torch.rand(4, generator=torch.Generator().manual_seed(3)), expected)


def test_packed_images_come_back(data, tmp_path):
    cifar_data.pack(data, tmp_path / "packed.zip")
    again = cifar_data.unpack(tmp_path / "packed.zip")
    assert (again.names, again.flip) == (data.names, data.flip)
    for part in cifar_data.PARTS:
        for a, b in zip(getattr(data, part), getattr(again, part), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_runs_side_by_side_give_what_runs_alone_give(data, monkeypatch, tmp_path):
    for name in ("Learner", "Progress", "save"):
        monkeypatch.setattr(training, name, getattr(training, name))
    monkeypatch.setattr(torch.cuda, "graph", torch.cuda.graph)
    jobs = cifar.plan(["ce", "ce_fasa"], [0], leaky=True)
    assert [job.name for job in jobs] == ["ce-0", "ce_fasa-0", "ce_fasa_leaky-0"]
    (tmp_path / "out").mkdir()
    params = read_params(ROOT / "params.yaml")
    settings = {job.name: cifar.settings_of(job, params, EPOCHS) for job in jobs}
    alone = {name: experiment.run(one, data, tmp_path / name) for name, one in settings.items()}
    board = cifar.Board(len(jobs))
    cifar.serve(jobs, board, data, settings, tmp_path / "out", tmp_path / "work", 2, graphs=True)
    assert list(board.done) == [EPOCHS] * 3
    for name, expected in alone.items():
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        for record in (found, expected):
            del record["images_per_second"]
        assert found == json.loads(json.dumps(expected))
    assert found["leaky"]


@pytest.mark.parametrize("broken", [False, True])
def test_captured_network_trains_as_the_plain_one(data, monkeypatch, broken):
    replays = []

    def capture(body, args):  # what CUDA's does to a network, but for the graph
        for _ in range(3):
            body(*args)
        if broken:
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda x: replays.append(x) or body(x)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    row, schedule = Row(augmenter=dict(type="FASA", prob_scale=8, warmup=0)), Schedule(epochs=2)
    counts = torch.tensor(data.counts)
    made = [kind(counts, 3, schedule, row, 0) for kind in (Learner, cifar.FastLearner)]
    images = torch.tensor(data.train.images).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(data.train.labels)
    made[1]._capture(images[:8])
    for begin, end in ((0, 8), (8, 16), (16, 21)):  # the last batch is smaller
        losses = [learner.step(images[begin:end], labels[begin:end], 0.0) for learner in made]
        assert losses[0] == losses[1]
    assert len(replays) == (0 if broken else 2)
    plain, fast = (learner.state_dict() for learner in made)
    for part in ("model", "augmenter"):
        assert plain[part].keys() == fast[part].keys()
        for name, value in plain[part].items():
            torch.testing.assert_close(fast[part][name], value, rtol=0, atol=0, equal_nan=True)
    for learner in made:
        learner.model.eval()
    with torch.no_grad():
        scores = [learner.model(images[:8]) for learner in made]
    assert torch.equal(*scores) and len(replays) == (0 if broken else 2)  # at test time nothing is replayed


def test_seeds_that_there_is_no_time_for_wait():
    jobs = cifar.plan(["ce", "ce_fasa"], [0, 1], leaky=True)  # 2 + 2 + 1 + 1
    left = [10] * 6
    assert cifar.admitted(jobs, left, 60) == 6
    assert cifar.admitted(jobs, left, 59) == 5
    assert cifar.admitted(jobs, left, 45) == 4
    assert cifar.admitted(jobs, left, 39) == 2
    assert cifar.admitted(jobs, left, 0) == 2
    assert cifar.admitted(jobs, [0, 0, 5, 5, 10, 10], 12) == 4


def test_op_that_was_not_built_says_so_when_called():
    ext = mmcv_ops.Partial("mmcv._ext")
    assert hasattr(ext, "deform_conv_forward")
    with pytest.raises(NotImplementedError, match="deform_conv_forward was not built"):
        ext.deform_conv_forward(1)
