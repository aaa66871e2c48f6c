"""A small valid pair of files, as JSON would have it, for tests that spoil it."""

import copy

from pycocotools import mask as mask_utils


def rle(x, y, w, h, side=40):
    """A box as a compressed mask in an image of `side` pixels."""
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    (code,) = mask_utils.frPyObjects(outline, side, side)
    return {"size": [side, side], "counts": code["counts"].decode()}


def ring(x, y, w, h):
    """The four corners of a box, in turn."""
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def runs(x, y, w, h, side=40):
    """A box as uncompressed runs."""
    gaps = [side - h, h] * (w - 1)
    before = x * side + y
    return {
        "size": [side, side],
        "counts": [before, h, *gaps, side * side - before - w * h - (w - 1) * (side - h)],
    }


BOXES = [(1, 1, 2, 2, 12, 10), (1, 2, 20, 5, 8, 9), (2, 1, 5, 25, 10, 10), (3, 2, 10, 10, 9, 20)]
GUESSES = [
    (1, 1, 2, 2, 12, 10, 0.9),
    (1, 2, 20, 5, 8, 8, 0.8),
    (1, 3, 0, 0, 5, 5, 0.7),
    (2, 1, 6, 25, 10, 10, 0.6),
]


def world():
    """Ground truth and detections: three images, three classes, polygons and both kinds of RLE."""
    shapes = [lambda *b: [ring(*b)], rle, runs, lambda *b: [ring(*b), ring(0, 0, 2, 2)]]
    gt = {
        "images": [
            {"id": i, "height": 40, "width": 40, "neg_category_ids": [3], "not_exhaustive_category_ids": []}
            for i in (1, 2)
        ]
        + [{"id": 3, "height": 40, "width": 40, "neg_category_ids": [1], "not_exhaustive_category_ids": [2]}],
        "categories": [{"id": k, "name": f"class {k}", "frequency": f} for k, f in enumerate("rcf", start=1)],
        "annotations": [
            {
                "id": n,
                "image_id": image,
                "category_id": category,
                "bbox": list(box),
                "area": box[2] * box[3],
                "segmentation": shape(*box),
            }
            for n, ((image, category, *box), shape) in enumerate(zip(BOXES, shapes, strict=True), start=1)
        ],
    }
    dt = [
        {"image_id": image, "category_id": k, "score": score, "bbox": list(box), "segmentation": rle(*box)}
        for image, k, *box, score in GUESSES
    ]
    return copy.deepcopy(gt), copy.deepcopy(dt)
