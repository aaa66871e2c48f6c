"""The whole pipeline at the tiny profile's scale: the real DVC and notebooks, a copy of this checkout."""

import json
import re
import shutil
import sys

import browser
import pytest
from clones import ROOT, called, change, cloned, dvc, fasa, ran, yaml
from ruamel.yaml import YAML

from fasa.report.page import section

ROWS = [
    "mask_rcnn",
    "mask_rcnn_fasa",
    "mask_rcnn_rfs_fasa",
    "mask_rcnn_smote",
    "mask_rcnn_angular",
    "cascade_rcnn_rfs_fasa",
]
CHOSEN = dict(
    profiles=["tiny"],
    run=dict(rows=ROWS, seeds=[0]),
    repro=ROWS[:2],
    classify=dict(sets=["tiny_glyphs", "tiny_digits"], rows=["ce", "ce_fasa"], seeds=[0]),
    tuning=dict(
        regime=dict(
            profile="tiny",
            rows=["mask_rcnn", "mask_rcnn_rfs"],
            seeds=[0],
            candidates=dict(
                adamw=dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05)),
                fewer=dict(data=dict(classes=4)),
            ),
        ),
        prob_scale=dict(
            profile="tiny",
            rows=["mask_rcnn_fasa", "mask_rcnn_rfs_fasa"],
            seeds=[0],
            candidates={
                f"x{scale}": dict(traits=dict(fasa=dict(augmenter=dict(prob_scale=scale))))
                for scale in (4, 16)
            },
        ),
    ),
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone that runs the tiny profile, with nothing cached."""
    return cloned(tmp_path_factory.mktemp("clone") / "fasa", **CHOSEN)


def outdated(folder):
    """Stages of the default run that are not up to date."""
    status = json.loads(dvc(folder, "status", "--json").stdout)
    return {stage for stage in status if not stage.startswith("tuning/")}


@pytest.fixture(scope="module")
def first(clone):
    done = fasa(clone, "run", "--verbose")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return lock(clone)


def lock(folder):
    """What dvc.lock says of all stages but those that hold timings."""
    stages = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]
    return {name: stage for name, stage in stages.items() if not name.startswith(("cost", "report"))}


def test_results_hold_every_row_and_metric(clone, first):
    results = clone / "results" / "tiny"
    metrics = json.loads((results / "metrics.json").read_text())
    assert list(metrics) == ROWS
    # at this scale no class is frequent and no object large, so there is neither APf nor APl
    common = ["AP", "AP50", "AP75", "APr", "APc", "APs", "AR", "ARs"]
    tide = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg"]
    names = {
        f"{kind}_{name}"
        for kind in ("segm", "bbox")
        for name in [f"{p}{m}" for p in ("", "fixed_", "pool_") for m in common] + [f"tide_{e}" for e in tide]
    }
    assert metrics["mask_rcnn"].keys() >= names
    names = metrics["mask_rcnn"].keys()
    assert not any(name.endswith(("APf", "APl")) for name in names)
    fasa = metrics["mask_rcnn_fasa"]
    assert names >= {"segm_rare_score", "segm_rare_low", "segm_rare_missed"}
    assert fasa.keys() - names == {"fasa_adaptations", "virtual_per_iteration", "fasa_groups"}
    assert fasa["fasa_adaptations"] == dict(mean=4, std=None, n=1, each=[4])
    assert {"rfs_r", "rfs_up_c"} <= metrics["mask_rcnn_rfs_fasa"].keys()
    for row in ROWS:
        values = json.loads((results / "runs" / f"{row}-0.json").read_text())
        assert values["box_r"] == round(metrics[row]["bbox_APr"]["mean"], 1)
    report = (results / "report.md").read_text()
    titles = re.findall("^## (.+)$", report, re.MULTILINE)
    parts = {title.partition(":")[0]: section(report, title) for title in titles}
    for title, text in (
        ("Claims", "(one seed)"),
        ("Table 1", "loses most AP50 by"),
        ("Table 3", "not run (43.9)"),
        ("Table 5", "(0.792 ± 0.05)"),
        ("Table 7", "0.1"),
        ("Table 8", "not run (22.9)"),
        ("Figure 1", "look-alikes"),
        ("Figure 2", "rare objects, 1 seed"),
        ("How this page was made", "6 of 6 runs of detectors are done"),
    ):
        assert text in parts[title], title
    for title, row in (
        ("In short", "mask_rcnn_fasa"),
        ("Table 2", "mask_rcnn_rfs_fasa"),
        ("Table 3", "ce_fasa"),
        ("Table 4", "ce_fasa"),
        ("Table 6", "cascade_rcnn_rfs_fasa"),
        ("Other augmentations", "mask_rcnn_smote"),
        ("Cost", "mask_rcnn_angular"),
    ):
        assert ran(parts[title], row), title
    images = re.findall(r"^!\[(.+)\]\((.+)\)$", report, re.MULTILINE)
    drawn = {path.name for path in (results / "report").glob("*.png")}
    assert {f"report/{name}" for name in drawn} == {place for _, place in images} and len(drawn) > 12
    page = (results / "report.html").read_text()
    assert page.count('<img src="data:image/svg+xml;base64,') == len(images) and 'src="report' not in page
    cost = {row: json.loads((results / f"cost/{row}.json").read_text())[row] for row in metrics}
    assert min(one["seconds"] for one in cost.values()) > 0
    assert cost["mask_rcnn_fasa"]["state"] > 0 == cost["mask_rcnn"]["state"]
    assert cost["mask_rcnn_fasa"]["pass_seconds"] > 0 and "pass_seconds" not in cost["mask_rcnn"]
    for name in (
        "figures/counts",
        "figures/groups-0",
        "report/adaptation",
        "report/ap_by_frequency",
        "report/classes_tiny_digits",
        "report/combinations",
        "report/gain_by_class",
        "report/groups",
        "report/margin",
        "report/method",
        "report/rare",
        "report/tide",
    ):
        assert all((results / f"{name}.{kind}").stat().st_size > 20_000 for kind in ("png", "svg"))


def test_the_claims_are_judged_from_what_is_committed(clone, first):
    told = json.loads((clone / "results/tiny/claims.json").read_text())
    verdicts = {(one["id"], one["metric"]): one["verdict"] for one in told}
    assert verdicts["G.1", "segm_AP"] == "not run" != verdicts["G.2", "segm_AP"]
    text = (clone / "results/tiny/report.md").read_text()
    assert f" claims, {len(told)} checks." in text and "(one seed)" in text


def test_the_report_needs_no_cache(clone, first, tmp_path):
    """Where data, checkpoints and executed notebooks are not, text and tables are the same to the byte."""
    bare = tmp_path / "bare"
    for name in ("build", "fasa", "notebooks", "results"):
        shutil.copytree(clone / name, bare / name)
    shutil.copy(clone / "dvc.yaml", bare)
    for module in ("fasa.pipeline.run", "fasa.report.page"):
        done = called(bare, sys.executable, "-m", module, "report@tiny")
        assert done.returncode == 0, done.stderr[-3000:]
    for name in ("claims.json", "claims.md", "metrics.json"):
        again = bare / "scratch" / "results" / "tiny" / name
        assert again.read_bytes() == (clone / "results" / "tiny" / name).read_bytes()
    texts = [(folder / "results" / "tiny" / "report.md").read_text() for folder in (bare / "scratch", clone)]
    (again, told), (before, there) = (text.split("## How this page was made") for text in texts)
    assert again == before
    detectors = [next(line for line in text.splitlines() if "- Detectors:" in line) for text in (told, there)]
    assert detectors[0].endswith(" are as committed.") and detectors[1].endswith(
        " were made, or fetched, here."
    )


def test_the_first_table_is_shown_on_a_terminal(clone, first):
    shown = fasa(clone, "report").stdout
    assert shown.startswith("Mask R-CNN without and with FASA.") and "![" not in shown
    assert shown.endswith("results/tiny/report.html, or report.md beside it.\n")


def test_other_profiles_are_left_alone(clone, first):
    for path in (ROOT / "results" / "embedded").rglob("*.*"):
        assert (clone / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_second_run_does_nothing(clone, first):
    (clone / "fasa" / "evaluation" / "_core.of-another-python.so").touch()  # what set-up builds is no source
    done = dvc(clone, "repro")
    assert done.returncode == 0 and "Running stage" not in done.stdout
    assert lock(clone) == first
    assert outdated(clone) == set()


@pytest.fixture(scope="module")
def chosen(clone, first):
    done = dvc(clone, "repro", "tuning/prob_scale/dvc.yaml", "tuning/regime/dvc.yaml")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_choice_of_settings_runs(clone, first, chosen):
    text = (clone / "results" / "tiny" / "choice" / "prob_scale" / "table.md").read_text()
    # of several tables the first
    scores = dict(reversed(re.findall(r"^\| `(\w+)` .* ([\d.]+) +\|$", text, re.MULTILINE)))
    chosen = re.search(r"^Chosen: (\w+)\.$", text, re.MULTILINE)[1]
    assert scores.keys() == {"x4", "x16"} and float(scores[chosen]) == max(map(float, scores.values()))
    text = (clone / "results" / "tiny" / "choice" / "regime" / "table.md").read_text()
    assert "`fewer`" in text and text.endswith("\nChosen: none, no candidate may be.\n")  # of 4 iterations
    assert lock(clone) == first
    study = "tuning/prob_scale/dvc.yaml:candidate@tiny-prob_scale-x4-0"
    assert fasa(clone, "plan", "--why", study).stdout == f"{study}: nothing that it depends on has changed\n"


def test_editing_a_row_affects_that_row_alone(clone, first):
    rows = yaml.load((clone / "params.yaml").read_text())["rows"]
    before = change(clone, rows=rows | dict(mask_rcnn_smote=dict(traits=["smote"], augmenter=dict(k=3))))
    assert dvc(clone, "repro", "plan").returncode == 0
    affected = outdated(clone)
    why = fasa(clone, "plan", "--why", "train@tiny-mask_rcnn_smote-0")
    (clone / "params.yaml").write_text(before)
    assert dvc(clone, "repro", "plan").returncode == 0
    assert affected == {
        "train@tiny-mask_rcnn_smote-0",
        "evaluate@tiny-mask_rcnn_smote-0",
        "cost@tiny-mask_rcnn_smote",
        "report@tiny",
    }
    assert why.stdout == "settings.run.augmenter.k: None -> 3\n", why.stderr


def test_a_mistake_stops_before_anything_is_lost(clone, first):
    tiny = yaml.load((clone / "params.yaml").read_text())["tiny"]
    before = change(clone, tiny=tiny | dict(warmup=dict(iterations=4, batch=2, rampe=2)))
    done = dvc(clone, "repro")
    (clone / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert (
        "error: params.yaml: tiny.warmup: Object contains unknown field `rampe`" in done.stdout + done.stderr
    )
    assert (clone / "runs/tiny/warmup/0.pth").exists() and (clone / "results/tiny/metrics.json").exists()
    assert dvc(clone, "repro").returncode == 0
    assert lock(clone) == first


def test_what_reaches_no_shell(clone, first, tmp_path):
    """Names and seeds of params.yaml stand in paths, never in a command."""
    target = tmp_path / "owned"
    before = change(clone, classify=CHOSEN["classify"] | dict(seeds=[f"0; touch {target} #"]))
    done = [
        dvc(clone, "repro", *stage) for stage in ((), ("-s", f"classify@tiny_digits-ce-0; touch {target} #"))
    ]
    (clone / "params.yaml").write_text(before)
    assert all(one.returncode for one in done) and not target.exists()
    assert dvc(clone, "repro").returncode == 0


def test_forced_run_gives_the_same_bytes(clone, first):
    stages = ["evaluate@tiny-mask_rcnn_fasa-0", "cluster@tiny-0"]
    done = dvc(clone, "repro", "--force", "--no-run-cache", *stages)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert lock(clone) == first


def test_a_report_of_the_same_is_the_same_bytes(clone, first):
    def written():
        paths = [*(clone / "results/tiny/report").iterdir(), *(clone / "results/tiny").glob("report.*")]
        return {path.name: path.read_bytes() for path in paths if path.is_file()}

    before = written()
    done = dvc(clone, "repro", "--force", "--no-run-cache", "--single-item", "report@tiny")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert written() == before and {"report.md", "report.html", "rare.svg"} <= before.keys()


# In a browser. Whether what is drawn pleases, no test can tell: look at it.


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def lab(clone, chosen, chromium, tmp_path_factory):
    """JupyterLab in the clone, whose ``scratch/notebooks`` name the tiny profile."""
    for path in sorted((clone / "notebooks").glob("*.ipynb")):
        text = path.read_text().replace("@embedded", "@tiny").replace("@glyphs", "@tiny_glyphs")
        (clone / "scratch" / "notebooks").mkdir(parents=True, exist_ok=True)
        (clone / "scratch" / "notebooks" / path.name).write_text(text)
    with browser.jupyterlab(clone, tmp_path_factory.mktemp("jupyter")) as url:
        yield browser.open_lab(chromium, url)


@pytest.fixture
def run(lab):
    """Runs a notebook's cells as a person does, to the end or not, and has no complaints; what it printed."""

    def run(name, whole=True):
        notebook = browser.run_all(lab, f"scratch/notebooks/{name}.ipynb")
        ran = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert whole == (None not in ran), browser.outputs(notebook, "stdout")
        complaints = browser.outputs(notebook, "error") + browser.outputs(notebook, "stderr")
        assert not complaints + browser.too_wide(lab)
        return "".join(browser.outputs(notebook, "stdout"))

    yield run
    browser.close(lab)


NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
ALONE = ["04_no_groups", "05_train", "20_explore_class"]  # below


@browser.needs_chromium
@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name not in ALONE])
def test_each_notebook_runs_by_hand(run, name):
    run(name)


@browser.needs_chromium
def test_what_is_missing_is_a_sentence_and_ends_the_run(run):
    said = run("04_no_groups", whole=False)  # of a profile that is not planned
    assert said.endswith(
        "cluster@lvis-0.json: no such job; run: dvc repro plan (dvc stage list --all names the stages)\n"
    )


DRAWN = "[...document.querySelectorAll('.jp-OutputArea-output img')].map(image => image.src)"


@browser.needs_chromium
def test_losses_are_drawn_anew_while_a_stage_trains(clone, run, lab):
    work = clone / ".fasa" / "train@tiny-mask_rcnn_fasa-0" / "0123"
    work.mkdir(parents=True)
    kept = (clone / "runs/tiny/losses/mask_rcnn_fasa-0.tsv").read_text()
    try:
        (work / "losses.tsv").write_text(kept)
        run("05_train")
        before, passes = lab.evaluate(DRAWN)
        (work / "losses.tsv").write_text(kept + kept.splitlines()[-1].replace("4", "8", 1) + "\n")
        lab.wait_for_function(f"before => {DRAWN}[0] != before", arg=before)
        more = lab.evaluate(DRAWN)[0]
    finally:
        shutil.rmtree(work)
    lab.wait_for_function(f"more => {DRAWN}[0] != more", arg=more)  # it has ended
    assert lab.evaluate(DRAWN)[1] == passes


