"""Repeat factor sampling: how often an epoch holds each image.

Source: Gupta et al., "LVIS", CVPR 2019, appendix B.2; the paper's RFS rows.

Shapes: I images, K classes.
"""

from collections.abc import Sequence

import numpy as np


def image_classes(annotations: dict) -> list[list[int]]:
    """Return the labels of each image's objects, in order of the file; labels follow the category ids."""
    ids = sorted(category["id"] for category in annotations["categories"])
    label = {one: place for place, one in enumerate(ids)}
    by_image: dict[int, list[int]] = {image["id"]: [] for image in annotations["images"]}
    for annotation in annotations["annotations"]:
        by_image[annotation["image_id"]].append(label[annotation["category_id"]])
    return list(by_image.values())


def _presence(images: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Image and class of each pair that occurs, once: two arrays (P,)."""
    rows = np.repeat(np.arange(len(images)), [len(classes) for classes in images])
    columns = np.array([one for classes in images for one in classes], dtype=np.int64)
    return tuple(np.unique(np.stack([rows, columns]), axis=1))


def repeat_factors(images: Sequence[Sequence[int]], num_classes: int, threshold: float) -> np.ndarray:
    """Return each image's repeat factor, (I,) float64, >= 1.

    r(I) = max over its classes c of max(1, sqrt(t / f_c)), with f_c the fraction of images that hold c.
    An image without objects has 1.

    Args:
        images: labels in [0, K) of each image's objects; repeats count once.
        num_classes: K.
        threshold: t, the fraction of images below which a class is repeated; LVIS: 1e-3.
    """
    image, label = _presence(images)
    held_by = np.bincount(label, minlength=num_classes)
    factors = np.ones(len(images))
    np.maximum.at(factors, image, np.sqrt(threshold / (held_by[label] / len(images))))
    return factors


def by_frequency(
    factors: np.ndarray, images: Sequence[Sequence[int]], frequencies: Sequence[str]
) -> dict[str, float]:
    """Return how often a group's classes are repeated: "r", "c" and "f" to a mean repeat factor.

    The mean over the classes of a group of the mean factor of the images that hold the class. Classes in no
    image do not count; NaN for a group of no others.

    Args:
        factors: (I,), of `repeat_factors`.
        images: labels of each image's objects.
        frequencies: each class's group, (K,); see `fasa.data.lvis.frequencies`.
    """
    image, label = _presence(images)
    held_by = np.bincount(label, minlength=len(frequencies))
    total = np.bincount(label, factors[image], minlength=len(frequencies))
    groups = np.array(frequencies)
    means = {}
    for group in "rcf":
        seen = (groups == group) & (held_by > 0)
        means[group] = float((total[seen] / held_by[seen]).mean()) if seen.any() else float("nan")
    return means
