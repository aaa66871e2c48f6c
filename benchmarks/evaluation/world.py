"""What the generator draws: classes, then images with their objects, then a detector's guesses."""

from typing import NamedTuple

import numpy as np
from shapes import BLOB, WAVE

GROUPS = {"f": (405, 2000, 101), "c": (461, 100, 11), "r": (337, 10, 1)}
"""How many of LVIS's 1,203 classes, and the number of training images of the first and the last of them."""

SIZES = np.array([(480, 640), (427, 640), (640, 480), (375, 500)])  # height, width
MOST_CLASSES, ABSENT = 16, 11  # present in an image, at most; listed as absent, on average
TAIL = 1.25  # a class that is present has n or more objects in n^-TAIL of its images
MOST_OBJECTS = 300  # of a class in an image
NEAR, LISTED = (
    0.45,
    0.2,
)  # shares of detections at an object, and of guessed classes that are on the image's lists
FOUND = {"f": 0.6, "c": 0.45, "r": 0.2}  # how often the class of an object's first detection is right


class Classes(NamedTuple):
    """Classes 0 to K - 1, in random order."""

    frequency: np.ndarray  # (K,) "r", "c" or "f"
    image_count: np.ndarray  # (K,) in an imagined training set

    @property
    def prior(self) -> np.ndarray:
        """How often each appears, (K,), of sum 1."""
        return self.image_count / self.image_count.sum()


class Images(NamedTuple):
    """I images and their G objects, objects in order of image."""

    sizes: np.ndarray  # (I, 2) height, width
    present: list[np.ndarray]  # the classes shown
    absent: list[np.ndarray]  # classes known not to be shown
    not_exhaustive: list[np.ndarray]  # classes of which more may be shown than annotated
    image: np.ndarray  # (G,)
    label: np.ndarray  # (G,)
    blobs: np.ndarray  # (G,)


class Guesses(NamedTuple):
    """N detections in order of image, then from the best score to the worst."""

    image: np.ndarray  # (N,)
    label: np.ndarray  # (N,)
    score: np.ndarray  # (N,) as float32 has them
    blobs: np.ndarray  # (N,)


def draw_classes(rng: np.random.Generator, n: int) -> Classes:
    """Draws n classes in LVIS's proportions, their image counts falling like a power of the rank."""
    bounds = np.rint(n * np.cumsum([0, *(size for size, _, _ in GROUPS.values())]) / 1203).astype(int)
    sizes = dict(zip(GROUPS, np.diff(bounds), strict=True))
    order = rng.permutation(n)
    counts = [np.geomspace(most, least, sizes[group]) for group, (_, most, least) in GROUPS.items()]
    frequency = np.repeat(list(sizes), list(sizes.values()))
    return Classes(frequency[order], np.rint(np.concatenate(counts)).astype(int)[order])


def draw_images(rng: np.random.Generator, classes: Classes, n: int) -> Images:
    """Draws n images and their objects."""
    n_classes, prior = len(classes.frequency), classes.prior
    sizes = rng.choice(SIZES, n, p=[0.45, 0.3, 0.2, 0.05])
    n_present = np.minimum(1 + rng.negative_binomial(2, 2 / 4.4, n), MOST_CLASSES)
    n_present[rng.random(n) < 0.01] = 0
    present = [rng.choice(n_classes, k, replace=False, p=prior) for k in n_present]
    absent = []
    for shown, k in zip(present, np.maximum(rng.poisson(ABSENT, n), 1), strict=True):
        others = rng.choice(n_classes, min(len(shown) + k, n_classes), replace=False)
        absent.append(others[~np.isin(others, shown)][:k])
    not_exhaustive = [shown[rng.random(len(shown)) < 0.15] for shown in present]

    cells = n_present.sum()
    evenly = (rng.permutation(cells) + 1 - rng.random(cells)) / max(
        cells, 1
    )  # in (0, 1], one in each 1 / cells
    n_objects = np.minimum(evenly ** (-1 / TAIL), MOST_OBJECTS).astype(int)
    image = np.repeat(np.repeat(np.arange(n), n_present), n_objects)
    crowd = np.repeat(n_objects, n_objects)
    label = np.repeat(np.concatenate([np.zeros(0, int), *present]), n_objects)
    return Images(sizes, present, absent, not_exhaustive, image, label, draw_blobs(rng, sizes[image], crowd))


