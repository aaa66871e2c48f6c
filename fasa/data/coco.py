"""A data set of one's own: photos in a folder, and annotation files in the style of COCO or LVIS.

Polygons, both kinds of RLE, crowd regions, boxes without masks, ids with gaps; what LVIS has and COCO has not
is filled in, see `fasa.data.importing`. Photos stay where they are.
"""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from fasa.data import importing
from fasa.data.importing import Cut
from fasa.data.pictures import locate
from fasa.data.prepared import PARTS
from fasa.errors import UserError
from fasa.sections import Positive, Section, Seed, Text

Portion = Annotated[float, Meta(gt=0, lt=1)]


class Folders(Section):
    """A folder of images a part, where they are not all in one."""

    train: str
    val: str
    adapt: str | None = None  # train's
    tune: str | None = None  # train's


class Settings(Section, tag_field="kind", tag="coco", kw_only=True):
    """Where the files are.

    Args:
        train: the annotation file.
        val: that of what is reported on, or the share of train's images that is cut out for it.
        adapt: that of what FASA adapts to, or the share of train's images that is cut out for it; see
            `importing.hold_out` for what a rare class loses.
        tune: that of what settings are chosen on, or the share; None: no such part.
        images: the folder of all images, or one of each part.
        seed: of the cuts.
        masks: False takes boxes only; True insists on a mask of every object; None takes what there is.
        sample: images to take of each part, for a run of minutes on data that are checked in full; None: all.
    """

    train: Text
    val: Text | Portion = 0.2
    adapt: Text | Portion = 0.1
    tune: Text | Portion | None = None
    images: Text | Folders
    seed: Seed = 0
    masks: bool | None = None
    sample: Positive | None = None


def prepare(settings: Settings, out: str | Path) -> None:
    """Check the files and leave the parts in `out`, printing what was left out, derived or cut.

    Raises:
        UserError: files that are missing or contradict themselves; nothing is written.
    """
    folders = settings.images
    if isinstance(folders, str):
        folders = Folders(train=folders, val=folders)
    folder = {part: getattr(folders, part) or folders.train for part in PARTS}
    for one in folder.values():
        if not Path(one).is_dir():
            raise UserError(f"{one}: is no folder; data.images names where the images are")
    root = Path(os.path.commonpath([os.path.abspath(one) for one in folder.values()]))
    given = {part: getattr(settings, part) for part in PARTS}
    parts, has_masks = {}, set()
    for part, path in given.items():
        if isinstance(path, str):
            content = parts[part] = importing.read(path)
            has_masks.add(importing.tidy(path, content, settings.masks))
            content.pictures = locate(content.images, root, os.path.relpath(folder[part], root), path)
    if len(has_masks) > 1:
        raise UserError(
            "data: some files have masks and others none; set data.masks: false to use boxes only"
        )
    cuts = [
        Cut(part, given[part], least)
        for part, least in (("adapt", 2), ("val", 1), ("tune", 2))
        if isinstance(given[part], float)
    ]
    parts |= importing.split(parts["train"], cuts, settings.seed)
    parts = importing.sample(parts, settings.sample, settings.seed)
    importing.write(out, "coco", root, parts, ["segm", "bbox"] if has_masks == {True} else ["bbox"])
