"""From annotation files in the style of COCO or LVIS to a prepared data set: checked, completed, cut.

What contradicts itself is refused. What COCO says in another way than LVIS is said in LVIS's:

- A crowd region is no object to find: it is left out, and its class counts as not exhaustively annotated in
  that image. Then it is neither learnt nor missed, and detections on it are neither right nor wrong.
- Without LVIS's lists of absent classes every object is taken to be annotated: absent classes are negative.
- Frequency groups are the file's, or follow from the images of train: up to 10 rare, up to 100 common.

What is left out or changed is printed: objects without area, edges of boxes outside of the image, areas that
are missing, classes that train has no object of.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from pycocotools import mask as rle

from fasa.data import Source, lvis
from fasa.data.lvis import Id, Pixels
from fasa.data.pictures import Picture, write_manifest
from fasa.data.prepared import MANIFEST, PARTS, replacing_folder, write_source
from fasa.errors import UserError
from fasa.sections import Text

Flag = Literal[0, 1] | bool


class Image(Struct, gc=False, kw_only=True):
    id: Id
    width: Pixels
    height: Pixels
    file_name: str = ""
    coco_url: str = ""
    neg_category_ids: list[Id] | None = None
    not_exhaustive_category_ids: list[Id] | None = None


class Annotation(Struct, gc=False, kw_only=True):
    id: Id
    image_id: Id
    category_id: Id
    bbox: lvis.Box
    area: float | None = None
    iscrowd: Flag = 0
    ignore: Flag = 0
    segmentation: Raw | UnsetType = UNSET


class Category(Struct, gc=False, kw_only=True):
    id: Id
    name: Text
    frequency: Literal["r", "c", "f"] | None = None
    synset: str | None = None
    synonyms: list[str] | None = None
    definition: str | None = msgspec.field(default=None, name="def")


class File(Struct, gc=False, kw_only=True):
    """An annotation file of others."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


