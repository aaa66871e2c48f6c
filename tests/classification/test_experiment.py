import json

import pytest

from fasa.classification.experiment import read_set, run
from fasa.errors import UserError

FASA = dict(type="FASA", prob_scale=4, warmup=1)


@pytest.fixture
def section():
    digits = dict(
        kind="digits",
        seed=0,
        data=dict(n_max=20, ratio=10, adapt=5, test=10),
        schedule=dict(epochs=3, batch=32, warmup=1, crop=1),
        shots=[5, 15],
        threads=1,
    )
    return dict(sets=dict(small=digits), rows=dict(ce={}, fasa=dict(augmenter=FASA, signal="metric")))


def test_a_record_is_plain_data_of_what_the_run_did(section, tmp_path):
    record = run(section, "small", "fasa", 0, tmp_path)
    json.dumps(record, allow_nan=False)
    assert record["counts"][0] == 20 and record["counts"][-1] == 2 and record["names"] == list("0123456789")
    metrics = record["metrics"]
    assert metrics["accuracy"] == pytest.approx(sum(record["per_class"]) / 10)  # the test split is balanced
    assert metrics["fasa_adaptations"] == len(record["passes"]) == 3
    assert metrics["virtual_per_iteration"] > 0 and not record["leaky"]
    assert all(0 <= value <= 1 for value in record["passes"][0]["class_accuracy"])


def test_a_row_without_fasa_reports_accuracy_alone(section, tmp_path):
    record = run(section, "small", "ce", 0, tmp_path)
    assert record["metrics"].keys() == {"accuracy", "many", "medium", "few"} and record["passes"] == []


def test_adapting_to_the_test_split_is_marked(section, tmp_path):
    section["rows"]["fasa"]["adapt_split"] = "test"
    assert run(section, "small", "fasa", 0, tmp_path)["leaky"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kind="mnist"), "sets.small.kind is 'mnist'; known: glyphs, digits, cifar100"),
        (dict(precision="half"), "sets.small.precision is 'half'; known: float32, bfloat16"),
        (dict(schedule=dict(epoch=3)), "sets.small.schedule.epoch is unknown"),
        (dict(size=3), "sets.small.size is unknown"),
    ],
)
def test_a_mistake_gives_one_line(section, change, message):
    section["sets"]["small"] |= change
    with pytest.raises(UserError) as error:
        read_set(section["sets"], "small")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_set_is_named(section):
    with pytest.raises(UserError, match="there is no set 'large'; known: small"):
        read_set(section["sets"], "large")
