"""From a mask to polygons on pixel edges, which rasterise back to the same mask."""

from collections import defaultdict

import numpy as np
from scipy import ndimage


def polygons(mask: np.ndarray) -> list[list[int]]:
    """Return rings [x0, y0, x1, y1, ...] whose union is the mask (H, W), exactly.

    Corners lie on pixel edges: the pixel in column x and row y spans [x, x + 1] x [y, y + 1]. Each
    4-connected part gives one ring. COCO's polygons cannot leave a hole out, so a part with holes is cut
    by a vertical line through the first of them, until no part has any.
    """
    rings = []
    parts, _ = ndimage.label(mask)
    for index, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
        part = parts[rows, columns] == index
        ring = _outline(part)
        if _area(ring) == part.sum():
            pieces = [ring]
        else:
            holes = ndimage.binary_fill_holes(part, np.ones((3, 3))) & ~part
            cut = int(holes.any(0).argmax()) + 1
            pieces = polygons(part[:, :cut]) + [_shift(ring, cut, 0) for ring in polygons(part[:, cut:])]
        rings += [_shift(ring, columns.start, rows.start) for ring in pieces]
    return rings


def _shift(ring: list[int], x: int, y: int) -> list[int]:
    return [value + (x, y)[i % 2] for i, value in enumerate(ring)]


def _area(ring: list[int]) -> int:
    """Return the area inside a ring of horizontal and vertical edges: Green's theorem."""
    x, y = ring[::2], ring[1::2]
    return sum(a * (d - c) for a, c, d in zip(x, y, y[1:] + y[:1], strict=True))


def _outline(part: np.ndarray) -> list[int]:
    """Walk clockwise around the outside of a 4-connected part, and return the corners."""
    padded = np.pad(part, 1).astype(np.int8)
    down, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    # Steps along pixel edges, with the part on the right: east over its top, south down its right side ...
    steps = defaultdict(list)
    for edges, move in (
        (down == 1, (1, 0)),
        (right == -1, (0, 1)),
        (down == -1, (-1, 0)),
        (right == 1, (0, -1)),
    ):
        for y, x in np.argwhere(edges).tolist():
            steps[x + (move[0] < 0), y + (move[1] < 0)].append(move)
    start = position = min(steps)  # top left corner: its one step leads east
    ring, heading = [], None
    while True:
        moves = steps[position]
        # Where two pixels touch in a corner only, turn right, to stay with the one we walk around.
        move = moves[0] if len(moves) == 1 or moves[0] == (-heading[1], heading[0]) else moves[1]
        if move != heading:
            ring += position
            heading = move
        position = (position[0] + move[0], position[1] + move[1])
        if position == start:
            return ring
