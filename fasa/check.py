"""``python -m fasa.check``: what is installed, whether mmcv's ops run, whether prepared data are complete.

    python -m fasa.check                     and the data sets in data/
    python -m fasa.check --images FOLDER     and a folder elsewhere; every image is read, which takes its time

Exits with status 1 when a package is missing, an op fails on a visible device, or a data set is incomplete.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from fasa.command import command
from fasa.data import source
from fasa.data.compact import open_compact
from fasa.data.lvis import check_images, read, relative
from fasa.data.pictures import decode_error, read_manifest
from fasa.data.prepared import MANIFEST
from fasa.errors import UserError
from fasa.files import readable_errors
from fasa.pipeline.project import root

LIBRARY = ["torch", "numpy", "scikit-learn", "mmcv", "mmengine", "mmdet"]
PIPELINE = ["dvc", "papermill", "jupyterlab", "lvis", "pycocotools", "matplotlib"]


class Row(NamedTuple):
    """One line of the report."""

    fine: bool
    name: str
    text: str


def packages() -> Iterator[Row]:
    """Yield the version of each package that the pipeline needs, without importing it."""
    yield Row(True, "Python", f"{platform.python_version()}, {sys.executable}")
    for name in LIBRARY + PIPELINE:
        try:
            yield Row(True, name, version(name))
        except PackageNotFoundError:
            yield Row(False, name, "missing; set up again: rm -f .venv/.ready && make test")


def devices() -> list[str]:
    """Return the devices that torch can use here, ``["cpu"]`` or ``["cpu", "cuda"]``."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def describe(device: str) -> str:
    """Return a device's name, its threads or memory, and whether training in bfloat16 is faster on it.

    Of CPUs it is on those with AMX, see ``benchmarks/precision``; AVX-512 alone can, but is slower.
    """
    import torch

    if device == "cpu":
        can = torch.cpu.get_capabilities()
        bf16 = can.get("amx_bf16")
        threads = torch.get_num_threads()
        text = f"{can.get('cpu_name') or platform.machine()}, {threads} thread{'s' * (threads > 1)}"
    else:
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        bf16 = torch.cuda.is_bf16_supported()
        text = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
    return f"{text}, bfloat16 pays: {'yes' if bf16 else 'no'}"


def ops_error(device: str) -> str | None:
    """Run mmcv's NMS and RoIAlign on tiny input, forward and backward; return one line if they fail."""
    try:
        import torch
        from mmcv.ops import RoIAlign, nms

        # The first two boxes have an IoU of 0.75; the third lies apart.
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 11], [20, 20, 30, 30]], device=device)
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1].tolist()
        if kept != [0, 2]:
            return f"nms kept the boxes {kept} instead of [0, 2]"

        # Bilinear weights sum to one: ones stay ones, and the gradients sum to the number of outputs.
        ones = torch.ones(1, 2, 8, 8, device=device, requires_grad=True)
        rois = RoIAlign(output_size=2, sampling_ratio=1)(
            ones, torch.tensor([[0.0, 1, 1, 6, 6]], device=device)
        )
        rois.sum().backward()
        if not (torch.allclose(rois, torch.ones_like(rois)) and torch.isclose(ones.grad.sum(), rois.sum())):
            return "RoIAlign returned wrong values"
    except Exception as error:  # of the build, the loader or the driver: it is what the reader must see
        return (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
    return None


def ops() -> Iterator[Row]:
    """Yield whether mmcv's compiled ops run, for each device."""
    for device in devices():
        if error := ops_error(device):
            yield Row(False, device, f"{error}; build them anew: rm .venv/.ready && make test")
        else:
            yield Row(True, device, "nms and RoIAlign run, forward and backward")


def data_set(folder: Path, images: bool = False) -> Row:
    """Return whether a prepared data set is complete and its images are still those that were prepared.

    Args:
        folder: what `fasa.data` prepared.
        images: whether every image is read, to find those that are cut off.
    """
    sizes, paths = [], {}
    try:
        found = source(folder)
        for part in found.parts:
            annotations = read(folder / "annotations" / f"{part}.json", train=part == "train")
            check_images(found.images, annotations)
            open_compact(folder / "annotations" / f"{part}.json")
            paths |= dict.fromkeys(
                Path(found.images, relative(image.coco_url)) for image in annotations.images
            )
            sizes.append(f"{part} {len(annotations.images)}")
        read_all = tqdm(paths if images else (), desc="images", unit="", mininterval=1, disable=None)
        broken = [error for path in read_all if (error := decode_error(path))]
        broken += changed(folder / MANIFEST, Path(found.images))
    except UserError as error:
        return Row(False, folder.name, str(error))
    if broken:
        return Row(False, folder.name, f"{broken[0]}, with {len(broken) - 1} others")
    leaky = "; leaky, adapt has images of val" if found.leaky else ""
    return Row(True, folder.name, f"{found.kind}, ready, images: {', '.join(sizes)}{leaky}")


def changed(manifest: Path, folder: Path) -> list[str]:
    """Return a line for each image that is another file than when the data set was prepared."""
    lines = []
    for one in read_manifest(manifest) if manifest.exists() else []:
        with readable_errors(folder / one.name):
            state = os.stat(folder / one.name)
        if (state.st_size, state.st_mtime_ns) != (one.bytes, one.mtime):
            lines.append(f"{folder / one.name}: has changed since it was prepared; prepare the data anew")
    return lines


def _here() -> Path:
    """The repository's root, called from inside one, else the current folder."""
    try:
        return Path(os.path.relpath(root()))
    except UserError:
        return Path()


def data_sets(folders: Iterable[Path], images: bool = False) -> Iterator[Row]:
    """Yield a row for each folder, or for those in data/; none that was not made yet is fine."""
    folders = list(folders) or sorted(path.parent for path in _here().glob("data/*/source.json"))
    if not folders:
        yield Row(True, "data", "none prepared yet; `make repro` does it")
    for folder in folders:
        yield data_set(folder, images)


def report(folders: Iterable[Path] = (), images: bool = False) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yield the sections of the report, title and rows."""
    yield "Packages", packages()
    yield "Devices", (Row(True, device, describe(device)) for device in devices())
    yield "mmcv's compiled ops", ops()
    yield "Data sets", data_sets(folders, images)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the report, a ! before what needs mending, and return the exit status."""
    parser = argparse.ArgumentParser(prog="fasa check", description=__doc__.partition(": ")[2])
    parser.add_argument("folders", nargs="*", type=Path, help="prepared data sets; those in data/ if none")
    parser.add_argument("--images", action="store_true", help="read every image, to find those cut off")
    chosen = parser.parse_args(argv)
    fine = True
    for title, rows in report(chosen.folders, chosen.images):
        print(title)
        for row in rows:
            fine &= row.fine
            print(f"{' ' if row.fine else '!'} {row.name:<13} {row.text}", flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
