"""CIFAR-100-LT from a zip of PNGs, and a smaller file of just the images that its runs need.

    python -m benchmarks.gpu.cifar_data cifar-100-png.zip .gpu-data/cifar-100-lt.zip    # 144 MB -> 51 MB

Train is an exponential tail of ratio 100 (10,847 images), adapt what it leaves out, at most 100 images of a
class, test all of test. Classes go by the sorted names of their folders, images by the sorted names of files.
"""

import argparse
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from fasa.data.folder import Settings, load
from fasa.data.images import LongTailed, Split, check
from fasa.files import replacing

PARTS = "train", "adapt", "test"
SIDE = 10  # images to a side of a mosaic: alone, each would pay for its own tables


def pack(data: LongTailed, path: Path) -> None:
    """Write `data` as mosaics in lossless WebP, with a checksum of what must come back."""
    splits = [getattr(data, part) for part in PARTS]
    images = np.concatenate([one.images for one in splits])
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for i in range(0, len(images), SIDE**2):
            tiles = np.zeros((SIDE**2, *images.shape[1:]), np.uint8)
            tiles[: len(images) - i] = images[i : i + SIDE**2]
            buffer = io.BytesIO()
            Image.fromarray(_swap(tiles.reshape(SIDE, SIDE, *images.shape[1:]))).save(
                buffer, "WEBP", lossless=True, exact=True, method=4, quality=75
            )
            archive.writestr(f"{i:06d}.webp", buffer.getvalue())
        about = dict(
            names=data.names,
            flip=data.flip,
            labels=[one.labels.tolist() for one in splits],
            size=images.shape[1:],
            crc32=zlib.crc32(images),
        )
        archive.writestr("about.json", json.dumps(about), zipfile.ZIP_DEFLATED)


def unpack(path: Path) -> LongTailed:
    """What `pack` wrote, to the bit."""
    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("about.json"))
        height, width, channels = about["size"]
        shape = SIDE, height, SIDE, width, channels
        mosaics = [Image.open(archive.open(name)) for name in archive.namelist() if name.endswith(".webp")]
        tiles = [np.asarray(one.convert("RGB")).reshape(shape).swapaxes(1, 2) for one in mosaics]
    labels = [np.array(one, np.int64) for one in about["labels"]]
    ends = np.cumsum([len(one) for one in labels])
    images = np.concatenate([one.reshape(-1, height, width, channels) for one in tiles])[: ends[-1]]
    if zlib.crc32(images) != about["crc32"]:
        raise ValueError(f"{path}: the images are not those that were packed")
    splits = (Split(*pair) for pair in zip(np.split(images, ends[:-1]), labels, strict=True))
    return check(LongTailed(*splits, about["names"], about["flip"]))


def _swap(tiles: np.ndarray) -> np.ndarray:
    """(S, S, H, W, C) -> (S H, S W, C)."""
    rows, columns, height, width, channels = tiles.shape
    return np.ascontiguousarray(tiles.swapaxes(1, 2)).reshape(rows * height, columns * width, channels)


def main() -> None:
    """Packs, and reads back what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pngs", type=Path, help="a zip with train/CLASS/*.png and test/CLASS/*.png")
    parser.add_argument("packed", type=Path, help="the file to write")
    arguments = parser.parse_args()
    data = check(load(Settings(path=str(arguments.pngs), ratio=100), 0))
    pack(data, arguments.packed)
    again = unpack(arguments.packed)
    sizes = [len(getattr(again, part).labels) for part in PARTS]
    print(f"{arguments.packed}: {arguments.packed.stat().st_size / 1e6:.1f} MB, {sizes} images")


if __name__ == "__main__":
    main()
