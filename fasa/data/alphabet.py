"""Which characters are classes: letters and symbols that the twelve DejaVu text faces share.

The faces ship with matplotlib: real shapes, real variation between faces, nothing to download. Of characters
that look the same (Latin A, Greek Alpha, Cyrillic A) one is a class: the others' labels could not be learned.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from fasa.errors import UserError

FACES = tuple(
    f"DejaVu{family}{style}"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
SCRIPTS = ("latin", "greek", "cyrillic", "armenian", "georgian")
# Known to most readers: ASCII and Latin-1, Greek, Cyrillic, euro, arrows, suits and other pictures.
FAMILIAR = (
    (0x21, 0xFF),
    (0x386, 0x3CE),
    (0x410, 0x44F),
    (0x20AC, 0x20AC),
    (0x2190, 0x2195),
    (0x2600, 0x26FF),
)
TWINS = 0.95  # overlap, as intersection over union, from which two shapes count as one


def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Open one of `FACES` at `size` pixels per em."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def ink(character: str, pen: ImageFont.FreeTypeFont) -> Image.Image:
    """Draw a character in grey, cropped to its ink; raises ValueError where there is none."""
    left, top, right, bottom = pen.getbbox(character)
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=pen)
    return image.crop(image.getbbox())


def shared() -> list[str]:
    """Return the letters and symbols (Unicode categories L and S) that every face can draw, by code point."""
    files = (font(face, 8).path for face in FACES)
    characters = map(chr, sorted(set.intersection(*(set(FT2Font(file).get_charmap()) for file in files))))
    # The object replacement character is a symbol without a shape.
    return [
        c
        for c in characters
        if unicodedata.category(c)[0] in "LS" and c != "\N{OBJECT REPLACEMENT CHARACTER}"
    ]


def shapes(characters: list[str], face: str, side: int = 40) -> np.ndarray:
    """Return rasters (N, side * side) in [0, 1], scaled so that the longest side fills the raster.

    Scenes place and scale glyphs freely, so a shape is what is left when place and size are gone.
    """
    pen = font(face, 64)
    rasters = np.zeros((len(characters), side, side), np.float32)
    for raster, character in zip(rasters, characters, strict=True):
        image = ink(character, pen)
        scale = side / max(image.size)
        width, height = (max(1, round(s * scale)) for s in image.size)
        x, y = (side - width) // 2, (side - height) // 2
        raster[y : y + height, x : x + width] = np.asarray(
            image.resize((width, height), Image.Resampling.BILINEAR)
        )
    return rasters.reshape(len(characters), -1) / 255


@lru_cache(maxsize=1)
def pool() -> tuple[str, ...]:
    """Return the characters that can be classes: shared by every face, and without twins in any of them.

    Of several twins the one with the lowest code point stays.
    """
    characters = shared()
    twins = np.zeros((len(characters), len(characters)), bool)
    for face in FACES:
        x = shapes(characters, face)
        common, area = x @ x.T, (x * x).sum(1)
        twins |= common >= TWINS * (area[:, None] + area - common)
    kept: list[int] = []
    for i in range(len(characters)):
        if not twins[i, kept].any():
            kept.append(i)
    return tuple(characters[i] for i in kept)


def class_name(character: str) -> str:
    """Return the Unicode name as an identifier, such as ``latin_small_letter_a``."""
    return re.sub(r"\W", "_", unicodedata.name(character).lower())


def synset(character: str) -> str:
    """Return a key in the form of LVIS's synsets: name, ``u`` for Unicode, code point."""
    return f"{class_name(character)}.u.{ord(character):04x}"


def base(character: str) -> str:
    """Return the character without its accents and additions, in which alone look-alikes differ."""
    plain = unicodedata.normalize("NFKD", character)[0]
    if not unicodedata.category(plain).startswith(("L", "S")):  # spacing accents decompose to a space
        return character
    try:
        return unicodedata.lookup(unicodedata.name(plain).split(" WITH ")[0])
    except KeyError:
        return plain


def script(character: str) -> str:
    """Return the script of a character's base, or ``common`` for symbols of no script."""
    word = unicodedata.name(base(character)).split()[0].lower()
    return word if word in SCRIPTS else "common"


def familiar(character: str) -> bool:
    """Tell whether a character is one that most readers know; spacing accents (category Sk) are not."""
    known = any(low <= ord(character) <= high for low, high in FAMILIAR)
    return known and unicodedata.category(character) != "Sk"


def choose(classes: int, rng: np.random.Generator) -> list[str]:
    """Draw the characters of a data set with `classes` classes, in order of code point.

    Familiar ones come first, and up to three of one base come together, so that a small data set has
    look-alikes.

    Raises:
        UserError: more classes than the pool has.
    """
    characters = pool()
    if not 1 <= classes <= len(characters):
        raise UserError(
            f"data.classes: is {classes}; choose 1 to {len(characters)}, the characters without a twin"
        )
    families: dict[tuple[bool, str], list[str]] = {}
    for character in characters:
        families.setdefault((familiar(character), base(character)), []).append(character)
    bunches = []
    for (known, _), family in families.items():
        family = rng.permutation(family).tolist()
        bunches += [(known, family[i : i + 3]) for i in range(0, len(family), 3)]
    order = sorted(rng.permutation(len(bunches)), key=lambda i: not bunches[i][0])
    return sorted([character for i in order for character in bunches[i][1]][:classes])
