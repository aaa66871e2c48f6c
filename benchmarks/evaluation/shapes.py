"""Blobs, and their masks without painting a single pixel.

A blob is an ellipse, slanted along its columns, with a wavy outline. Each of its columns is one run of
pixels, so the run-length encodings of many images come out of a few NumPy calls.
"""

import numpy as np

BLOB = np.dtype([(name, float) for name in ("x", "y", "a", "b", "slant", "top", "bottom")])
"""Centre x, y and half axes a, b in pixels; rows by which the middle of a column sinks per column; phases of
the waves of both outlines."""

WAVE = 0.15  # of the half height: how far the outline strays from the ellipse
VERTICES = 24  # of a polygon; LVIS has about 30


def outline(blobs: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top and bottom y of the blobs at abscissas x + a u, -1 <= u <= 1; broadcasts blobs with u."""
    middle = blobs["y"] + blobs["slant"] * blobs["a"] * u
    half = blobs["b"] * np.sqrt(np.maximum(1 - u**2, 0))
    return (
        middle - half * (1 + WAVE * np.sin(3 * u + blobs["top"])),
        middle + half * (1 + WAVE * np.sin(3 * u + blobs["bottom"])),
    )


def polygons(blobs: np.ndarray) -> np.ndarray:
    """Outlines, (N, VERTICES, 2) x and y in pixels."""
    u = -np.cos(np.linspace(0, np.pi, VERTICES // 2 + 1))
    top, bottom = outline(blobs[:, None], u)
    x = blobs["x"][:, None] + blobs["a"][:, None] * u
    return np.stack(
        [np.hstack([x, x[:, -2:0:-1]]), np.hstack([top, bottom[:, -2:0:-1]])],
        axis=-1,
    )


def boxes(blobs: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes x, y, w, h of the ellipses, within the images: (N, 4); sizes (N, 2) height, width."""
    half = np.hypot(blobs["b"], blobs["slant"] * blobs["a"])
    x = np.clip(blobs["x"] + [-blobs["a"], blobs["a"]], 0, sizes[:, 1])
    y = np.clip(blobs["y"] + [-half, half], 0, sizes[:, 0])
    return np.stack([x[0], y[0], x[1] - x[0], y[1] - y[0]], axis=1)


def encode(blobs: np.ndarray, sizes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Masks of the blobs within the images, as pycocotools would encode the bitmaps.

    Args:
        blobs: (N,) with half axes of 2 pixels and more, centres 2 pixels and more inside the image, and
            slants of 1 at most: then no mask is empty.
        sizes: (N, 2) height and width of each blob's image.

    Returns:
        The compressed counts of each, and the areas (N,) in pixels.
    """
    blob, start, stop = _runs(blobs, sizes)
    n_runs = np.bincount(blob, minlength=len(blobs))
    pixels = sizes.prod(axis=1)

    # a blob's counts: zeros before each run, the run, ... and the zeros after the last
    first = np.cumsum(2 * n_runs + 1) - (2 * n_runs + 1)
    place = first[blob] + 2 * (np.arange(len(blob)) - np.repeat(np.cumsum(n_runs) - n_runs, n_runs))
    before = np.append(0, stop[:-1])
    before[place == first[blob]] = 0
    last = first + 2 * n_runs
    counts = np.empty(last[-1] + 1, dtype=np.int64)
    counts[place], counts[place + 1] = start - before, stop - start
    counts[last] = pixels - stop[np.cumsum(n_runs) - 1]

    steps = counts.copy()  # from the fourth on, relative to the last but one
    steps[2:] -= np.where(
        np.arange(len(counts))[2:] - np.repeat(first, 2 * n_runs + 1)[2:] > 2, counts[:-2], 0
    )
    written = np.ones(len(counts), dtype=bool)
    written[last] = counts[last] > 0
    text, length = _characters(steps[written])
    ends = np.append(0, np.cumsum(length))[np.cumsum(2 * n_runs + written[last])].tolist()
    return [text[i:j] for i, j in zip([0, *ends], ends, strict=False)], np.bincount(
        blob, stop - start, minlength=len(blobs)
    )


def _runs(blobs: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of pixels, down the columns: (R,) the blob of each, where it starts, and where it stops."""
    left, right = (np.ceil(blobs["x"] + side * blobs["a"] - 0.5).astype(int) for side in (-1, 1))
    left, right = np.clip(left, 0, sizes[:, 1]), np.clip(right, 0, sizes[:, 1])
    width = right - left
    blob = np.repeat(np.arange(len(blobs)), width)
    column = np.arange(len(blob)) + np.repeat(left - np.cumsum(width) + width, width)
    mine = blobs[blob]
    top, bottom = outline(mine, (column + 0.5 - mine["x"]) / mine["a"])
    height = sizes[blob, 0]
    start, stop = (column * height + np.clip(np.ceil(y - 0.5).astype(int), 0, height) for y in (top, bottom))
    some = stop > start
    blob, start, stop = blob[some], start[some], stop[some]
    # a column filled to its end goes on in the next
    new = (np.append(-1, stop[:-1]) != start) | (np.append(-1, blob[:-1]) != blob)
    return blob[new], start[new], stop[np.append(new[1:], True)]


def _characters(numbers: np.ndarray) -> tuple[str, np.ndarray]:
    """COCO's compression: 5 bits a character, the lowest first, a 6th bit where more follow, from "0" on."""
    length = np.zeros(len(numbers), dtype=np.int64)
    characters = np.zeros((len(numbers), 5), dtype=np.uint8)
    left = np.arange(len(numbers))
    while len(left):
        digit, numbers = numbers & 31, numbers >> 5
        more = numbers != np.where(digit & 16, -1, 0)
        characters[left, length[left]] = 48 + digit + 32 * more
        length[left] += 1
        left, numbers = left[more], numbers[more]
    return characters[np.arange(5) < length[:, None]].tobytes().decode(), length