@browser.needs_chromium
def test_a_class_is_chosen(run, lab):
    run("20_explore_class")
    before = lab.evaluate(DRAWN)
    assert len(before) == 7
    lab.select_option(".widget-dropdown select", index=1)
    lab.wait_for_function(f"before => {DRAWN}.every((drawn, i) => drawn != before[i])", arg=before)


@browser.needs_chromium
@pytest.mark.parametrize("report", ["tiny", "embedded"])
def test_no_table_of_a_report_is_cut_off(clone, first, chromium, report):
    page = chromium.new_page(viewport=dict(width=1280, height=900))
    page.goto(((clone if report == "tiny" else ROOT) / f"results/{report}/report.html").as_uri())
    tables = "[...document.querySelectorAll('.wide')].filter(one => one.querySelector('table'))"
    assert page.evaluate(f"{tables}.length") > 20
    assert (
        page.evaluate(
            f"{tables}.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
        )
        == []
    )
    page.close()


@browser.needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_the_report_fits_every_window(clone, first, chromium, width, scheme):
    context = chromium.new_context(viewport=dict(width=width, height=900), color_scheme=scheme)
    page, said, asked = context.new_page(), [], set()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.add(request.url.partition(":")[0]))
    page.goto((clone / "results/tiny/report.html").as_uri())
    assert not said and asked <= {"file", "data"}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.evaluate("[...document.images].map(one => [one.naturalWidth, one.alt])")
    assert len(images) > 12 and all(size and alt for size, alt in images)
    style = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    paper, ink = (sum(map(int, re.findall(r"\d+", colour))) for colour in page.evaluate(style))
    assert paper - ink > 500 if scheme == "light" else ink - paper > 500
    context.close()
