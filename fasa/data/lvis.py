"""Annotation files in the format of LVIS v1: reading, counting, and checking that the images are there."""

import json
from pathlib import Path

import numpy as np

from fasa.data import source
from fasa.errors import UserError

MEND = "run: dvc repro data"
KEYS = {
    "images": {"id", "coco_url", "width", "height", "neg_category_ids", "not_exhaustive_category_ids"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "segmentation"},
    "categories": {"id", "name", "frequency", "image_count", "instance_count"},
}


def read_annotations(path: str | Path, *, train: bool = False) -> dict:
    """Read an annotation file, categories in order of their ids.

    Args:
        path: the JSON file.
        train: whether to learn from it, which takes instances of every category.

    Raises:
        UserError: a file that is missing, cut off or incomplete.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {MEND}") from None
    except ValueError as error:  # JSON's and Unicode's
        raise UserError(f"{path}: cut off or not JSON ({error}); delete it and {MEND}") from None
    for section, keys in KEYS.items():
        if not isinstance(content, dict) or not isinstance(content.get(section), list):
            raise UserError(f"{path}: has no list of {section}; delete it and {MEND}")
        for place, entry in enumerate(content[section]):
            if missing := keys - entry.keys():
                raise UserError(
                    f"{path}: {section}[{place}] lacks {', '.join(sorted(missing))}; delete it and {MEND}"
                )
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        if unknown := {a[key] for a in content["annotations"]} - {entry["id"] for entry in content[section]}:
            raise UserError(
                f"{path}: annotations name {key} {min(unknown)}, which is not in {section}; {MEND}"
            )
    content["categories"].sort(key=lambda category: category["id"])
    if train and not (counts := instance_counts(content)).all():
        empty = [
            category["name"] for category, n in zip(content["categories"], counts, strict=True) if n == 0
        ]
        raise UserError(
            f"{path}: no instances of {', '.join(empty[:5])} ({len(empty)} in all), so nothing to learn from"
        )
    return content


def instance_counts(annotations: dict) -> np.ndarray:
    """Return the number of instances of each category, (K,) int64, in order of category id."""
    ids = np.array(sorted(category["id"] for category in annotations["categories"]))
    labels = np.searchsorted(ids, np.array([a["category_id"] for a in annotations["annotations"]], np.int64))
    return np.bincount(labels, minlength=len(ids))


def frequencies(annotations: dict) -> list[str]:
    """Return each category's group in train, "r" (up to 10 images), "c" (up to 100) or "f", by id."""
    return [category["frequency"] for category in sorted(annotations["categories"], key=lambda c: c["id"])]


def image_path(root: str | Path, image: dict) -> Path:
    """Return where an image lies below the data folder: the path in its ``coco_url``, as mmdet reads it."""
    return Path(root, image["coco_url"].removeprefix("http://images.cocodataset.org/"))


def check_images(root: str | Path, annotations: dict) -> None:
    """Check that every annotated image is there.

    Raises:
        UserError: images are missing; names the first.
    """
    missing = [path for image in annotations["images"] if not (path := image_path(root, image)).is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing, with {len(missing) - 1} other images; {MEND}")


def checked_annotations(data: Path, part: str) -> dict:
    """The annotations of a part of a prepared data set, which are complete and whose images are there.

    Args:
        data: the folder.
        part: "train", "adapt" or "val"; of train every category has an instance.
    """
    annotations = read_annotations(data / "annotations" / f"{part}.json", train=part == "train")
    check_images(source(data).images, annotations)
    return annotations
