import json

import pytest

from fasa.report import classification, figures


def write(folder, name, accuracy, leaky=False):
    record = dict(
        metrics=dict(accuracy=accuracy, many=accuracy, medium=accuracy, few=accuracy),
        counts=[30, 3],
        per_class=[accuracy, accuracy],
        leaky=leaky,
    )
    (folder / "results/classify/small").mkdir(parents=True, exist_ok=True)
    (folder / "results/classify/small" / f"{name}.json").write_text(json.dumps(record))


HOW = dict(kind="folder", epochs=30, precision="float32", shots=[5, 20], asked=True)
TRAINED = dict(small=HOW, other=HOW | dict(asked=False))


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, accuracy in enumerate([40.0, 42.0]):
        write(tmp_path, f"ce-{seed}", accuracy)
        write(tmp_path, f"ce_fasa-{seed}", accuracy + 3, leaky=True)
    return classification.read_records("small", ["ce", "ce_fasa", "other"], [0, 1])


def test_tables_hold_ours_the_papers_and_what_is_leaky(records):
    text = classification.section("table3", dict(small=records, other={}), TRAINED)
    assert (
        "### On small" in text
        and "Ours: `small`, 2 classes in 33 training images, 30 epochs in float32; few-shot below 5" in text
    )
    assert "judged on: cross-entropy + FASA." in text
    assert "44.0 ± 1.4 (43.7) | 44.0 ± 1.4" in text  # the paper has no few, medium, many
    assert "In brackets the paper's, on CIFAR-100-LT: 100 classes" in text and "not run (43.9)" in text
    assert "cross-entropy + FASA has +3.0 accuracy and +3.0 few-shot over cross-entropy (2 seeds)" in text
    assert "`ce_fasa_leaky`" not in text  # a row that is shown where it has run
    leaky = dict(small=records | dict(ce_fasa_leaky=records["ce_fasa"]))
    assert "<br>`ce_fasa_leaky` " in classification.section("table3", leaky, TRAINED)
    assert "### On other" in text and "**Read:** nothing to compare yet" in text.partition("### On other")[2]
    assert "fasa run 'classify@small-ROW-*'`." in text and "`small` under" not in text
    first = "fasa run 'classify@other-ROW-*'`. First put `other` under `classify.sets` in `params.yaml`."
    assert first in text
    small = classification.section("table3", dict(small=records), TRAINED).partition("### On other")[2]
    stand_in = classification.section("table3", {}, dict(other=HOW | dict(kind="glyphs")))
    assert "Not run" not in stand_in  # for CIFAR-100, which needs no word where it is not asked for
    assert (
        "Not run: 30 epochs in float32" in small
        and "fasa run 'classify@other-*'`. First put `other`" in small
    )
    assert classification.section("table3", {}, {}) == "No set of classification is asked for."


def test_lines_are_means_over_seeds_and_neighbours():
    run = dict(counts=[9, 5, 3, 2, 2], per_class=[0, 10, 20, 30, 40])
    axes = figures.class_accuracy(dict(ce=[run, run]), window=2).axes[1]
    points, line = axes.lines[:2]
    assert points.get_ydata().tolist() == [0, 10, 20, 30, 40]
    assert line.get_xdata().tolist() == [1.5, 2.5, 3.5, 4.5] and line.get_ydata().tolist() == [5, 15, 25, 35]
    few = figures.class_accuracy(dict(ce=[run]), window=3)  # so few that each is read by itself
    assert few.axes[1].lines[1].get_ydata().tolist() == [0, 10, 20, 30, 40]
    assert not any("neighbours" in text.get_text() for text in few.legends[0].texts)
