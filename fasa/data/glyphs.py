"""The embedded data set, "glyphs": long-tailed instance segmentation, rendered from a seed.

It stands in for LVIS where there is no download and no GPU: same annotation format, same frequency groups.
Two truths are recorded beside: what looks alike (`script`, `base`) and what is often seen together
(`cooccurs_with`). As in photos, some objects are faint or half covered, and what is no object looks like one:
scraps of letters, torn off, of characters that are no classes.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from PIL import Image
from pycocotools import mask as rle

from fasa.data import Source, alphabet
from fasa.data.images import Ratio
from fasa.data.long_tail import deal, tail_counts
from fasa.data.prepared import PARTS, replacing_folder, write_source
from fasa.data.scenes import Thing, paint
from fasa.errors import UserError
from fasa.sections import Count, Section, Seed, Share

Side = Annotated[int, Meta(ge=8, le=4096)]  # pixels in which a glyph can be told from another
Number = Annotated[int, Meta(ge=1, le=1_000_000)]
NumberOr0 = Annotated[int, Meta(ge=0, le=1_000_000)]
NEGATIVES = 200  # at most so many absent classes are listed for an image; LVIS lists a few


class Images(Section):
    """Number of images of each part; fields are `PARTS`. No ``tune``: no such part."""

    train: Number
    adapt: Number
    val: Number
    tune: NumberOr0 = 0


class Settings(Section, tag_field="kind", tag="glyphs"):
    """What the data set is made of.

    Args:
        seed: of everything that is drawn.
        classes: K, at most the size of `alphabet.pool`.
        image_size: side of the square images, in pixels.
        images: number of images of each part.
        objects: fewest and most objects of an image.
        object_size: smallest and largest side of an object before it is turned, in pixels.
        ratio: of the most frequent class to the rarest in train, see `tail_counts`; the other parts are
            balanced.
        pairs: number of planted pairs of classes that often share an image.
        together: how often they do, see `deal`.
        scraps: fewest and most scraps of an image, which are not annotated.
        faint: share of the objects, and of the scraps, that are hard to see, see `scenes.Thing`.
        visible: share of every object that others leave in sight; below a half it may be hard to recognise.
    """

    seed: Seed
    classes: Number = 60
    image_size: Side = 128
    images: Images = Images(train=1500, adapt=240, val=400, tune=400)
    objects: tuple[Number, Number] = (3, 8)
    object_size: tuple[Side, Side] = (28, 60)
    ratio: Ratio = 500.0
    pairs: Count = 6
    together: Share = 0.6
    scraps: tuple[NumberOr0, NumberOr0] = (0, 3)
    faint: Share = 0.2
    visible: Annotated[float, Meta(ge=0.1, le=1)] = 0.5

    def __post_init__(self):
        for met, rule in (
            (self.objects[0] <= self.objects[1], "objects must be [fewest, most]"),
            (self.object_size[0] <= self.object_size[1], "object_size must be [smallest, largest] in pixels"),
            (
                self.object_size[1] <= self.image_size,
                f"object_size must be at most image_size, {self.image_size}",
            ),
            (self.scraps[0] <= self.scraps[1], "scraps must be [fewest, most]"),
            (2 * self.pairs <= self.classes, f"pairs must be at most {self.classes // 2}, half of classes"),
        ):
            if not met:
                raise ValueError(rule)


def prepare(settings: Settings, out: str | Path) -> None:
    """Render the parts into `out`, which is replaced when all is written.

    Same arguments, same bytes: every image is drawn from a seed of its own. Images are ``{part}/000001.png``
    and so on, ``annotations/{part}.json`` is in the format of LVIS v1, with frequency and counts of train in
    all parts. All objects are annotated, so every absent class is a true negative: all are listed, or 200 at
    random if there are more.

    Raises:
        UserError: a folder that holds something else, or fewer objects than classes.
    """
    classes, pairs = settings.classes, settings.pairs
    plan, *seeds = np.random.SeedSequence(settings.seed).spawn(1 + len(PARTS))
    rng = np.random.default_rng(plan)
    characters = alphabet.choose(classes, rng)
    others = [character for character in alphabet.pool() if character not in characters]
    if settings.scraps[1] and not others:
        raise UserError("data.scraps: every character is a class, so there is none to tear; choose [0, 0]")
    rank = rng.permutation(classes)
    partners = rng.permutation(classes)[: 2 * pairs].reshape(pairs, 2)

    with replacing_folder(out) as scratch:
        written = {}
        for part, part_seed in zip(PARTS, seeds, strict=True):
            if not getattr(settings.images, part):
                continue
            rng = np.random.default_rng(part_seed)
            sizes = rng.integers(*settings.objects, getattr(settings.images, part), endpoint=True)
            total = int(sizes.sum())
            if part == "train" and total < classes:
                raise UserError(f"data.images.train: {total} objects are too few for {classes} classes")
            counts = tail_counts(classes, total, settings.ratio if part == "train" else 1)[rank]
            scenes = deal(counts, sizes, partners, settings.together, rng)
            (scratch / part).mkdir()
            content = written[part] = {"images": [], "annotations": []}
            for labels, image_seed in zip(scenes, part_seed.spawn(len(scenes)), strict=True):
                rng = np.random.default_rng(image_seed)
                things, objects = _things([characters[k] for k in labels], others, settings, rng)
                picture, shown = paint(
                    things, settings.image_size, settings.object_size, rng, settings.visible
                )
                number = 1 + len(content["images"])
                image = _image(part, number, settings.image_size, labels, classes, rng)
                # A higher level of compression is slower and saves little.
                Image.fromarray(picture).save(scratch / image["file_name"], compress_level=2)
                content["images"].append(image)
                content["annotations"] += _annotations(
                    image, 1 + len(content["annotations"]), labels, shown[..., None] == objects
                )
        categories = _categories(characters, partners, written["train"]["annotations"])
        for part, content in written.items():
            text = json.dumps(content | {"categories": categories}, sort_keys=True, separators=(",", ":"))
            (scratch / "annotations" / f"{part}.json").write_text(text + "\n")
        write_source(
            scratch, Source(kind="glyphs", images=".", iou_types=["segm", "bbox"], parts=tuple(written))
        )


def _things(
    characters: list[str], others: list[str], settings: Settings, rng: np.random.Generator
) -> tuple[list[Thing], np.ndarray]:
    """Return what a scene shows, scraps among the objects, and the place of each object there."""
    scraps = rng.integers(*settings.scraps, endpoint=True)
    drawn = [others[i] for i in rng.integers(len(others), size=scraps)] if scraps else []
    faint = rng.random(len(characters) + scraps) < settings.faint
    things = [
        Thing(character, bool(pale), torn=i >= len(characters))
        for i, (character, pale) in enumerate(zip(characters + drawn, faint, strict=True))
    ]
    order = rng.permutation(len(things))
    return [things[i] for i in order], np.argsort(order)[: len(characters)]


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


def _annotations(image: dict, first: int, labels: list[int], masks: np.ndarray) -> list[dict]:
    codes = rle.encode(np.asfortranarray(masks, np.uint8))
    return [
        {
            "id": first + index,
            "image_id": image["id"],
            "category_id": label + 1,
            "bbox": rle.toBbox(code).tolist(),
            "area": int(rle.area(code)),
            "iscrowd": 0,
            "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
        }
        for index, (label, code) in enumerate(zip(labels, codes, strict=True))
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
