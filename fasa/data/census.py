"""What a prepared data set holds, small enough to commit: what reports say of classes without the images."""

import json
from typing import Any

import numpy as np

from fasa.data import lvis
from fasa.data.repeat_factors import by_frequency, image_classes, repeat_factors

THRESHOLDS = (1e-3, 0.01, 0.03, 0.1)  # of repeat factor sampling, the first LVIS's


def census(annotations: dict[str, dict]) -> dict[str, Any]:
    """Count a data set.

    Args:
        annotations: of each part, "train" among them, as `lvis.read_annotations` reads them.

    Returns:
        Plain data. classes: of each, in the order of ids, name, shown (how a figure writes it), frequency,
        the images of train that hold it, its objects in each part, and what is known of look-alikes. images:
        the number of each part. repeats: by threshold, how often images of "r", "c" and "f" classes are
        repeated, exact and rounded up, None where there are none.
    """
    train = annotations["train"]
    names = {category["id"]: category["name"] for category in train["categories"]}
    objects = {part: lvis.instance_counts(content).tolist() for part, content in annotations.items()}
    classes = []
    for k, category in enumerate(train["categories"]):
        counted = dict(images=category["image_count"]) | {part: one[k] for part, one in objects.items()}
        classes.append(_heading(category) | counted | _truths(category, names))
    images, frequencies = image_classes(train), lvis.frequencies(train)
    repeats = {}
    for threshold in THRESHOLDS:
        factors = repeat_factors(images, len(classes), threshold)
        both = (by_frequency(one, images, frequencies) for one in (factors, np.ceil(factors)))
        repeats[f"{threshold:g}"] = [
            {group: None if value != value else value for group, value in one.items()} for one in both
        ]
    return dict(
        images={part: len(content["images"]) for part, content in annotations.items()},
        repeats=repeats,
        classes=classes,
    )


def group_text(
    settings: dict[str, Any],
    categories: list[dict],
    groups: np.ndarray,
    places: np.ndarray,
    points: np.ndarray,
) -> str:
    """What was clustered, and into which groups, as JSON with a line for each class.

    Args:
        settings: of the grouping.
        categories: the classes, K.
        groups: of each class, (K,).
        places, points: where it lies, (K, D) as it was clustered, and (K, 2) in a plane to look at.
    """
    names = {category["id"]: category["name"] for category in categories}
    classes = []
    for category, group, place, point in zip(categories, groups, places, points, strict=True):
        one = _heading(category) | dict(group=int(group)) | _truths(category, names)
        classes.append(one | dict(point=_rounded(point), place=_rounded(place)))
    return _text(dict(settings=settings), classes)


def _heading(category: dict) -> dict[str, str]:
    """A class's name, how a figure writes it, and its frequency."""
    shown = category.get("synonyms", [category["name"]])[0]
    return dict(name=category["name"], shown=shown, frequency=category["frequency"])


def _truths(category: dict, names: dict[int, str]) -> dict[str, str | None]:
    """What a rendered set knows: what looks alike, and what is often seen together, by its name."""
    if "base" not in category:
        return {}
    return dict(base=category["base"], cooccurs_with=names.get(category["cooccurs_with"]))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def text(census: dict[str, Any]) -> str:
    """As JSON, a line for each class."""
    rest = dict(census)
    return _text(rest, rest.pop("classes"))


def _text(rest: dict[str, Any], classes: list[dict]) -> str:
    lines = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in classes)
    return f'{json.dumps(rest, indent=1)[:-2]},\n "classes": [\n  {lines}\n ]\n}}\n'
