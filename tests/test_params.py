import copy
import re
from pathlib import Path

import pytest

from fasa.errors import UserError
from fasa.params import check
from fasa.pipeline.project import load_params
from fasa.rows import Schedule, read_row
from fasa.sections import strict

ROOT = Path(__file__).parents[1]


@pytest.fixture
def params(monkeypatch):
    monkeypatch.chdir(ROOT)
    return copy.deepcopy(load_params())


def test_committed_params_pass(params):
    check(params)


def test_prob_scale_is_the_one_that_was_chosen(params):
    chosen = re.search(r"Chosen: prob_scale (\d+)", (ROOT / "results" / "choice.md").read_text())[1]
    assert params["rows"]["mask_rcnn_fasa"]["augmenter"]["prob_scale"] == int(chosen)


def put(params, path, value):
    *parents, leaf = path.split(".")
    for parent in parents:
        params = params[parent]
    params[leaf] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "warmup.rampe",
            3,
            "params.yaml: warmup.rampe is unknown; known: batch, final, iterations, lr, ramp",
        ),
        ("train.iterations", "many", "params.yaml: train.iterations is 'many', not int"),
        ("train.iterations", True, "params.yaml: train.iterations is True, not int"),
        ("threads", "two", "params.yaml: embedded.threads is 'two', not int"),
        ("data.exp", 2, "params.yaml: data.exp is unknown"),
        ("data.root", "x", "params.yaml: data.root is unknown"),
        (
            "run.rows",
            ["mask_rcn"],
            "params.yaml: there is no row 'mask_rcn'; known: cascade_rcnn_rfs, ",
        ),
        ("run.seed", [0], "params.yaml: run.seed is unknown; known: rows, seeds"),
        ("rows.mask_rcnn", "x", "params.yaml: rows.mask_rcnn is 'x', not a section of keys and values"),
        (
            "rows.mask_rcnn",
            {"augmenter": {"type": "Fasa"}},
            "type is 'Fasa'; known: AngularTransfer, CAMMixing, FASA",
        ),
        (
            "rows.mask_rcnn",
            {"augmenter": {"type": "virtual_loss"}},
            "type is 'virtual_loss'; known: AngularTransfer",
        ),
        ("rows.mask_rcnn_fasa.augmenter.probscale", 1, "rows.mask_rcnn_fasa.augmenter.probscale is unknown"),
        (
            "rows.mask_rcnn_fasa.augmenter.groups.q",
            1,
            "augmenter.groups.q is unknown; known: components, quantile",
        ),
        ("profile", "lvis9", "params.yaml: profile 'lvis9' has no folder configs/lvis9"),
        ("train.iterations", 0, "params.yaml: train.iterations is 0; it must be at least 1"),
        ("rows.mask_rcnn_fasa.adapt_every", 0, "rows.mask_rcnn_fasa.adapt_every is 0; it must be at least 1"),
        ("rows.mask_rcnn_fasa.augmenter.prob_scale", "8", "augmenter.prob_scale is '8', not a number"),
        ("data.objects", [5, 3], "data.objects: must be [fewest, most], at least 1"),
        ("data.classes", "many", "params.yaml: data.classes is 'many', not int"),
        ("extra", 1, "params.yaml: embedded.extra is unknown"),
        ("more.rows", ["mask_rcnn"], "mask_rcnn stands in run.rows and in more.rows; leave one out"),
        (
            "rows.mask_rcnn.model",
            "yolo",
            "rows.mask_rcnn.model is 'yolo', but there is no configs/embedded/yolo.py",
        ),
        ("rows.mask_rcnn.rfs", {"threshold": 0.1, "round": 1}, "rows.mask_rcnn.rfs.round is unknown"),
        ("rows.mask_rcnn.rfs", {}, "rows.mask_rcnn.rfs.threshold is missing"),
        ("rows.mask_rcnn.nms_resampling", 1, "rows.mask_rcnn.nms_resampling is 1, not bool"),
        (
            "rows.mask_rcnn.adapt_every",
            5,
            "rows.mask_rcnn.adapt_every: nothing adapts in this row; leave it out",
        ),
        ("rows.mask_rcnn_smote.adapt_every", 5, "rows.mask_rcnn_smote.adapt_every: nothing adapts"),
        (
            "rows.mask_rcnn_angular.loss",
            "seesaw",
            "rows.mask_rcnn_angular: AngularTransfer makes scores of its own; leave classifier and loss out",
        ),
        (
            "rows.mask_rcnn_fasa.augmenter.level",
            "grp",
            "rows.mask_rcnn_fasa.augmenter: FASA: initial='inverse'",
        ),
        ("rows.mask_rcnn_cam.augmenter.bank", -1, "rows.mask_rcnn_cam.augmenter: CAMMixing"),
        ("classification.rows.ce_fasa.augmenter.level", "grp", "classification.rows.ce_fasa.augmenter: FASA"),
        ("classification.sets.digits.data", {"nmax": 3}, "sets.digits.data.nmax is unknown"),
        (
            "classification.sets.glyphs.shots",
            [10],
            "sets.glyphs.shots is [10], not two numbers, the smaller first",
        ),
        ("classification.sets.glyphs.shots", [20, 5], "sets.glyphs.shots is [20, 5], not two numbers"),
        ("classification.sets.glyphs.shots", ["a", "b"], "sets.glyphs.shots is ['a', 'b'], not two numbers"),
    ],
)
def test_a_mistake_gives_one_line(params, path, value, message):
    put(params, path, value)
    with pytest.raises(UserError) as info:
        check(params)
    assert message in str(info.value) and "\n" not in str(info.value)


def test_missing_keys_are_named():
    with pytest.raises(UserError, match="params.yaml: warmup.lr is missing"):
        strict(Schedule, dict(iterations=3, batch=2), "warmup")


def test_whole_numbers_are_numbers():
    assert strict(Schedule, dict(iterations=3, batch=2, lr=1), "warmup").lr == 1


def test_row_keeps_what_it_says(params):
    row = read_row(params["rows"], "mask_rcnn_fasa")
    assert row.augmenter["type"] == "FASA" and row.adapt_every >= 1
