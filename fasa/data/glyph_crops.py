"""Glyphs to classify, one an image, long-tailed and rendered from a seed: they stand in for CIFAR-100-LT.

They look as in `scenes`: in one of twelve faces, at a random size, place and angle (up to 20 degrees), in
random colours, over a textured ground. Some classes are look-alikes, such as a letter and its accented form.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta
from PIL import Image

from fasa.data import alphabet
from fasa.data.images import LongTailed, Ratio, Split, exponential_counts
from fasa.data.scenes import Thing, paint
from fasa.sections import Section

FINE = 4  # images are painted so many times larger and averaged: strokes get thinner than pixels


Number = Annotated[int, Meta(ge=1, le=10_000)]
Side = Annotated[int, Meta(ge=6, le=1024)]  # pixels


class Settings(Section, tag_field="kind", tag="glyphs"):
    """What the data set is made of.

    Args:
        classes: K, at most the size of `alphabet.pool`.
        image_size: side of the square images, in pixels.
        object_size: smallest and largest side of a glyph before it is turned, in pixels.
        n_max: train images of the most frequent class.
        ratio: of the most frequent to the rarest, see `exponential_counts`.
        adapt: images of every class in adapt.
        test: images of every class in test.
    """

    classes: Annotated[int, Meta(ge=2, le=10_000)] = 100
    image_size: Annotated[int, Meta(ge=8, le=1024)] = 16
    object_size: tuple[Side, Side] = (10, 14)
    n_max: Number = 100
    ratio: Ratio = 100
    adapt: Number = 10
    test: Number = 20

    def __post_init__(self):
        exponential_counts(self.n_max, self.classes, self.ratio)
        smallest, largest = self.object_size
        # A turned square needs up to 1.28 times its side. What does not fit is drawn again, so some must.
        if not smallest <= largest <= self.image_size or smallest > 0.75 * self.image_size:
            raise ValueError(
                f"object_size must be [smallest, largest], at most 3/4 and 1 of image_size, {self.image_size}"
            )


def load(settings: Settings, seed: int) -> LongTailed:
    """Render the data set: train with `exponential_counts`, adapt and test balanced.

    Same arguments, same bytes: every image is drawn from a seed of its own. Which characters are classes and
    which of them are rare is drawn too.

    Raises:
        UserError: more classes than there are characters.
    """
    plan, *seeds = np.random.SeedSequence(seed).spawn(4)
    rng = np.random.default_rng(plan)
    characters = rng.permutation(alphabet.choose(settings.classes, rng)).tolist()
    balanced = np.ones(settings.classes, np.int64)
    counts = (
        exponential_counts(settings.n_max, settings.classes, settings.ratio),
        settings.adapt * balanced,
        settings.test * balanced,
    )
    parts = (_render(characters, n, settings, child) for n, child in zip(counts, seeds, strict=True))
    names = [alphabet.class_name(character) for character in characters]
    return LongTailed(*parts, names, flip=False)  # mirrored, b is d


def _render(
    characters: list[str], counts: np.ndarray, settings: Settings, seed: np.random.SeedSequence
) -> Split:
    labels = np.repeat(np.arange(len(counts)), counts)
    size, sides = FINE * settings.image_size, [FINE * side for side in settings.object_size]
    images = np.empty((len(labels), settings.image_size, settings.image_size, 3), np.uint8)
    for image, label, child in zip(images, labels, seed.spawn(len(labels)), strict=True):
        picture, _ = paint([Thing(characters[label])], size, sides, np.random.default_rng(child))
        image[:] = Image.fromarray(picture).reduce(FINE)
    return Split(images, labels)
