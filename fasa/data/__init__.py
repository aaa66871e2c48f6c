"""Data sets as kinds behind one small contract: a module a kind, with `Settings` and one function.

Detection: ``prepare(settings, out)`` leaves, whole or not at all, ``out/annotations/{train,adapt,val}.json``
in the format of LVIS v1 and ``out/source.json``, which says where the images are; see `fasa.data.prepared`.
Classification: ``load(settings, seed)`` returns a `fasa.data.images.LongTailed`; what has to be downloaded
first has ``fetch(settings)`` too.

A new kind is a module and a name below. Modules are imported when their kind is asked for, so that a stage
depends on its own kind only.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec

from fasa.errors import UserError
from fasa.sections import Section, read

DETECTION = {
    "glyphs": "fasa.data.glyphs",
    "coco": "fasa.data.coco",
    "lvis_v1": "fasa.data.lvis_v1",
}
CLASSIFICATION = {
    "glyphs": "fasa.data.glyph_crops",
    "digits": "fasa.data.digits_lt",
    "cifar100": "fasa.data.cifar_lt",
    "folder": "fasa.data.folder",
}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What ``source.json`` says of a prepared data set.

    Args:
        kind: one of `DETECTION`.
        images: the folder that ``coco_url`` is relative to, mmdet's `data_prefix`.
        iou_types: what can be evaluated: "segm" and "bbox", or "bbox" where there are no masks.
        leaky: whether the adaptation split is what is reported on.
    """

    kind: str
    images: str
    iou_types: list[Literal["segm", "bbox"]]
    leaky: bool = False


def source(out: str | Path) -> Source:
    """Return what a prepared folder holds, `images` as a path from here.

    Raises:
        UserError: a folder that is no prepared data set.
    """
    path = Path(out, "source.json")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Source)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path}: does not describe a prepared data set ({reason}); prepare it anew"
        ) from None
    return msgspec.structs.replace(found, images=str(Path(out, found.images)))


def find(kinds: Mapping[str, str], section: Any, where: str) -> tuple[ModuleType, Section]:
    """Return the module of a section's `kind`, and the section as its `Settings`.

    Args:
        kinds: `DETECTION` or `CLASSIFICATION`.
        section: of params.yaml, plain data.
        where: its dotted path there.

    Raises:
        UserError: an unknown kind, or a key or value that it does not take.
    """
    kind = section.get("kind") if isinstance(section, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"params.yaml: {where}.kind is {kind!r}; known: {', '.join(kinds)}")
    module = import_module(kinds[kind])
    return module, read(module.Settings, section, where)
