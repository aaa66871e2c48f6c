import json
from base64 import b64decode

import numpy as np
import pytest
from msgspec.structs import replace

from fasa.classification.experiment import run
from fasa.classification.job import Job, Row, Schedule
from fasa.data import digits_lt, images

FASA = dict(type="FASA", prob_scale=4, warmup=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Digits, as the stage `images` leaves them."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images.save(digits_lt.load(digits_lt.Settings(n_max=20, ratio=10, adapt=5, test=10), 0), path)
    return images.load(path)


JOB = Job(
    set="small",
    row="fasa",
    seed=0,
    schedule=Schedule(epochs=3, batch=32, warmup=1, crop=1),
    settings=Row(augmenter=FASA, signal="metric"),
    shots=[5, 15],
    threads=1,
    precision="float32",
)


def test_a_record_is_plain_data_of_what_the_run_did(data, tmp_path):
    record = run(JOB, data, tmp_path)
    json.dumps(record, allow_nan=False)
    assert record["counts"][0] == 20 and record["counts"][-1] == 2 and record["names"] == list("0123456789")
    metrics = record["metrics"]
    assert metrics["accuracy"] == pytest.approx(sum(record["per_class"]) / 10)  # the test split is balanced
    bits = np.unpackbits(np.frombuffer(b64decode(record["right"]), np.uint8), count=record["tested"])
    assert record["tested"] == 100 and bits.mean() * 100 == pytest.approx(metrics["accuracy"])
    assert bits.reshape(10, 10).mean(axis=1) * 100 == pytest.approx(record["per_class"])  # by class
    assert metrics["fasa_adaptations"] == len(record["passes"]) == 3
    assert metrics["virtual_per_iteration"] > 0 and not record["leaky"]
    assert all(0 <= value <= 1 for value in record["passes"][0]["class_accuracy"])


def test_a_row_without_fasa_reports_accuracy_alone(data, tmp_path):
    record = run(replace(JOB, settings=Row()), data, tmp_path)
    assert record["metrics"].keys() == {"accuracy", "many", "medium", "few"} and record["passes"] == []


def test_adapting_to_the_test_split_is_marked(data, tmp_path):
    assert run(replace(JOB, settings=replace(JOB.settings, adapt_split="test")), data, tmp_path)["leaky"]
