"""What was trained on what: the set-up of a profile, in words, and how to vary it."""

from collections.abc import Iterator
from typing import Any

from fasa.report.defaults import default
from fasa.report.figures import FREQUENCY
from fasa.report.tables import markdown, seeds

ROW = "mask_rcnn_fasa"
DOCS = "../../docs"  # from the folder of a report
STUDIES = dict(
    regime="the optimizer, by the baselines alone, so that their rare classes fare, beside frequent ones, as "
    "nearly as on LVIS as a candidate made them",
    prob_scale="FASA's `prob_scale`, which says how many virtual samples are drawn",
)
BY_HAND = (
    "Before that, scenes, tail and schedule had been set by hand until frequent classes were learnt and rare "
    "ones were not. An easier regime before these, in which FASA gained nothing on top of RFS, was given up."
)
STUDIED = {  # what a study has drawn, what a reader who does not see it should know, and a key to it
    "regime/levers": (
        "AP of rare and of frequent classes on tune under each candidate of the optimizer.",
        "`adamw`: for all parameters; `classifier_N`: SGD for the classifier alone, its rate N thousandths; "
        "`all_20`: SGD for all; `adamw_random`: without pretraining; `shorter_rows`: as `classifier_6`, but "
        "more of the iterations in the warm-up.",
    ),
    "prob_scale/curve": ("Mask AP on tune over FASA's prob_scale, of all classes and of rare ones.", ""),
}
KINDS = dict(
    glyphs="scenes of {objects[0]} to {objects[1]} coloured characters, {image_size} pixels wide, rendered "
    "from fonts; a class is a character",
    lvis_v1="photos of LVIS v1",
    coco="photos with annotations in the style of COCO or LVIS",
)


def text(census: dict[str, Any], settings: dict[str, Any]) -> str:
    """Data, training, seeds, and what was chosen, in Markdown.

    Args:
        census: of the data set, see `fasa.data.census`.
        settings: of the stage ``report``.
    """
    classes, images, data = census["classes"], census["images"], settings["data"]
    groups = {
        name: [one for one in classes if one["frequency"] == letter] for letter, name in FREQUENCY.items()
    }
    what = KINDS.get(data["kind"], data["kind"]).format_map(data)
    parts = [
        f"Profile `{settings['profile']}`: {what}. Rows train on `train`, FASA adapts its probabilities on "
        "`adapt`, all numbers are of `val`. Adaptation sees labels that the other rows make no use of "
        f"({_rare('adapt', groups)} objects of rare classes, where `train` has {_rare('train', groups)}).",
        *_training(settings["jobs"]),
        f"{seeds(len(settings['seeds'])).capitalize()}: each with another order of the images and other "
        "weights in all layers that are not pretrained; data and pretrained weights are the same. Tables "
        "have the mean ± standard deviation over n seeds, and gains, of unrounded numbers, over seeds that "
        "both rows have.",
    ]
    if census.get("leaky"):
        parts.append("**Leaky**: `adapt` has images of `val`, so what is reported of FASA flatters it.")
    if settings["studies"] and "tune" in images:
        chosen = "; ".join(STUDIES.get(study, f"`{study}`") for study in settings["studies"])
        parts.append(
            f"Chosen on `tune`, by rules that stood first: {chosen}. Nothing was chosen on `val`. The "
            "methods that FASA stands beside have their papers' numbers and were not tuned so: comparisons "
            "with them favour FASA."
        )
    if "regime" in settings["studies"]:
        parts.append(BY_HAND)
    listed = "\n".join(f"- {part}" for part in parts)
    rows = [
        [
            f"`{part}`",
            f"{images[part]:,}",
            *(f"{sum(one[part] for one in mine):,}" for mine in groups.values()),
        ]
        for part in images
    ]
    names = [f"objects of {len(mine):,} {name} classes" for name, mine in groups.items()]
    table = markdown(["part", "images", *names], rows)
    return f"{listed}\n\n{table}\n\nMore: [how far to trust it]({DOCS}/how-far-to-trust.md)."


def _rare(part: str, groups: dict[str, list[dict]]) -> str:
    return f"{sum(one[part] for one in groups[FREQUENCY['r']]):,}"


def _training(jobs: dict[str, dict]) -> Iterator[str]:
    """How the first row trains, how many others do otherwise, and what FASA takes."""
    row, job = next(iter(jobs.items()))
    pretrained = job["weights"] or job["pretrained"]
    parts = [
        f"Row `{row}`",
        f"starts from pretrained weights (`{pretrained}`)," if pretrained else "starts anew,",
    ]
    if job["warmup"]:
        parts.append(f"takes a warm-up of {_length(job['warmup'])} that rows of a seed share,")
    precision = "bfloat16" if "bfloat16" in job["traits"] else "float32"
    parts.append(f"and trains for {_length(job['train'])} by {_optimizer(job['optimizer'])}, in {precision}.")
    if own := sum(bool(one["own_warmup"]) for one in jobs.values()):
        parts.append(
            f"{own} of {len(jobs)} rows, of another network, loss, optimizer or moments, warm up alone."
        )
    yield " ".join([*parts, f"Models are in `configs/{job['configs']}`."])
    told = []
    if fasa := jobs.get(ROW):
        often = f"every {fasa['adapt_every']} iterations" if fasa["adapt_every"] else "after every epoch"
        told.append(f"FASA has a `prob_scale` of {_prob_scale(fasa):g} and adapts {often}")
    if rfs := next((one["traits"]["rfs"] for one in jobs.values() if "rfs" in one["traits"]), None):
        told.append(f"RFS has a threshold of {rfs['threshold']:g}")
    if told:
        yield f"{'; '.join(told)}."


def _prob_scale(job: dict[str, Any]) -> float:
    return job["augmenter"].get("prob_scale", default("FASA", "prob_scale"))


def _length(schedule: dict[str, Any]) -> str:
    length = (
        f"{schedule['iterations']:,} iterations" if schedule["iterations"] else f"{schedule['epochs']} epochs"
    )
    return f"{length} in batches of {schedule['batch']}"


def _optimizer(optimizer: dict[str, Any]) -> str:
    text = f"{optimizer['type']} (learning rate {optimizer['lr']:g})"
    if classifier := optimizer["classifier"]:
        text += f", its classifier alone by {_optimizer(classifier)}"
    return text


def variation(settings: dict[str, Any]) -> str:
    """The commands that run FASA with half its `prob_scale`, in Markdown."""
    profile = settings["profile"]
    if ROW not in settings["jobs"]:
        return f"`{ROW}` is none of the rows that run here."
    scale = _prob_scale(settings["jobs"][ROW])
    return f"""```bash
make .venv/.ready && source .venv/bin/activate
dvc exp run -S +rows.{ROW}.augmenter.prob_scale={scale / 2:g} evaluate@{profile}-{ROW}-{settings["seeds"][0]}
dvc metrics diff
```

`prob_scale` was {scale:g}, under `{profile}.traits.fasa`: about half as many virtual samples are drawn now.
The `+` adds a key to this row alone. The last line shows AP of masks and boxes in the last commit and now,
of one seed: less than a point is noise, and [the set-up](#the-set-up) shows how little so small a change
does. `fasa run report@{profile}` writes this page anew; `git restore .` and `dvc checkout` go back. Three
seeds, grids in the queue, and how to keep the best:
[explore and vary]({DOCS}/explore-and-vary.md)."""
