"""params.yaml, read as a whole: what is right passes, every mistake is one line with its dotted path."""

import copy
import datetime
import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fasa.errors import UserError
from fasa.params import read_params
from fasa.pipeline.plan import stages
from fasa.rows import merged

ROOT = Path(__file__).parents[1]
COMMITTED = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())


@pytest.fixture(autouse=True)
def inside(monkeypatch):
    monkeypatch.chdir(ROOT)


def check(folder, params):
    path = folder / "params.yaml"
    with path.open("w") as file:
        YAML().dump(params, file)
    return list(stages(read_params(path)))


def test_make_repro_names_the_rows_that_params_list():
    done = subprocess.run(["make", "-n", "repro"], capture_output=True, text=True, check=True)
    first, second = [line for line in done.stdout.splitlines() if "fasa run" in line]
    for row in COMMITTED["repro"]:
        assert f"'train@*-{row}-*' 'evaluate@*-{row}-*'" in second
        assert (f"'train@*-{row}-*'" in first) == (row in COMMITTED["repro"][:2])


def test_committed_params_pass(tmp_path):
    names = [stage.name for stage in check(tmp_path, COMMITTED)]
    assert len(set(names)) == len(names)
    assert "train@embedded-mask_rcnn_fasa-0" in names and "classify@digits-ce_fasa-2" in names


@pytest.mark.parametrize("profile", ["tiny", "lvis", "smoke"])
def test_every_profile_resolves_every_row(profile, tmp_path):
    names = {stage.name for stage in check(tmp_path, COMMITTED | dict(profiles=[profile]))}
    assert {f"train@{profile}-{row}-0" for row in COMMITTED["run"]["rows"]} <= names


@pytest.mark.parametrize("study", COMMITTED["tuning"])
def test_what_was_chosen_stands_in_the_profile(study):
    table = (ROOT / "results" / "embedded" / "choice" / study / "table.md").read_text()
    chosen = re.search(r"^Chosen: (\w+)\.", table, re.MULTILINE)[1]
    changes = COMMITTED["tuning"][study]["candidates"][chosen]
    assert merged(COMMITTED["embedded"], changes) == merged(COMMITTED["embedded"], {})


def test_prob_scale_stands_once():
    assert str(COMMITTED["embedded"]).count("prob_scale") == 1


def put(params, path, value):
    *parents, leaf = path.split(".")
    for parent in parents:
        params = params[parent]
    params[leaf] = value


