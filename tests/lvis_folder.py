"""Small folders laid out exactly as LVIS v1, for tests that cannot download it."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

GROUPS = dict(r=337, c=461, f=405)  # of LVIS v1
HOST = "http://images.cocodataset.org/"


def categories() -> list[dict]:
    """The 1,203 classes of LVIS v1 with their counts, in its form; synsets and definitions are made up."""
    lines = Path(__file__).with_name("lvis_v1_categories.tsv").read_text().splitlines()[1:]
    classes = []
    for k, line in enumerate(lines, start=1):
        name, images, instances = line.split("\t")
        classes.append(
            {
                "id": k,
                "name": name,
                "synset": f"{name}.n.01",
                "synonyms": [name],
                "def": f"the class {k}",
                "frequency": "r" if int(images) <= 10 else "c" if int(images) <= 100 else "f",
                "image_count": int(images),
                "instance_count": int(instances),
            }
        )
    return classes


def write_lvis(
    folder: Path,
    train: int = 200,
    val: int = 20,
    objects: int = 13,
    corners: int = 6,
    weights=None,
    classes=None,
) -> Path:
    """Write ``train2017``, ``val2017`` and the two annotation files.

    Args:
        train, val: images; four fifths of val's lie in ``train2017``, about as of LVIS's.
        objects: of each image. The first of train's are of every class in turn.
        corners: of each polygon.
        weights: how often each class is drawn, (K,); default: alike.
        classes: in place of `categories()`: other categories in LVIS's form.
    """
    rng = np.random.default_rng(1)
    classes = classes or categories()
    ids = [one["id"] for one in classes]
    share = None if weights is None else np.array(weights) / np.sum(weights)
    width, height, first, annotation_id = 64, 48, 0, 0
    for part, number in (("train", train), ("val", val)):
        (folder / f"{part}2017").mkdir(parents=True, exist_ok=True)
        content = {"info": {"version": "v1.0"}, "licenses": [], "images": [], "annotations": []}
        for place in range(number):
            image_id = first + place + 1
            where = "train2017" if part == "train" or place % 5 else "val2017"
            name = f"{where}/{image_id:012d}.jpg"
            if place % 100 == 0:
                drawn = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(drawn).save(folder / name)
                drawn_at = folder / name
            else:
                os.link(drawn_at, folder / name)
            labels = rng.choice(ids, objects, p=share).tolist()
            for seat in range(objects):
                if part == "train" and place * objects + seat < len(ids):
                    labels[seat] = ids[place * objects + seat]
            absent = sorted({*ids} - {*labels})[place % 7 :: 150]
            content["images"].append(
                {
                    "id": image_id,
                    "coco_url": HOST + name,
                    "width": width,
                    "height": height,
                    "neg_category_ids": absent,
                    "not_exhaustive_category_ids": labels[:1] if place % 10 == 0 else [],
                    "license": 1,
                    "date_captured": "2013-11-14 11:18:45",
                }
            )
            for label in labels:
                annotation_id += 1
                middle = rng.uniform((16, 12), (48, 36))
                angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
                ring = np.round(
                    middle + rng.uniform(3, 10) * np.stack([np.cos(angles), np.sin(angles)], 1), 2
                )
                low, high = ring.min(0), ring.max(0)
                content["annotations"].append(
                    {
                        "id": annotation_id,
                        "image_id": image_id,
                        "category_id": label,
                        "bbox": np.round([*low, *(high - low)], 2).tolist(),
                        "area": round(float(np.prod(high - low)) * 0.7, 2),
                        "segmentation": [ring.ravel().tolist()],
                    }
                )
        first += number
        content["categories"] = classes
        (folder / f"lvis_v1_{part}.json").write_text(json.dumps(content))
    return folder
