"""What was trained on what: the set-up of a profile, in words."""

from typing import Any

from fasa.report.figures import FREQUENCY
from fasa.report.tables import seeds

DOCS = "../../docs"  # from the folder of a report


def text(census: dict[str, Any], settings: dict[str, Any]) -> str:
    """Data, training, seeds, and what was chosen, in Markdown.

    Args:
        census: of the data set, see `fasa.data.census`.
        settings: of the stage ``report``.
    """
    profile, classes, images = settings["profile"], census["classes"], census["images"]
    job = next(iter(settings["jobs"].values()))
    groups = [
        (name, [one for one in classes if one["frequency"] == letter]) for letter, name in FREQUENCY.items()
    ]
    sizes = ", ".join(f"{len(mine)} {name}" for name, mine in groups)
    objects = ", ".join(f"{sum(one['val'] for one in mine):,} of {name}" for name, mine in groups)
    warmup = "warms up by itself" if job["own_warmup"] else "goes on from a warm-up that all rows share"
    pretrained = job["weights"] or job["pretrained"]
    parts = [
        f"Profile `{profile}`: {len(classes):,} classes, {sizes}. Rows train on {images['train']:,} images; "
        f"FASA adapts on {images['adapt']:,} others (`adapt`); all numbers are of {images['val']:,} more "
        f"(`val`), which hold {objects} classes.",
        f"A row {warmup} and trains {_length(job['train'])} of {job['train']['batch']} images, "
        + (f"from pretrained weights (`{pretrained}`), " if pretrained else "")
        + f"by {_optimizer(job['optimizer'])}. Models are in `configs/{job['configs']}`.",
        f"{seeds(len(settings['seeds'])).capitalize()}: another order of the images and other weights where "
        "training begins; the data are the same, and what all rows of a seed share is.",
    ]
    if census.get("leaky"):
        parts.append("**Leaky**: `adapt` has images of `val`, so what is reported of FASA flatters it.")
    if "tune" in images:
        parts.append(
            f"Settings were chosen on {images['tune']:,} images of `tune`, by rules that stood first: the "
            "optimizer by the baselines alone, so that their rare classes fare, beside the frequent ones, as "
            "on LVIS; then FASA's `prob_scale`, which says how many virtual samples are drawn. Nothing was "
            "chosen on `val`. The methods that FASA stands beside have their papers' numbers and were not "
            "tuned so: comparisons with them favour FASA."
        )
    listed = "\n".join(f"- {part}" for part in parts)
    return f"{listed}\n\nMore: [how far to trust it]({DOCS}/how-far-to-trust.md)."


def _length(schedule: dict[str, Any]) -> str:
    if schedule["iterations"]:
        return f"{schedule['iterations']:,} iterations"
    return f"{schedule['epochs']} epochs"


def _optimizer(optimizer: dict[str, Any]) -> str:
    text = f"{optimizer['type']} (learning rate {optimizer['lr']:g})"
    if classifier := optimizer["classifier"]:
        text += f", its classifier alone by {_optimizer(classifier)}"
    return text
