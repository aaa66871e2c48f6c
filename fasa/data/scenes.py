"""Scenes: glyphs as stickers, scattered over a textured ground and over each other, with exact masks.

Every glyph is a sticker, its strokes on a body of another colour, and the body is the object: bare strokes
are too thin for masks of 28 x 28 cells. Some are faint, some only a piece of a sticker, torn off.

Shape legend: N objects of a scene, H = W the image size, h x w the window of one sticker.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from fasa.data import alphabet
from fasa.errors import UserError

BORDER = 0.12  # width of the body around the strokes, as a share of the glyph's longest side
ANGLE = 20  # degrees; more would turn one character into another, as would a flip
TORN = (0.3, 0.55)  # share of its body that a torn sticker keeps
FAINT = (30, 60)  # contrast of a faint body with what is below it, summed over the channels, of 765
FAINT_INK = (30, 60)  # of its strokes with the body, in luma, of 255
DETAIL = 96  # longest side, in pixels, at which a glyph's outlines are stored
LUMA = np.array([0.299, 0.587, 0.114])


class Thing(NamedTuple):
    """What a scene shows in one place.

    Args:
        character: one of a sticker's.
        faint: without its dark rim, and hardly of another colour than what is below it.
        torn: a piece of it, of `TORN`.
    """

    character: str
    faint: bool = False
    torn: bool = False


class Sticker(NamedTuple):
    """A glyph's outlines as signed distances in pixels, negative inside, and the size of its body.

    Distances, unlike pictures, can be sampled at any scale and angle: their sign gives an exact mask, and
    the half pixel around zero a smooth edge.
    """

    strokes: Image.Image
    body: Image.Image
    width: int
    height: int


@lru_cache(maxsize=2048)
def sticker(character: str, face: str) -> Sticker:
    """Cut a sticker out of a face: the character's strokes, and a body without holes around them."""
    draft = alphabet.ink(character, alphabet.font(face, DETAIL))
    ink = alphabet.ink(character, alphabet.font(face, round(DETAIL * DETAIL / max(draft.size))))
    border = BORDER * max(ink.size)
    strokes = np.pad(np.asarray(ink) >= 128, int(border) + 4)
    body = ndimage.binary_fill_holes(ndimage.distance_transform_edt(~strokes) <= border)
    height, width = (np.ptp(np.flatnonzero(body.any(axis))) + 1 for axis in (1, 0))
    return Sticker(_signed_distance(strokes), _signed_distance(body), int(width), int(height))


def _signed_distance(shape: np.ndarray) -> Image.Image:
    distance = ndimage.distance_transform_edt(~shape) - ndimage.distance_transform_edt(shape)
    distance -= 0.5 * np.sign(distance)  # zero on the edge between two pixels, not in the middle of one
    return Image.fromarray(distance.astype(np.float32))