NAN, INF = float("nan"), float("inf")
SGD = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4)
FASA = "embedded.traits.fasa.augmenter"
ADAMW = "tuning.regime.candidates.adamw"
SCALE = "tuning.prob_scale.candidates.x4.traits.fasa.augmenter"
STUDY = dict(profile="embedded", rows=["mask_rcnn"], seeds=[0], candidates=dict(nothing={}))
GLYPHS = "classification.sets.glyphs"
MISTAKES = [
    # unknown, missing, of another type
    ("embedded.warmup.rampe", 3, "embedded.warmup: Object contains unknown field `rampe`"),
    ("embedded.warmup", dict(batch=8), "embedded.warmup: give either iterations or epochs"),
    ("embedded.warmup", dict(iterations=8), "embedded.warmup: Object missing required field `batch`"),
    ("embedded.train.iterations", "many", "embedded.train.iterations: Expected `int | null`, got `str`"),
    ("embedded.train.iterations", True, "embedded.train.iterations: Expected `int | null`, got `bool`"),
    ("embedded.threads", "two", "embedded.threads: Expected `int`, got `str`"),
    ("embedded.threads", True, "embedded.threads: Expected `int`, got `bool`"),
    ("embedded.launch", 3, "embedded.launch: Expected `str | array`, got `int`"),
    ("embedded.launch", ["srun", 2], "embedded.launch[1]: Expected `str`, got `int`"),
    ("embedded.extra", 1, "embedded: Object contains unknown field `extra`"),
    ("embedded.data.exp", 2, "embedded.data: Object contains unknown field `exp`"),
    ("embedded.data.kind", "lvis", "embedded.data.kind is 'lvis'; known: glyphs, coco, lvis_v1"),
    ("embedded.data", None, "embedded.data: Expected `object`, got `null`"),
    ("embedded", [], "embedded is unknown"),
    ("extra", 1, "extra is unknown: neither one of profiles, run, shown"),
    ("run", None, "run: Expected `object`, got `null`"),
    ("run.seed", [0], "run: Object contains unknown field `seed`"),
    ("shown.row", "nowhere", "shown.row: there is no 'nowhere'"),
    ("shown", None, "shown: Expected `object`, got `null`"),
    ("rows.mask_rcnn", "x", "rows.mask_rcnn: Expected `object`, got `str`"),
    ("rows.mask_rcnn", dict(trait=["rfs"]), "rows.mask_rcnn: Object contains unknown field `trait`"),
    # out of range or not finite
    ("embedded.train.iterations", 0, "embedded.train.iterations: Expected `int` >= 1"),
    ("embedded.optimizer.lr", NAN, "embedded.optimizer.lr is nan; it must be a finite number"),
    ("embedded.optimizer.lr", INF, "embedded.optimizer.lr is inf; it must be a finite number"),
    ("embedded.optimizer.lr", -1, "embedded.optimizer.lr: Expected `float` > 0.0"),
    ("embedded.optimizer.lr", 0, "embedded.optimizer.lr: Expected `float` > 0.0"),
    ("embedded.optimizer.type", "Adam", "embedded.optimizer.type: Invalid enum value 'Adam'"),
    ("embedded.optimizer.type", "SGD", "embedded.optimizer: SGD needs a momentum, and AdamW takes none"),
    ("embedded.optimizer.momentum", 0.9, "embedded.optimizer: SGD needs a momentum, and AdamW takes none"),
    (
        "embedded.optimizer.classifier",
        SGD | dict(classifier=SGD),
        "embedded.optimizer: a classifier's optimizer has no classifier",
    ),
    (
        "embedded.optimizer.classifier",
        SGD | dict(momentum=1),
        "embedded.optimizer.classifier.momentum: Expected `float` < 1.0",
    ),
    ("embedded.train.final", 2, "embedded.train.final: Expected `float` <= 1.0"),
    ("embedded.train.batch", -8, "embedded.train.batch: Expected `int` >= 1"),
    ("embedded.warmup.ramp", 401, "embedded.warmup: ramp 401 must be below iterations, 400"),
    ("embedded.train.steps", [500], "embedded.train: steps and final exclude each other"),
    ("embedded.threads", 0, "embedded.threads: Expected `int` >= 1"),
    ("embedded.threads", -1, "embedded.threads: Expected `int` >= 1"),
    ("embedded.cost.iterations", 1, "embedded.cost.iterations: Expected `int` >= 2"),
    ("embedded.table.resamples", 0, "embedded.table.resamples: Expected `int` >= 1"),
    ("embedded.traits.rfs.threshold", NAN, "embedded.traits.rfs.threshold is nan"),
    ("embedded.traits.rfs.threshold", -0.1, "embedded.traits.rfs.threshold: Expected `float` > 0.0"),
    ("embedded.traits.rfs.rounding", "floor", "embedded.traits.rfs.rounding: Invalid enum value 'floor'"),
    (
        "embedded.traits.rfs",
        dict(threshold=0.1, round=1),
        "embedded.traits.rfs: Object contains unknown field `round`",
    ),
    ("embedded.data.objects", [5, 3], "embedded.data"),
    ("embedded.data.classes", "many", "embedded.data.classes: Expected `int`, got `str`"),
    ("embedded.data.ratio", NAN, "embedded.data.ratio is nan"),
    ("embedded.pretrain.classes", 1, "embedded.pretrain.classes: Expected `int` >= 2"),
    ("embedded.pretrain.lr", 0, "embedded.pretrain.lr: Expected `float` > 0.0"),
    ("embedded.pretrain.object_size", [60, 28], "embedded.pretrain: object_size must be [smallest, largest]"),
    ("embedded.pretrain.object_size", [50, 60], "embedded.pretrain: object_size must be [smallest, largest]"),
    ("embedded.pretrain.epochs", 3, "embedded.pretrain: Object contains unknown field `epochs`"),
    (f"{FASA}.prob_scale", NAN, f"{FASA}.prob_scale is nan"),
    (f"{FASA}.prob_scale", -1, f"{FASA}"),
    (f"{FASA}.prob_scale", "8", f"{FASA}"),
    (f"{FASA}.momentum", -0.5, f"{FASA}"),
    (f"{FASA}.momentum", 2, f"{FASA}"),
    (f"{FASA}.up", -1, f"{FASA}"),
    (f"{FASA}.down", -1, f"{FASA}"),
    (f"{FASA}.power", -1, f"{FASA}"),
    (f"{FASA}.loss_weight", -1, f"{FASA}"),
    (f"{FASA}.warmup", -1, f"{FASA}"),
    (f"{FASA}.groups", dict(quantile="a"), f"{FASA}"),
    (f"{FASA}.groups", dict(quantile=0), f"{FASA}"),
    (f"{FASA}.groups", dict(q=1), f"{FASA}"),
    (f"{FASA}.level", "grp", f"{FASA}"),
    (f"{FASA}.probscale", 1, f"{FASA}.probscale is unknown; known: down, groups, initial"),
    (f"{FASA}.type", "Fasa", f"{FASA}.type is 'Fasa'; known: AngularTransfer, CAMMixing, FASA"),
    (f"{FASA}.type", "virtual_loss", f"{FASA}.type is 'virtual_loss'; known: AngularTransfer"),
    ("embedded.traits.cam.augmenter.bank", -1, "embedded.traits.cam.augmenter"),
    ("embedded.traits.cam.augmenter.bank", 1_000_000_000, "embedded.traits.cam.augmenter"),
    ("embedded.traits.angular.augmenter.margin", NAN, "embedded.traits.angular.augmenter.margin is nan"),
    ("embedded.traits.fasa.adapt_every", -1, "embedded.traits.fasa.adapt_every: Expected `int` >= 0"),
    ("embedded.traits.fasa.signal", "ap", "embedded.traits.fasa.signal: Invalid enum value 'ap'"),
    ("embedded.traits.fasa", "x", "embedded.traits.fasa: Expected `object`, got `str`"),
    (f"{GLYPHS}.traits.fasa.augmenter", 5, f"{GLYPHS}.traits.fasa.augmenter: Expected"),
    ("tuning.prob_scale.candidates.x4", 5, "tuning.prob_scale.candidates.x4: Expected `object`, got `int`"),
    # names and doubles
    ("run.rows", ["mask_rcnn\n"], "run.rows[0]: 'mask_rcnn\\n' is no name; letters, digits and"),
    ("profiles", [], "profiles: Expected `array` of length >= 1"),
    ("profiles", ["lvis9"], "profiles names 'lvis9', but there is no section lvis9"),
    ("profiles", ["embedded", "embedded"], "profiles names 'embedded' twice"),
    ("profiles", ["tiny; touch x #"], "profiles names 'tiny; touch x #'"),
    ("run.rows", ["mask_rcn"], "run.rows: there is no 'mask_rcn'; known: cascade_rcnn_rfs, "),
    ("run.rows", ["mask_rcnn", "mask_rcnn"], "run.rows names 'mask_rcnn' twice"),
    ("run.rows", ["mask_rcnn; touch x"], "run.rows[0]: 'mask_rcnn; touch x' is no name; letters, digits and"),
    ("run.seeds", ["0; touch x #"], "run.seeds[0]: Expected `int`, got `str`"),
    ("run.seeds", [0, 0], "run.seeds names 0 twice"),
    ("run.seeds", [-1], "run.seeds[0]: Expected `int` >= 0"),
    ("run.seeds", [True], "run.seeds[0]: Expected `int`, got `bool`"),
    ("run.seeds", [0.5], "run.seeds[0]: Expected `int`, got `float`"),
    ("classify.seeds", ["0; touch x #"], "classify.seeds[0]: Expected `int`, got `str`"),
    ("classify.sets", ["mnist"], "classify.sets: there is no 'mnist'; known: cifar100"),
    ("classify.rows", ["ce9"], "classify.rows: there is no 'ce9'"),
    ("repro", ["mask_rcnn9"], "repro: there is no 'mask_rcnn9'"),
    ("tuning.regime.profile", "nothing", "tuning.regime.profile: there is no 'nothing'"),
    ("tuning.regime.rows", ["nothing"], "tuning.regime.rows: there is no 'nothing'"),
    ("tuning.regime.seeds", [0, 0], "tuning.regime.seeds names 0 twice"),
    ("tuning.regime.candidates", {}, "tuning.regime.candidates: Expected `object` of length >= 1"),
    (f"{ADAMW}.optimiser", {}, f"{ADAMW}: Object contains unknown field `optimiser`"),
    (f"{ADAMW}.optimizer", dict(lr=1), f"{ADAMW}.optimizer: Object missing required field `type`"),
    (f"{ADAMW}.data", dict(klasses=5), f"{ADAMW}.data: Object contains unknown field `klasses`"),
    (f"{SCALE}.prob_scale", -4, "embedded.traits.fasa.augmenter"),
    ("tuning.seventh", STUDY, "tuning.seventh: there is no notebooks/*_choice_seventh.ipynb with its rule"),
    # rows that cannot be
    (
        "rows.mask_rcnn.model",
        "yolo",
        "rows.mask_rcnn.model is 'yolo', but there is no configs/embedded/yolo.py",
    ),
    (
        "rows.mask_rcnn.traits",
        ["focal"],
        "rows.mask_rcnn.traits: 'focal' is neither a file of configs/traits nor in",
    ),
    ("rows.mask_rcnn.traits", ["fasa", "smote"], "rows.mask_rcnn.traits: smote is a second augmenter"),
    (
        "rows.mask_rcnn.traits",
        ["seesaw", "angular"],
        "rows.mask_rcnn: AngularTransfer has scores of its own, as has seesaw",
    ),
    ("rows.mask_rcnn.traits", ["../x"], "rows.mask_rcnn.traits[0]: '../x' is no name; letters, digits and"),
    ("rows.mask-rcnn", {}, "rows: 'mask-rcnn' is no name; letters, digits and _ make one, a letter first"),
    ("my-set", COMMITTED["tiny"], "a profile: 'my-set' is no name; letters, digits and _ make one"),
    ("tiny.config", {"a": datetime.date(2026, 1, 2)}, "tiny.config.a is '2026-01-02', a date; put text into"),
    ("rows.mask_rcnn.adapt_every", 5, "rows.mask_rcnn: augmenter, adapt_every and signal change a trait"),
    ("rows.mask_rcnn_smote.adapt_every", 5, "rows.mask_rcnn_smote.adapt_every: nothing adapts in this row"),
    ("rows.mask_rcnn_fasa.augmenter", dict(level="grp"), "(as rows.mask_rcnn_fasa has it)"),
    # classification
    ("classification.rows.ce.loss", "focal", "classification.rows.ce.loss: Invalid enum value 'focal'"),
    ("classification.rows.ce.signal", "metric", "classification.rows.ce: what it changes is an augmenter's"),
    ("classification.rows.ce_fasa.traits", ["cam"], "classification.rows.ce_fasa.traits: 'cam' is not in"),
    (
        "classification.rows.ce_fasa.adapt_split",
        "val",
        "classification.rows.ce_fasa.adapt_split: Invalid enum",
    ),
    (f"{GLYPHS}.data", dict(kind="mnist"), f"{GLYPHS}.data.kind is 'mnist'; known: glyphs, digits, cifar100"),
    (f"{GLYPHS}.data.nmax", 3, f"{GLYPHS}.data: Object contains unknown field `nmax`"),
    (f"{GLYPHS}.precision", "half", f"{GLYPHS}.precision: Invalid enum value 'half'"),
    (f"{GLYPHS}.schedule.epoch", 3, f"{GLYPHS}.schedule: Object contains unknown field `epoch`"),
    (f"{GLYPHS}.schedule.momentum", 1, f"{GLYPHS}.schedule.momentum: Expected `float` < 1.0"),
    (f"{GLYPHS}.shots", [10], f"{GLYPHS}.shots: Expected `array` of length >= 2"),
    (f"{GLYPHS}.shots", [20, 5], f"{GLYPHS}: shots is [20, 5]; the smaller comes first"),
    (f"{GLYPHS}.shots", ["a", "b"], f"{GLYPHS}.shots[0]: Expected `int`, got `str`"),
    (f"{GLYPHS}.threads", 0, f"{GLYPHS}.threads: Expected `int` >= 1"),
    (f"{GLYPHS}.traits.fasa.augmenter.level", "grp", f"{GLYPHS}.traits.fasa.augmenter"),
    (f"{GLYPHS}.traits.fasa.augmenter.type", "CAMMixing", f"{GLYPHS}.traits.fasa"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES)
def test_a_mistake_gives_one_line_with_its_path(path, value, message, tmp_path):
    params = copy.deepcopy(COMMITTED)
    put(params, path, value)
    with pytest.raises(UserError) as info:
        check(tmp_path, params)
    assert message in str(info.value) and str(info.value).count("\n") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is NoneType, not keys and values"),
        (b"[1, 2]", "is list, not keys and values"),
        (b"profiles: \xff\xfe", "is not UTF-8"),
        (b"profiles: [", "params.yaml"),
        (b"profiles: 2001-99-99\n", "params.yaml"),
        (b"profiles: &a [*a]\n", "params.yaml"),
        (b"profiles: 5\n", "params.yaml"),
        (b"? [a, b]\n: 1\n", "params.yaml"),
        (b"1: 2\n", "params.yaml: 1 is unknown"),
        (b"profiles: [embedded]\nprofiles: [tiny]\n", "params.yaml"),
    ],
)
def test_a_broken_file_gives_one_line(content, message, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as info:
        read_params(path)
    assert message in str(info.value) and "\n" not in str(info.value)


JUNK = [
    None,
    True,
    -1,
    0,
    0.5,
    10**12,
    1e300,
    NAN,
    INF,
    "",
    "a",
    "0; touch x #",
    "../x",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
]


def places(node, path=()):
    """The path of every value in nested plain data."""
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in parts:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("case", range(int(os.environ.get("FASA_FUZZ", 40))))
def test_a_value_of_any_kind_in_any_place_passes_or_gives_one_line(case, tmp_path):
    """FASA_FUZZ=5000 looks for minutes."""
    rng, params = random.Random(case), copy.deepcopy(COMMITTED)
    *parents, leaf = rng.choice(list(places(params)))
    node = params
    for parent in parents:
        node = node[parent]
    if rng.random() < 0.2:
        del node[leaf]
    else:
        node[leaf] = rng.choice(JUNK)
    try:
        check(tmp_path, params)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000


def test_a_profile_like_another_takes_what_it_does_not_say(tmp_path):
    mine = dict(
        like="lvis",
        data=dict(sample=5),
        train=dict(iterations=7, batch=2),
        traits=dict(fasa=dict(augmenter=dict(warmup=3))),
        weights=None,
    )
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        YAML().dump(COMMITTED | dict(mine=mine), file)
    found, lvis = (read_params(path).sections[name] for name in ("mine", "lvis"))
    assert found.data == lvis.data | dict(sample=5)
    assert (found.train.iterations, found.train.epochs, found.train.steps) == (7, None, [])
    assert found.traits["fasa"]["augmenter"] == lvis.traits["fasa"]["augmenter"] | dict(warmup=3)
    assert found.traits["cam"] == lvis.traits["cam"] and found.weights is None and found.configs == "lvis"


def test_data_of_another_kind_stand_for_themselves(tmp_path):
    mine = dict(like="lvis", data=dict(kind="coco", train="a.json", images="photos"))
    names = {stage.name for stage in check(tmp_path, COMMITTED | dict(mine=mine, profiles=["mine"]))}
    assert "train@mine-mask_rcnn_smote-0" in names


@pytest.mark.parametrize("other", ["nope", "smoke", "run", 7, None])
def test_like_what_is_no_profile_of_its_own(other, tmp_path):
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        YAML().dump(COMMITTED | dict(mine=dict(like=other, data={})), file)
    with pytest.raises(UserError, match=f"mine.like is {other!r}; it must be a profile"):
        read_params(path)


def test_weights_and_pretraining_exclude_each_other(tmp_path):
    embedded = COMMITTED["embedded"] | dict(weights="imagenet")
    with pytest.raises(UserError, match="embedded: pretrain and weights exclude each other"):
        check(tmp_path, COMMITTED | dict(embedded=embedded))