def draw_blobs(rng: np.random.Generator, sizes: np.ndarray, crowd: np.ndarray | int = 1) -> np.ndarray:
    """Draws a blob inside each image, (N,): half of them below 32^2 pixels, a sixth above 96^2.

    Args:
        rng: the source of randomness.
        sizes: (N, 2) height, width.
        crowd: how many objects of its class the image shows; many are small.
    """
    n = len(sizes)
    height, width = sizes.T
    blobs = np.empty(n, BLOB)
    side = np.exp(rng.normal(np.log(50), 1, n)) * np.power(crowd, -0.2) / np.sqrt(np.pi)
    stretch = np.exp(rng.normal(0, 0.3, n))
    blobs["a"] = np.clip(side * stretch, 2, 0.48 * width)
    blobs["b"] = np.clip(side / stretch, 2, 0.4 * height)
    half = (1 + WAVE) * blobs["b"]
    steepest = np.minimum((height / 2 - half) / blobs["a"], 1)
    blobs["slant"] = np.clip(rng.normal(0, 0.3, n), -steepest, steepest)
    half += np.abs(blobs["slant"]) * blobs["a"]
    blobs["x"] = blobs["a"] + rng.random(n) * (width - 2 * blobs["a"])
    blobs["y"] = half + rng.random(n) * (height - 2 * half)
    blobs["top"], blobs["bottom"] = rng.uniform(0, 2 * np.pi, (2, n))
    return blobs


def draw_guesses(rng: np.random.Generator, classes: Classes, images: Images, least: int) -> Guesses:
    """Draws `least` to `least` + 10 detections of each image.

    The objects of an image take turns until NEAR of its detections are spent: an object's first is close and
    often of the right class and a good score, its others are neither. The rest lie anywhere.
    """
    n_images = len(images.sizes)
    n_guesses = rng.integers(least, least + 11, n_images)
    image = np.repeat(np.arange(n_images), n_guesses)
    n = len(image)
    place = np.arange(n) - np.repeat(np.cumsum(n_guesses) - n_guesses, n_guesses)
    n_objects = np.bincount(images.image, minlength=n_images)
    near = np.flatnonzero((place < NEAR * n_guesses[image]) & (n_objects[image] > 0))
    mine = image[near]
    target = (np.cumsum(n_objects) - n_objects)[mine] + place[near] % n_objects[mine]
    first = place[near] < n_objects[mine]

    label = _guess_labels(rng, classes, images, image)
    found = np.array([FOUND[group] for group in classes.frequency])[images.label[target]]
    right = rng.random(len(near)) < np.where(first, found, found / 5)
    label[near[right]] = images.label[target[right]]
    logit = np.full(n, -5.0)
    logit[near] = np.where(first, np.where(right, 0.0, -1.5), -4.0)
    score = (1 / (1 + np.exp(-rng.normal(logit, 1.5)))).astype(np.float32).astype(float)

    blobs = draw_blobs(rng, images.sizes[image])
    blobs[near] = _jittered(rng, images.blobs[target], np.where(first, 0.15, 0.35))
    blobs["x"] = np.clip(blobs["x"], 2, images.sizes[image, 1] - 2)
    blobs["y"] = np.clip(blobs["y"], 2, images.sizes[image, 0] - 2)
    order = np.lexsort((-score, image))
    return Guesses(image, label[order], score[order], blobs[order])


def _guess_labels(
    rng: np.random.Generator, classes: Classes, images: Images, image: np.ndarray
) -> np.ndarray:
    """Draws classes, (N,): some from the lists of their image, where they count, the others by frequency."""
    lists = [np.concatenate(pair) for pair in zip(images.present, images.absent, strict=True)]
    length = np.array([len(one) for one in lists])
    listed = np.concatenate(lists)[
        (np.cumsum(length) - length)[image] + (rng.random(len(image)) * length[image]).astype(int)
    ]
    anything = rng.choice(len(classes.frequency), len(image), p=classes.prior)
    return np.where(rng.random(len(image)) < LISTED, listed, anything)


def _jittered(rng: np.random.Generator, blobs: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Moves and stretches each blob by a share of its size that is exponential with mean `typical`, (N,)."""
    blobs = blobs.copy()
    share = typical * rng.exponential(size=len(blobs)) * rng.normal(size=(7, len(blobs)))
    blobs["x"] += share[0] * blobs["a"]
    blobs["y"] += share[1] * blobs["b"]
    blobs["a"] = np.maximum(blobs["a"] * np.exp(share[2]), 2)
    blobs["b"] = np.maximum(blobs["b"] * np.exp(share[3]), 2)
    blobs["slant"] = np.clip(blobs["slant"] + share[4], -1, 1)
    blobs["top"] += 5 * share[5]
    blobs["bottom"] += 5 * share[6]
    return blobs
