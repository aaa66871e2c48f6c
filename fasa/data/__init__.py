"""Data sets as kinds behind one small contract: a module a kind, with `Settings` and one function.

Detection: ``prepare(settings, out)`` leaves, whole or not at all, an annotation file in the format of LVIS v1
for each part and ``out/source.json``, which says where the images are; see `fasa.data.prepared`.
Classification: ``load(settings, seed)`` returns a `fasa.data.images.LongTailed`; what has to be downloaded
first has ``fetch(settings)`` too.

A new kind is a module and a name in `fasa.data.kinds`.
"""

from pathlib import Path
from typing import Literal

import msgspec

from fasa.errors import UserError


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What ``source.json`` says of a prepared data set.

    Args:
        kind: one of `fasa.data.kinds.DETECTION`.
        images: the folder that ``coco_url`` is relative to, mmdet's `data_prefix`.
        iou_types: what can be evaluated: "segm" and "bbox", or "bbox" where there are no masks.
        leaky: whether the adaptation split is what is reported on.
        parts: what there is of `fasa.data.prepared.PARTS`; all but ``tune`` always are.
    """

    kind: str
    images: str
    iou_types: list[Literal["segm", "bbox"]]
    leaky: bool = False
    parts: tuple[str, ...] = ("train", "adapt", "val")


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