def turn(sticker: Sticker, size: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale a sticker's longest side to `size` pixels and turn it by `angle` radians.

    Returns:
        Signed distances in pixels of its strokes and of its body, (h, w) each, cropped to the body.
    """
    scale = size / max(sticker.width, sticker.height)
    cos, sin = np.cos(angle), np.sin(angle)
    width = int(scale * (sticker.width * cos + sticker.height * abs(sin))) + 3
    height = int(scale * (sticker.height * cos + sticker.width * abs(sin))) + 3
    # Pillow asks where each pixel comes from: the inverse map, about the middles of window and sticker.
    to_x, to_y = np.array([cos, sin]) / scale, np.array([-sin, cos]) / scale
    middle = np.array([width, height]) / 2
    x, y = sticker.body.width / 2 - to_x @ middle, sticker.body.height / 2 - to_y @ middle
    strokes, body = (
        np.asarray(
            outline.transform(
                (width, height),
                Image.Transform.AFFINE,
                (*to_x, x, *to_y, y),
                Image.Resampling.BILINEAR,
                fillcolor=DETAIL,
            )
        )
        * scale
        for outline in (sticker.strokes, sticker.body)
    )
    return _cropped(strokes, body)


def tear(strokes: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tear a piece off a turned sticker along a wavy line; arguments and result as of `turn`."""
    y, x = np.indices(body.shape, np.float32)
    direction, period = rng.uniform(0, 2 * np.pi), rng.uniform(8, 16)
    across = x * np.cos(direction) + y * np.sin(direction)
    along = y * np.cos(direction) - x * np.sin(direction)
    edge = across + np.sin(along * (2 * np.pi / period))
    edge -= np.quantile(edge[body < 0], rng.uniform(*TORN))
    return _cropped(np.maximum(strokes, edge), np.maximum(body, edge))


def _cropped(strokes: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.flatnonzero((body < 0).any(axis)) for axis in (1, 0))
    crop = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return strokes[crop], body[crop]


def paint(
    things: list[Thing],
    image_size: int,
    object_size: tuple[int, int],
    rng: np.random.Generator,
    visible: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a scene with N stickers, the first at the back.

    They lie within the image, in a random face each.

    Args:
        things: what they show.
        image_size: H = W, in pixels.
        object_size: smallest and largest side of a sticker before it is turned or torn, in pixels.
        rng: source of randomness.
        visible: share of every one that later ones leave in sight.

    Returns:
        The picture (H, W, 3) uint8, and which thing each pixel shows (H, W) in [-1, N), -1 for the ground.

    Raises:
        UserError: the objects do not fit the image.
    """
    for _ in range(100):
        if placed := _scatter(things, image_size, object_size, rng, visible):
            break
    else:
        raise UserError(
            f"data.objects: {len(things)} objects of {object_size[0]} to {object_size[1]} pixels do not fit "
            f"an image of {image_size}: lower objects, scraps, object_size or visible, or raise image_size"
        )
    stickers, shown = placed
    picture = _ground(image_size, rng)
    for thing, (strokes, body, window) in zip(things, stickers, strict=True):
        patch = picture[window]
        ground = patch.mean((0, 1))
        colour, ink = _faint_colours(ground, rng) if thing.faint else _colours(ground, rng)
        # The dark rim parts a sticker from one of the same colour below it.
        rim = colour if thing.faint else 0.55 * colour
        for distance, coat in ((body, rim), (body + 1.5, colour), (strokes, ink)):
            patch += np.clip(0.5 - distance, 0, 1)[..., None] * (coat - patch)
    return np.rint(picture).astype(np.uint8), shown


def _scatter(things, image_size, object_size, rng, visible):
    """Return N (strokes, body, window) and the things shown (H, W), or None where one found no place."""
    shown = np.full((image_size, image_size), -1)
    full, seen = np.zeros((2, len(things)))  # pixels of each: alone, and so far in sight
    stickers = []
    for index, thing in enumerate(things):
        outlines = sticker(thing.character, alphabet.FACES[rng.integers(len(alphabet.FACES))])
        strokes, body = turn(outlines, rng.uniform(*object_size), np.deg2rad(rng.uniform(-ANGLE, ANGLE)))
        if thing.torn:
            strokes, body = tear(strokes, body, rng)
        mask = body < 0
        room = image_size - np.array(mask.shape)
        if room.min() < 0:
            return None
        for y, x in rng.integers(room + 1, size=(30, 2)).tolist():
            window = slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1])
            hidden = shown[window][mask]
            left = seen - np.bincount(hidden[hidden >= 0], minlength=len(seen))
            if (left >= visible * full).all():
                break
        else:
            return None
        shown[window][mask] = index
        full[index] = left[index] = mask.sum()
        seen = left
        stickers.append((strokes, body, window))
    return stickers, shown


def _ground(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a textured ground (H, W, 3) float32: coloured clouds of three sizes, stripes, loose lines."""
    picture = np.tile(rng.uniform(50, 205, 3).astype(np.float32), (size, size, 1))
    for cells, strength in ((2, 40), (5, 30), (size // 4, 10)):
        clouds = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        clouds = clouds.resize((size, size), Image.Resampling.BICUBIC)
        picture += strength * (np.asarray(clouds, np.float32) / 127.5 - 1)
    y, x = np.mgrid[:size, :size]
    direction, period = rng.uniform(0, np.pi), rng.uniform(5, 20)
    stripes = np.sin((x * np.cos(direction) + y * np.sin(direction)) * (2 * np.pi / period))
    picture += rng.uniform(0, 20) * stripes[..., None]
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(6)):
        colour = tuple(rng.integers(0, 256, 3).tolist())
        draw.line(rng.uniform(0, size, 4).tolist(), fill=colour, width=int(rng.integers(1, 4)))
    return np.array(image, np.float32)


def _colours(ground: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the colours of a body, which stands out from the ground below it, and of its strokes."""
    colours = rng.uniform(0, 255, (16, 3))
    contrast = np.abs(colours - ground).sum(1)
    body = colours[(contrast >= min(200, contrast.max())).argmax()]  # the first with enough, or the best
    inks = rng.uniform(0, 255, (16, 3))
    return body, inks[np.abs((inks - body) @ LUMA).argmax()]


def _faint_colours(ground: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the colours of a body that is hardly another than the ground's, and of its strokes."""
    change = rng.uniform(-1, 1, 3)
    body = np.clip(ground + rng.uniform(*FAINT) * change / np.abs(change).sum(), 0, 255)
    ink = rng.uniform(*FAINT_INK)
    return body, body + (ink if body @ LUMA < 128 else -ink)