@dataclass
class Part:
    """What a file holds, or what was cut out of one; `pictures` are the files of its images by their ids."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]
    pictures: dict[int, Picture] = field(default_factory=dict)

    def classes(self) -> dict[int, set[int]]:
        """The category ids in each image, by its id."""
        found: dict[int, set[int]] = {image.id: set() for image in self.images}
        for annotation in self.annotations:
            found[annotation.image_id].add(annotation.category_id)
        return found

    def only(self, ids: set[int]) -> "Part":
        """The part of these images."""
        return replace(
            self,
            images=[image for image in self.images if image.id in ids],
            annotations=[one for one in self.annotations if one.image_id in ids],
        )


def read(path: str | Path) -> Part:
    """Read a file as it is.

    Raises:
        UserError: what is missing, of another type, or contradicts itself; names the entry.
    """
    file = lvis.decode(path, File)
    lvis.check(path, file)
    federated = [image.neg_category_ids is not None for image in file.images]
    if any(federated) and not all(federated):
        raise UserError(
            f"{path}: images[{federated.index(False)}] lacks neg_category_ids, which others have; "
            "give them to all images, or to none if every object is annotated"
        )
    return Part(file.images, file.annotations, file.categories)


def tidy(path: str | Path, part: Part, masks: bool | None = None) -> bool:
    """Bring a part into LVIS's form, printing what is left out or derived.

    Args:
        path: of its file, in messages.
        part: what `read` returned; changed.
        masks: False leaves masks out; True asks for one of every object; None takes them where they are.

    Returns:
        Whether it has masks.

    Raises:
        UserError: a box or mask that cannot be; names the entry.
    """
    said: Counter[str] = Counter()
    images = {image.id: image for image in part.images}
    crowded: dict[int, set[int]] = defaultdict(set)
    kept, without = [], 0
    for place, one in enumerate(part.annotations):
        image, where = images[one.image_id], f"{path}: annotations[{place}]"
        if one.iscrowd or one.ignore:
            crowded[one.image_id].add(one.category_id)
            said["crowd regions left out; their class is not exhaustive in that image"] += 1
            continue
        if masks is False:
            mask, one.segmentation = None, UNSET
        else:
            mask = _mask(where, one, image, said)
        x, y, w, h = one.bbox
        if w and h and (x >= image.width or y >= image.height or x + w <= 0 or y + h <= 0):
            size = f"{image.width} x {image.height}"
            raise UserError(f"{where}.bbox: {list(one.bbox)} lies outside of its image of {size} pixels")
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, image.width), min(y + h, image.height)
        if max(left - x, top - y, x + w - right, y + h - bottom) > 1:  # annotators round
            one.bbox = (left, top, right - left, bottom - top)
            said["boxes cut at the edge of their image"] += 1
        given = one.area
        if given is None or given <= 0:
            one.area = one.bbox[2] * one.bbox[3] if mask is None else _area(mask, image)
        if not w or not h or not one.area or mask == []:
            said["objects without area left out"] += 1
            continue
        if one.area != given:
            said["areas derived"] += 1
        without += mask is None
        kept.append(one)
    if not kept:
        told = "; ".join(f"{number} {text}" for text, number in said.items())
        raise UserError(f"{path}: has no objects" + (f": {told}" if told else ""))
    if masks is not False and without not in (0, len(kept)) or masks and without:
        raise UserError(
            f"{path}: {without} of {len(kept)} objects have no mask; set masks: false to use boxes only"
        )
    part.annotations = kept
    for image in part.images:
        lacking = {*(image.not_exhaustive_category_ids or ())} | crowded[image.id]
        image.not_exhaustive_category_ids = sorted(lacking)
        if image.neg_category_ids is not None:
            image.neg_category_ids = [k for k in image.neg_category_ids if k not in crowded[image.id]]
    for text, number in said.items():
        print(f"{path}: {number} {text}")
    return masks is not False and without < len(kept)


def _mask(where: str, one: Annotation, image: Image, said: Counter[str]) -> Any:
    """The mask of an object, without polygons that have no area; None if it has none."""
    try:
        mask = lvis.shape(one, image, least=0)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}.segmentation: {error}") from None
    if isinstance(mask, list) and any(len(ring) < 6 for ring in mask):
        mask = [ring for ring in mask if len(ring) >= 6]
        said["masks lost polygons of fewer than 3 points"] += 1
        one.segmentation = Raw(msgspec.json.encode(mask))
    return mask


def _area(mask: Any, image: Image) -> float:
    """Pixels of a mask."""
    if isinstance(mask, lvis.Rle):
        runs = lvis.run_lengths(mask.counts) if isinstance(mask.counts, str) else mask.counts
        return float(sum(runs[1::2]))
    return float(rle.area(rle.merge(rle.frPyObjects(mask, image.height, image.width)))) if mask else 0.0


def hold_out(part: Part, wanted: int, least: int, order: Sequence[int], full: Counter[int]) -> set[int]:
    """Choose images to leave train: every class keeps at least half of its images there, and `least`.

    Images are asked in the given order and leave if all of their classes can spare them. So a class of up to
    `least` images loses none.

    Args:
        part: what is left to train on.
        wanted: number of images.
        least: images that a class keeps.
        order: image ids.
        full: images of each class before anything left.

    Returns:
        Ids, `wanted` or fewer.
    """
    classes = part.classes()
    left = Counter(k for held in classes.values() for k in held)
    floor = {k: max(least, -(-n // 2)) for k, n in full.items()}
    chosen: set[int] = set()
    for image in order:
        if len(chosen) == wanted:
            break
        if image in classes and all(left[k] > floor[k] for k in classes[image]):
            chosen.add(image)
            left.subtract(classes[image])
    return chosen


class Cut(NamedTuple):
    """A part that is to be cut out of train."""

    part: str
    share: float  # of the images
    least: int  # images that a class keeps, see `hold_out`


def split(train: Part, cuts: Iterable[Cut], seed: int) -> dict[str, Part]:
    """Cut parts out of train, one after the other, printing what each costs it.

    Raises:
        UserError: no image can leave.
    """
    order = np.random.default_rng(seed).permutation(sorted(image.id for image in train.images)).tolist()
    full = Counter(k for held in train.classes().values() for k in held)
    parts = {"train": train}
    total = len(train.images)
    for part, share, least in cuts:
        rest = parts["train"]
        held = {image for image, classes in rest.classes().items() if classes}
        wanted = max(1, round(share * total))
        chosen = hold_out(rest, wanted, least, [image for image in order if image in held], full)
        if not chosen:
            raise UserError(
                f"{part}: no image can leave train, where every class keeps half of its images, and {least}; "
                "give a file of its own, or more images"
            )
        parts[part] = rest.only(chosen)
        parts["train"] = rest.only({image.id for image in rest.images} - chosen)
        lost = Counter(k for classes in parts[part].classes().values() for k in classes)
        rare = [k for k, n in full.items() if n <= 10]
        print(
            f"{part}: {len(chosen)} of {total} images cut from train ({wanted} asked); every class keeps "
            f"half of its images there, and {least}; {len(rare)} classes in up to 10 images lose "
            f"{sum(lost[k] for k in rare) / max(len(rare), 1):.2f} on average"
        )
    return parts


def sample(parts: dict[str, Part], most: int | None, seed: int) -> dict[str, Part]:
    """Parts of `most` images at most, for a run of minutes: drawn, those with a class not there yet first.

    None: the parts as they are.
    """
    chosen = {}
    for name, part in parts.items() if most else ():
        order = np.random.default_rng(seed).permutation(sorted(image.id for image in part.images)).tolist()
        classes, seen, known = part.classes(), set(), {}
        for image in order:
            known[image] = classes[image] <= seen
            seen |= classes[image]
        chosen[name] = part.only({*sorted(order, key=known.get)[:most]})
        print(f"{name}: a sample of {min(most, len(order))} of {len(order)} images")
    return chosen or parts


def complete(parts: dict[str, Part]) -> list[dict]:
    """Give all parts the categories that train has objects of, and each image its absent classes.

    Returns:
        The categories as in LVIS v1, by id: with frequency group, image_count and instance_count of train.

    Raises:
        UserError: parts that mean other classes by the same ids, or a train without objects.
    """
    train = parts["train"]
    names = {category.id: category.name for category in train.categories}
    for part, content in parts.items():
        for category in content.categories:
            if names.get(category.id, category.name) != category.name:
                raise UserError(
                    f"{part}: category {category.id} is {category.name!r}, in train {names[category.id]!r}"
                )
    images = Counter(k for held in train.classes().values() for k in held)
    instances = Counter(one.category_id for one in train.annotations)
    categories = sorted((one for one in train.categories if instances[one.id]), key=lambda one: one.id)
    if len(categories) < len(names):
        print(
            f"train: {len(names) - len(categories)} of {len(names)} classes have no object and are left out"
        )
    lvis.refuse_double("train", "categories with objects", "name", [one.name for one in categories])
    known = {category.id for category in categories}
    for part, content in parts.items():
        kept = [one for one in content.annotations if one.category_id in known]
        if lost := len(content.annotations) - len(kept):
            print(f"{part}: {lost} objects of classes that train has none of are left out")
            content.annotations = kept
        if not kept:
            raise UserError(f"{part}: has no objects of train's classes")
        for image in content.images:
            lacking = image.not_exhaustive_category_ids or []
            image.not_exhaustive_category_ids = [k for k in lacking if k in known]
            if image.neg_category_ids is not None:
                image.neg_category_ids = [k for k in image.neg_category_ids if k in known]
    given = all(category.frequency for category in categories)
    groups = Counter()
    made = []
    for one in categories:
        n = images[one.id]
        frequency = one.frequency if given else "r" if n <= 10 else "c" if n <= 100 else "f"
        groups[frequency] += 1
        made.append(
            {
                "id": one.id,
                "name": one.name,
                "synset": one.synset or one.name,
                "synonyms": one.synonyms or [one.name],
                "def": one.definition or "",
                "frequency": frequency,
                "image_count": n,
                "instance_count": instances[one.id],
            }
        )
    told = "as in the file" if given else "by their images in train"
    print(f"classes: {len(made)}, {', '.join(f'{groups[g]} {g}' for g in 'rcf')}, {told}")
    return made


def write(out: str | Path, kind: str, root: Path, parts: dict[str, Part], iou_types: list[str]) -> None:
    """Complete the parts and write the prepared data set.

    Args:
        out: its folder.
        kind: of `fasa.data.DETECTION`.
        root: the folder of images.
        parts: of `PARTS`, in any order, their pictures found.
        iou_types: what can be evaluated.
    """
    categories = complete(parts)
    parts = {part: parts[part] for part in PARTS if part in parts}
    pictures = {
        part: {content.pictures[image.id] for image in content.images} for part, content in parts.items()
    }
    for part, mine in pictures.items():
        if part != "train" and (shared := len(mine & pictures["train"])):
            print(f"{part}: {shared} of {len(mine)} images are train's: it tells less than it seems")
    leaky = not pictures["adapt"].isdisjoint(pictures["val"])
    if leaky:
        print("adapt: has images of val, which is reported on: rows that adapt to it are leaky")
    if not pictures.get("tune", set()).isdisjoint(pictures["val"]):
        print("tune: has images of val, which is reported on: what is chosen there is chosen on the report")
    with replacing_folder(out) as folder:
        for part, content in parts.items():
            _write_part(folder / "annotations" / f"{part}.json", content, categories)
            print(f"{part}: {len(content.images)} images, {len(content.annotations)} objects")
        write_manifest(folder / MANIFEST, set().union(*pictures.values()))
        made = Source(kind=kind, images=str(root), iou_types=iou_types, leaky=leaky, parts=tuple(parts))
        write_source(folder, made)


def _write_part(path: Path, part: Part, categories: list[dict]) -> None:
    """Write an annotation file, an entry a line and one at a time: all of LVIS takes a gigabyte."""
    known, present = {category["id"] for category in categories}, part.classes()
    images = (
        lvis.Image(
            id=image.id,
            file_name=part.pictures[image.id].name,
            coco_url=part.pictures[image.id].name,
            width=image.width,
            height=image.height,
            neg_category_ids=sorted(known - present[image.id] - {*image.not_exhaustive_category_ids})
            if image.neg_category_ids is None
            else image.neg_category_ids,
            not_exhaustive_category_ids=image.not_exhaustive_category_ids,
        )
        for image in part.images
    )
    annotations = (
        lvis.Annotation(
            id=one.id,
            image_id=one.image_id,
            category_id=one.category_id,
            bbox=one.bbox,
            area=one.area,
            segmentation=one.segmentation,
        )
        for one in part.annotations
    )
    with open(path, "wb") as file:
        for section, entries in (
            ("categories", categories),
            ("images", images),
            ("annotations", annotations),
        ):
            file.write(b"{" if section == "categories" else b"],\n")
            file.write(f'"{section}":['.encode())
            for place, entry in enumerate(entries):
                file.write((b",\n" if place else b"\n") + msgspec.json.encode(entry))
        file.write(b"]}\n")
