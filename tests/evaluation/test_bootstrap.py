"""Against the slow twin that copies images and evaluates them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasa.errors import UserError
from fasa.evaluation import (
    FIXED,
    OLD,
    POOL,
    bootstrap,
    draws,
    evaluate,
    fingerprint,
    interval,
    match,
    paired_bootstrap,
    replicates,
    tide,
    tide_replicates,
)
from fasa.evaluation.bootstrap import weighted_precision

pytestmark = pytest.mark.usefixtures("path")

METRICS = ["AP", "AP50", "AP75", "APr", "APc", "APf"]


def resample(gt, detections, weights):
    """Copies image i weights[i] times, ids and all; images in the order of their ids."""
    images, annotations, copied = [], [], []
    for weight, image in zip(weights, sorted(gt["images"], key=lambda image: image["id"]), strict=True):
        for copy in range(weight):
            new = {"image_id": image["id"] * 1000 + copy}
            images.append(image | {"id": new["image_id"]})
            annotations += [a | new for a in gt["annotations"] if a["image_id"] == image["id"]]
            copied += [d | new for d in detections if d["image_id"] == image["id"]]
    return gt | {"images": images, "annotations": annotations}, copied


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), weights=st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any)
)
def test_a_weight_is_a_number_of_copies(make_federated, iou_type, seed, weights):
    gt, detections = make_federated(seed, n_images=len(weights), tied_scores=False)
    weighted = weighted_precision(match(gt, detections, iou_type), np.array([weights, [1] * len(weights)]))[0]
    copied = evaluate(*resample(gt, detections, weights), iou_type=iou_type)
    np.testing.assert_allclose(100 * weighted.mean(axis=-1), copied.per_class, rtol=0, atol=1e-10)


def test_equals_the_slow_twin(make_federated):
    gt, detections = make_federated(3, n_images=10, n_classes=6, tied_scores=False)
    gt["categories"] = [c | {"frequency": f} for c, f in zip(gt["categories"], "rrccff", strict=True)]
    rng = np.random.default_rng(0)
    runs = [[d for d in detections if rng.random() < share] for share in (0.5, 0.6, 0.9, 1.0, 0.95)]

    def twin(weights):
        summaries = [evaluate(*resample(gt, run, weights), iou_type="bbox").summary for run in runs]
        values = np.array([[summary[metric] for metric in METRICS] for summary in summaries])
        return values[2:].mean(axis=0) - values[:2].mean(axis=0)

    draws = np.random.default_rng(7).multinomial(10, [1 / 10] * 10, size=140)  # more than one chunk
    actual, resampled = twin([1] * 10), np.array([twin(weights) for weights in draws])
    a, b = [match(gt, run, "bbox") for run in runs[:2]], [match(gt, run, "bbox") for run in runs[2:]]
    result = paired_bootstrap(a, b, n_resamples=140, seed=7)
    assert list(result) == METRICS
    for metric, difference, column in zip(METRICS, actual, resampled.T, strict=True):
        column = column[~np.isnan(column)]
        expected = (difference, *np.percentile(column, [2.5, 97.5]), np.mean(column <= 1e-9))
        assert result[metric] == pytest.approx(expected, abs=1e-8), metric
    low, high = result["AP"].low, result["AP"].high
    assert 0 < result["AP"].share_not_better < 1 and low < result["AP"].difference < high


def perfect(gt):
    return [{**a, "score": 1 - a["id"] / 1000} for a in gt["annotations"]]


def test_known_differences(make_federated):
    gt, detections = make_federated(2, n_images=8)
    gt["annotations"] = [a for a in gt["annotations"] if a["area"] > 0]
    same = match(gt, detections)
    for nothing in paired_bootstrap([same, same], [same], n_resamples=50).values():
        assert nothing == pytest.approx((0, 0, 0, 1), abs=1e-12)

    nothing, everything = match(gt, []), match(gt, perfect(gt))
    assert paired_bootstrap([nothing], [everything], n_resamples=50)["AP"] == pytest.approx(
        (100, 100, 100, 0)
    )
    assert paired_bootstrap([everything], [nothing], n_resamples=50)["AP"] == pytest.approx(
        (-100, -100, -100, 1)
    )

    there = paired_bootstrap([same], [everything, nothing], n_resamples=50, seed=4)["AP"]
    back = paired_bootstrap([everything, nothing], [same], n_resamples=50, seed=4)["AP"]
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low)
    )
    assert there == paired_bootstrap([same], [everything, nothing], n_resamples=50, seed=4)["AP"]
    assert there != paired_bootstrap([same], [everything, nothing], n_resamples=50, seed=5)["AP"]


def test_a_group_without_objects_has_no_interval(make_federated):
    gt, detections = make_federated(2)
    gt["categories"] = [category | {"frequency": "f"} for category in gt["categories"]]
    run = match(gt, detections)
    assert np.isnan(paired_bootstrap([run], [run], n_resamples=5)["APr"]).all()


def test_rows_that_cannot_be_paired_say_so(make_federated):
    run = match(*make_federated(1))
    with pytest.raises(UserError, match="at least one run"):
        paired_bootstrap([run], [])
    with pytest.raises(UserError, match="different annotations"):
        paired_bootstrap([run], [match(*make_federated(2))])


@pytest.mark.parametrize("protocol", [OLD, FIXED, POOL])
def test_the_spread_of_a_run_equals_the_slow_twin(make_federated, protocol):
    gt, detections = make_federated(3, n_images=8, n_classes=6, tied_scores=False)
    gt["categories"] = [c | {"frequency": f} for c, f in zip(gt["categories"], "rrccff", strict=True)]
    draws = np.random.default_rng(7).multinomial(8, [1 / 8] * 8, size=130)

    def twin(weights):
        summary = evaluate(*resample(gt, detections, weights), protocol, "bbox").summary
        return [summary[metric] for metric in METRICS]

    actual, resampled = twin([1] * 8), np.array([twin(weights) for weights in draws])
    result = bootstrap(match(gt, detections, "bbox"), protocol, n_resamples=130, seed=7)
    for metric, value, column in zip(METRICS, actual, resampled.T, strict=True):
        column = column[~np.isnan(column)]
        low, high = np.percentile(column, [2.5, 97.5]) - column.mean() + value
        assert result[metric] == pytest.approx((value, low, high), abs=1e-8), metric


def test_what_is_kept_of_each_run_gives_the_paired_bootstrap(make_federated):
    gt, detections = make_federated(3, n_images=12, n_classes=6, tied_scores=False)
    gt["categories"] = [c | {"frequency": f} for c, f in zip(gt["categories"], "rrccff", strict=True)]
    runs = [match(gt, detections[i:]) for i in (0, 5, 9)]
    kept = [replicates(run, n_resamples=150, seed=2) for run in runs]
    expected = paired_bootstrap(runs[:1], runs[1:], n_resamples=150, seed=2)
    for name, there in expected.items():
        resampled = np.mean([one[name] for one in kept[1:]], axis=0) - kept[0][name]
        assert interval(there.difference, np.round(resampled, 9)) == pytest.approx(there, abs=1e-9), name


def test_a_fingerprint_tells_images_and_draws_apart(make_federated):
    gt, detections = make_federated(3)
    other = gt | dict(annotations=gt["annotations"][5:])
    run = match(gt, detections)
    numbers = {
        fingerprint(run, 10),
        fingerprint(match(other, []), 10),
        fingerprint(run, 10, 1),
        fingerprint(run, 11),
    }
    assert len(numbers) == 4 and fingerprint(match(gt, []), 10) in numbers


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 6))
def test_costs_of_errors_are_those_of_copied_images(make_federated, iou_type, seed, n):
    gt, detections = make_federated(seed, n_images=n, tied_scores=False)
    weights = np.concatenate([np.ones((1, n), int), draws(n, 3, seed % 1000)])
    found = tide_replicates(gt, detections, weights, iou_type)
    for b, mine in enumerate(weights):
        expected = tide(*resample(gt, detections, mine), iou_type).main
        told = {name: values[b] for name, values in found.items()}
        assert told == pytest.approx(expected, abs=1e-9, nan_ok=True)
