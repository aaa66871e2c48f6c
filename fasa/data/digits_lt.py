"""Handwritten digits with a long tail: real images that come with scikit-learn, so nothing is downloaded.

1,797 images of 8 x 8 pixels, 174 to 183 of each digit: the test part of "Optical Recognition of Handwritten
Digits" (Alpaydin and Kaynak, 1998, UCI Machine Learning Repository), by 13 writers. Train, adapt and test
share the writers, which makes the task easier than for a writer unseen.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from fasa.data.images import LongTailed, Ratio, Split, divide, exponential_counts
from fasa.sections import Section

# No digit has more than 183 images.
Number = Annotated[int, Meta(ge=1, le=183)]


class Settings(Section, tag_field="kind", tag="digits"):
    """How the digits are divided; 0 is the most frequent in train and 9 the rarest.

    Args:
        n_max: train images of digit 0.
        ratio: of digit 0 to digit 9, see `exponential_counts`.
        adapt: images of every digit in adapt.
        test: images of every digit in test.
    """

    n_max: Number = 100
    ratio: Ratio = 50
    adapt: Number = 30
    test: Number = 40

    def __post_init__(self):
        exponential_counts(self.n_max, 10, self.ratio)


def load(settings: Settings, seed: int) -> LongTailed:
    """Divide the digits at random: train with `exponential_counts` (276 images), adapt and test balanced.

    Images are (8, 8, 1); the original's 16 steps of ink become 0 to 255.

    Raises:
        UserError: more images are wanted of a digit than there are.
    """
    from sklearn.datasets import load_digits  # here, not above: the plan reads the settings alone

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    counts = exponential_counts(settings.n_max, 10, settings.ratio)
    sizes = np.stack([counts, np.full(10, settings.adapt), np.full(10, settings.test)])
    parts = (Split(images[part], labels[part]) for part in divide(labels, sizes, seed))
    return LongTailed(*parts, [str(digit) for digit in range(10)], flip=False)
