"""What was trained on what: the set-up of a profile, in words, and how to vary it."""

from typing import Any

from fasa.report.figures import FREQUENCY
from fasa.report.tables import seeds

DOCS = "../../docs"  # from the folder of a report
STUDIES = dict(
    regime="the optimizer, by the baselines alone, so that their rare classes fare, beside frequent ones, as"
    " on LVIS",
    prob_scale="FASA's `prob_scale`, which says how many virtual samples are drawn",
)


def text(census: dict[str, Any], settings: dict[str, Any]) -> str:
    """Data, training, seeds, and what was chosen, in Markdown.

    Args:
        census: of the data set, see `fasa.data.census`.
        settings: of the stage ``report``.
    """
    classes, images = census["classes"], census["images"]
    groups = [
        (name, [one for one in classes if one["frequency"] == letter]) for letter, name in FREQUENCY.items()
    ]
    sizes = ", ".join(f"{len(mine)} {name}" for name, mine in groups)
    objects = ", ".join(f"{sum(one['val'] for one in mine):,} of {name}" for name, mine in groups)
    parts = [
        f"Profile `{settings['profile']}`: {len(classes):,} classes, {sizes}. Rows train on "
        f"{images['train']:,} images; FASA adapts on {images['adapt']:,} (`adapt`); all numbers are of "
        f"{images['val']:,} (`val`; objects: {objects} classes).",
        _training(settings["jobs"]),
        f"{seeds(len(settings['seeds'])).capitalize()}: each with another order of the images and other "
        "weights where training begins, but the same data and pretrained weights.",
    ]
    if census.get("leaky"):
        parts.append("**Leaky**: `adapt` has images of `val`, so what is reported of FASA flatters it.")
    if settings["studies"] and "tune" in images:
        chosen = "; ".join(STUDIES.get(study, f"`{study}`") for study in settings["studies"])
        parts.append(
            f"Chosen on {images['tune']:,} images of `tune`, by rules that stood first: {chosen}. Nothing "
            "was chosen on `val`. The methods that FASA stands beside have their papers' numbers and were "
            "not tuned so: comparisons with them favour FASA."
        )
    listed = "\n".join(f"- {part}" for part in parts)
    return f"{listed}\n\nMore: [how far to trust it]({DOCS}/how-far-to-trust.md)."


def _training(jobs: dict[str, dict]) -> str:
    """How the first row trains, and how many others do otherwise."""
    row, job = next(iter(jobs.items()))
    pretrained = job["weights"] or job["pretrained"]
    parts = [
        f"Row `{row}`",
        f"starts from pretrained weights (`{pretrained}`)," if pretrained else "starts anew,",
    ]
    if job["warmup"]:
        parts.append(f"takes a warm-up of {_length(job['warmup'])} that rows of a seed share,")
    parts.append(f"and trains for {_length(job['train'])} by {_optimizer(job['optimizer'])}.")
    if own := sum(bool(one["own_warmup"]) for one in jobs.values()):
        parts.append(
            f"{own} of {len(jobs)} rows, of another network, loss or optimizer, warm up by themselves."
        )
    return " ".join([*parts, f"Models are in `configs/{job['configs']}`."])


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
    """The commands that run FASA with half as many virtual samples, in Markdown."""
    row, profile = "mask_rcnn_fasa", settings["profile"]
    if row not in settings["jobs"]:
        return f"`{row}` is none of the rows that run here."
    half = settings["jobs"][row]["augmenter"].get("prob_scale", 1) / 2
    return f"""```bash
make .venv/.ready && source .venv/bin/activate
dvc exp run -S +rows.{row}.augmenter.prob_scale={half:g} evaluate@{profile}-{row}-{settings["seeds"][0]}
dvc metrics diff
```

The last line shows AP of masks and boxes before and after; `fasa run report@{profile}` writes this page anew.
Three seeds, grids in the queue, and how to keep the best: [explore and vary]({DOCS}/explore-and-vary.md)."""
