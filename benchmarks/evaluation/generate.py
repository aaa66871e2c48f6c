"""Writes ground truth and detections of the shape of LVIS v1 val and of a Mask R-CNN's results on it.

    python benchmarks/evaluation/generate.py --images 2000 --out DIR

The shape, per image where nothing else is said (LVIS v1 val: 244,707 objects in 19,809 images):

    images          640 x 480 and the like; one in a hundred shows none of the classes
    classes         1,203: 337 rare, 461 common, 405 frequent; training images from 2,000 down to 1 like a
                    power of the rank, in random order of id; images show a class in proportion
    present         3.4 classes on average, 1 to 16
    objects         12.3 on average; of a class n or more in n^-1.25 of its images, 300 at most
    areas           half of them below 32^2 pixels, 15% above 96^2
    absent          11 classes on average, of equal chance
    not exhaustive  0.5 classes on average, of those present
    detections      290 to 300; 45% at objects, which take turns: the first of each overlaps well and has the
                    right class in 60% (frequent), 45% (common) or 20% (rare); the others are poor duplicates
                    and right a fifth as often. The rest are background. A wrong or background class is on
                    the image's lists in 20%, where it counts, else it is anything, by frequency
    scores          logistic-normal, median 1% in all, 50% of a right first detection; sorted in an image
    numbers         detections have the digits of float32, annotations two decimals, as real files do

Objects are blobs: polygons of 24 vertices in `gt.json`, RLE in `segm.json`, without `bbox`, from which
lvis-api would take the area. CHUNK images are in memory at a time, whatever their number.
The same options give the same bytes. A file appears under its name when it is complete.
"""

import argparse
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from shapes import boxes, encode, polygons
from world import Classes, Guesses, Images, draw_classes, draw_guesses, draw_images

CHUNK = 50  # images drawn and written at a time


class JsonList:
    """A file with a list that grows, called .part until it is complete."""

    def __init__(self, path: Path, before: bytes = b"["):
        self.path, self.part = path, path.with_name(path.name + ".part")
        self.file, self.separator = self.part.open("wb"), before

    def extend(self, entries: list[dict[str, Any]]) -> None:
        """Adds entries, one or more."""
        self.file.write(self.separator + msgspec.json.encode(entries)[1:-1])
        self.separator = b",\n"

    def close(self, after: bytes = b"]") -> None:
        """Ends the list with `after`, and gives the file its name."""
        self.file.write(after)
        self.file.close()
        self.part.replace(self.path)


def generate(out: Path, n_images: int, n_classes: int, least: int, seed: int, masks: bool) -> None:
    """Writes ``gt.json``, ``bbox.json`` and, with masks, ``segm.json`` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    classes = draw_classes(rng, n_classes)
    ids = np.sort(rng.choice(600_000, n_images, replace=False)) + 1  # of COCO
    gt = JsonList(out / "gt.json", b'{"annotations":[')
    results = {name: JsonList(out / f"{name}.json") for name in ("bbox", "segm") if masks or name == "bbox"}
    image_entries, n_objects = [], 0
    for start in range(0, n_images, CHUNK):
        mine = ids[start : start + CHUNK]
        images = draw_images(rng, classes, len(mine))
        guesses = draw_guesses(rng, classes, images, least)
        image_entries += _images(images, mine)
        gt.extend(_annotations(images, mine, n_objects + 1))
        n_objects += len(images.label)
        for field, file in results.items():
            file.extend(_results(guesses, images.sizes[guesses.image], mine[guesses.image], field))
    rest = {"images": image_entries, "categories": _categories(classes)}
    gt.close(b"]," + msgspec.json.encode(rest)[1:])
    for file in results.values():
        file.close()


def _categories(classes: Classes) -> list[dict[str, Any]]:
    return [
        {
            "id": k,
            "name": f"class_{k}",
            "synset": f"class_{k}.n.01",
            "frequency": frequency,
            "image_count": n,
            "instance_count": 4 * n,
        }
        for k, (frequency, n) in enumerate(
            zip(classes.frequency.tolist(), classes.image_count.tolist(), strict=True), start=1
        )
    ]


def _images(images: Images, ids: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "id": image_id,
            "height": height,
            "width": width,
            "coco_url": f"http://images.cocodataset.org/val2017/{image_id:012d}.jpg",
            "neg_category_ids": (absent + 1).tolist(),
            "not_exhaustive_category_ids": (not_exhaustive + 1).tolist(),
        }
        for image_id, (height, width), absent, not_exhaustive in zip(
            ids.tolist(), images.sizes.tolist(), images.absent, images.not_exhaustive, strict=True
        )
    ]


def _annotations(images: Images, ids: np.ndarray, first: int) -> list[dict[str, Any]]:
    outlines = polygons(images.blobs).round(2)
    corners = outlines.min(axis=1), outlines.max(axis=1)
    columns = {
        "id": range(first, first + len(images.label)),
        "image_id": ids[images.image].tolist(),
        "category_id": (images.label + 1).tolist(),
        "bbox": np.hstack([corners[0], corners[1] - corners[0]]).round(2).tolist(),
        "area": encode(images.blobs, images.sizes[images.image])[1].tolist(),
        "segmentation": outlines.reshape(-1, 1, outlines[0].size).tolist(),
    }
    return _rows(columns)


def _results(guesses: Guesses, sizes: np.ndarray, image_id: np.ndarray, field: str) -> list[dict[str, Any]]:
    columns = {
        "image_id": image_id.tolist(),
        "category_id": (guesses.label + 1).tolist(),
        "score": guesses.score.tolist(),
    }
    if field == "bbox":
        columns["bbox"] = boxes(guesses.blobs, sizes).astype(np.float32).tolist()
    else:
        counts, _ = encode(guesses.blobs, sizes)
        columns["segmentation"] = [
            {"size": size, "counts": text} for size, text in zip(sizes.tolist(), counts, strict=True)
        ]
    return _rows(columns)


def _rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--classes", type=int, default=1203, help="50 or more (default: 1203)")
    parser.add_argument("--detections", type=int, default=290, help="the least of an image (default: 290)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--masks", action=argparse.BooleanOptionalAction, default=True, help="segm.json too")
    args = parser.parse_args()
    if args.images < 1 or args.classes < 50 or args.detections < 1:
        parser.error("at least 1 image, 50 classes and 1 detection are needed")
    generate(args.out, args.images, args.classes, args.detections, args.seed, args.masks)


if __name__ == "__main__":
    main()
