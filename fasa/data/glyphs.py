"""The embedded data set, "glyphs": long-tailed instance segmentation, rendered from a seed.

It stands in for LVIS where there is no download and no GPU: same annotation format, same frequency groups.
Two truths are recorded beside: what looks alike (`script`, `base`) and what is often seen together
(`cooccurs_with`).
"""

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from fasa.data import alphabet
from fasa.data.long_tail import deal, zipf_counts
from fasa.data.polygons import polygons
from fasa.data.scenes import paint
from fasa.errors import UserError

PARTS = ("train", "adapt", "val")
NEGATIVES = 200  # at most so many absent classes are listed for an image; LVIS lists a few


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the data set is made of.

    Args:
        seed: of everything that is drawn.
        classes: K, at most the size of `alphabet.pool`.
        image_size: side of the square images, in pixels.
        images: number of images of each part.
        objects: fewest and most objects of an image.
        object_size: smallest and largest side of an object before it is turned, in pixels.
        exponent: of the class counts in train, see `zipf_counts`; adapt and val are balanced.
        pairs: number of planted pairs of classes that often share an image.
        together: how often they do, see `deal`.

    Raises:
        UserError: settings that cannot be met.
    """

    seed: int
    classes: int = 60
    image_size: int = 128
    images: dict = field(default_factory=lambda: dict(train=1500, adapt=240, val=400))
    objects: list = field(default_factory=lambda: [3, 8])
    object_size: list = field(default_factory=lambda: [28, 60])
    exponent: float = 2.8
    pairs: int = 6
    together: float = 0.6

    def __post_init__(self):
        sides, number = self.object_size, self.objects
        for value in (self.classes, self.image_size, self.pairs, *number, *sides, *self.images.values()):
            if not isinstance(value, int):
                raise UserError(f"data: {value!r} is not a whole number")
        for met, key, rule in (
            (
                set(self.images) == set(PARTS) and min(self.images.values()) > 0,
                "images",
                f"numbers for {', '.join(PARTS)}",
            ),
            (1 <= number[0] <= number[1], "objects", "[fewest, most], at least 1"),
            (8 <= sides[0] <= sides[1], "object_size", "[smallest, largest] in pixels, at least 8"),
            (sides[1] <= self.image_size, "object_size", f"at most data.image_size, {self.image_size}"),
            (self.exponent >= 0, "exponent", "0 or more"),
            (
                0 <= 2 * self.pairs <= self.classes,
                "pairs",
                f"0 to {self.classes // 2}, half of data.classes",
            ),
            (0 <= self.together <= 1, "together", "a share from 0 to 1"),
        ):
            if not met:
                raise UserError(f"data.{key}: must be {rule}")


def render(root: str | Path, settings: Settings) -> None:
    """Render train, adapt and val into `root`, which is replaced when all is written.

    Same arguments, same bytes: every image is drawn from a seed of its own. Images are ``{part}/000001.png``
    and so on, ``annotations/{part}.json`` is in the format of LVIS v1, with frequency and counts of train in
    all parts. `segmentation` is RLE, `polygons` the same mask as rings on pixel edges. All objects are
    annotated, so every absent class is a true negative: all are listed, or 200 at random if there are more.

    Args:
        root: folder of the data set.
        settings: what to draw.

    Raises:
        UserError: a folder that holds something else, or fewer objects than classes.
    """
    root = Path(root)
    if root.exists() and not (root.is_dir() and {p.name for p in root.iterdir()} <= {*PARTS, "annotations"}):
        raise UserError(f"{root}: is not a folder of this data set and would be lost; choose another one")
    classes, pairs, size = settings.classes, settings.pairs, settings.image_size

    plan, *seeds = np.random.SeedSequence(settings.seed).spawn(1 + len(PARTS))
    rng = np.random.default_rng(plan)
    characters = alphabet.choose(classes, rng)
    rank = rng.permutation(classes)
    partners = rng.permutation(classes)[: 2 * pairs].reshape(pairs, 2)

    scratch = root.with_name(f".{root.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        written = {}
        for part, part_seed in zip(PARTS, seeds, strict=True):
            rng = np.random.default_rng(part_seed)
            sizes = rng.integers(*settings.objects, settings.images[part], endpoint=True)
            total = int(sizes.sum())
            if part == "train" and total < classes:
                raise UserError(f"data.images.train: {total} objects are too few for {classes} classes")
            counts = zipf_counts(classes, total, settings.exponent if part == "train" else 0)[rank]
            scenes = deal(counts, sizes, partners, settings.together, rng)
            (scratch / part).mkdir(parents=True)
            content = written[part] = {"images": [], "annotations": []}
            for labels, image_seed in zip(scenes, part_seed.spawn(len(scenes)), strict=True):
                rng = np.random.default_rng(image_seed)
                picture, shown = paint([characters[k] for k in labels], size, settings.object_size, rng)
                image = _image(part, 1 + len(content["images"]), size, labels, classes, rng)
                # A higher level of compression is slower and saves little.
                Image.fromarray(picture).save(scratch / image["file_name"], compress_level=2)
                content["images"].append(image)
                content["annotations"] += _annotations(image, 1 + len(content["annotations"]), labels, shown)
        categories = _categories(characters, partners, written["train"]["annotations"])
        (scratch / "annotations").mkdir()
        for part, content in written.items():
            text = json.dumps(content | {"categories": categories}, sort_keys=True, separators=(",", ":"))
            (scratch / "annotations" / f"{part}.json").write_text(text + "\n")
        shutil.rmtree(root, ignore_errors=True)
        os.replace(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _image(part: str, number: int, size: int, labels: list[int], classes: int, rng) -> dict:
    absent = np.setdiff1d(np.arange(classes), labels)
    if len(absent) > NEGATIVES:
        absent = np.sort(rng.choice(absent, NEGATIVES, replace=False))
    name = f"{part}/{number:06d}.png"
    return {
        "id": number,
        "file_name": name,
        "coco_url": name,  # where mmdet looks, after taking COCO's address off
        "width": size,
        "height": size,
        "neg_category_ids": (absent + 1).tolist(),
        "not_exhaustive_category_ids": [],
    }


def _annotations(image: dict, first: int, labels: list[int], shown: np.ndarray) -> list[dict]:
    masks = np.asfortranarray(shown[..., None] == np.arange(len(labels)), np.uint8)
    return [
        {
            "id": first + index,
            "image_id": image["id"],
            "category_id": label + 1,
            "bbox": rle.toBbox(code).tolist(),
            "area": int(rle.area(code)),
            "iscrowd": 0,
            "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
            "polygons": polygons(masks[..., index]),
        }
        for index, (label, code) in enumerate(zip(labels, rle.encode(masks), strict=True))
    ]


def _categories(characters: list[str], partners: np.ndarray, train: list[dict]) -> list[dict]:
    instances = Counter(a["category_id"] for a in train)
    images = Counter(category for category, _ in {(a["category_id"], a["image_id"]) for a in train})
    partner = {a: b for pair in (partners + 1).tolist() for a, b in (pair, pair[::-1])}
    categories = []
    for category, character in enumerate(characters, start=1):
        script, base = alphabet.script(character), alphabet.class_name(alphabet.base(character))
        categories.append(
            {
                "id": category,
                "name": alphabet.class_name(character),
                "synset": alphabet.synset(character),
                "synonyms": [character],
                "def": f"the character {character}, of base {base} and script {script}",
                "frequency": "r" if images[category] <= 10 else "c" if images[category] <= 100 else "f",
                "image_count": images[category],
                "instance_count": instances[category],
                "script": script,
                "base": base,
                "cooccurs_with": partner.get(category),
            }
        )
    return categories
