"""Glyphs to classify, one an image, long-tailed and rendered from a seed: they stand in for CIFAR-100-LT.

They look as in `scenes`: in one of twelve faces, at a random size, place and angle (up to 20 degrees), in
random colours, over a textured ground. Some classes are look-alikes, such as a letter and its accented form.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from fasa.data import alphabet
from fasa.data.images import LongTailed, Split, exponential_counts, whole
from fasa.data.scenes import paint
from fasa.errors import UserError

FINE = 4  # images are painted so many times larger and averaged: strokes get thinner than pixels


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the data set is made of.

    Args:
        classes: K, at most the size of `alphabet.pool`.
        image_size: side of the square images, in pixels.
        object_size: smallest and largest side of a glyph before it is turned, in pixels.
        n_max: train images of the most frequent class.
        ratio: of the most frequent to the rarest, see `exponential_counts`.
        adapt: images of every class in adapt.
        test: images of every class in test.

    Raises:
        UserError: settings that cannot be met.
    """

    classes: int = 100
    image_size: int = 16
    object_size: list = field(default_factory=lambda: [10, 14])
    n_max: int = 100
    ratio: float = 100
    adapt: int = 10
    test: int = 20

    def __post_init__(self):
        whole(2, classes=self.classes)
        whole(8, image_size=self.image_size)
        whole(1, n_max=self.n_max, adapt=self.adapt, test=self.test)
        exponential_counts(self.n_max, self.classes, self.ratio)
        if not isinstance(self.object_size, list | tuple) or len(self.object_size) != 2:
            raise UserError("data.object_size: must be [smallest, largest]")
        smallest, largest = self.object_size
        whole(6, object_size=smallest)
        whole(smallest, object_size=largest)
        # A turned square needs up to 1.28 times its side. What does not fit is drawn again, so some must.
        if smallest > 0.75 * self.image_size or largest > self.image_size:
            raise UserError(
                f"data.object_size: the smallest must be at most 3/4 of data.image_size, {self.image_size}, "
                "and the largest at most all of it"
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
        picture, _ = paint([characters[label]], size, sides, np.random.default_rng(child))
        image[:] = Image.fromarray(picture).reduce(FINE)
    return Split(images, labels)
