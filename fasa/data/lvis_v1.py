"""LVIS v1 (Gupta et al., 2019): 1,203 classes on COCO's photos of 2017, from a folder that is there.

    train2017/  val2017/                     COCO's photos; LVIS's val has photos of both
    lvis_v1_train.json  lvis_v1_val.json     here or in annotations/

Photos stay where they are. What is prepared holds their names, sizes and times in place of them.
"""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from fasa.data import fetching, importing
from fasa.data.importing import Cut, Part
from fasa.data.pictures import locate
from fasa.errors import UserError
from fasa.sections import Positive, Section, Seed

CLASSES = 1203
OF_V05 = 1230
GROUPS = dict(r=337, c=461, f=405)
IMAGES = dict(train=100_170, val=19_809)
OBJECTS = 1_270_141  # of train
REPEATED = 0.27  # images that RFS at 1e-3 adds, as a share, at most: from the classes' counts


class Archive(NamedTuple):
    """A zip file that is published.

    Args:
        url: where.
        hash: as pooch writes it.
        size: bytes.
        holds: the file or folder in it.
        unpacked: bytes that this may have.
    """

    url: str
    hash: str
    size: int
    holds: str
    unpacked: int


ARCHIVES = (
    Archive(
        "https://dl.fbaipublicfiles.com/LVIS/lvis_v1_train.json.zip",
        "md5:4410d837f71203af226950447ef9d422",
        350_264_821,
        "lvis_v1_train.json",
        2_000_000_000,
    ),
    Archive(
        "https://dl.fbaipublicfiles.com/LVIS/lvis_v1_val.json.zip",
        "md5:87734a7f895990b9552075d7ce723e27",
        64_026_968,
        "lvis_v1_val.json",
        500_000_000,
    ),
    Archive(
        "http://images.cocodataset.org/zips/train2017.zip",
        "md5:cced6f7f71b7629ddf16f17bbcfab6b2",
        19_336_861_798,
        "train2017",
        25_000_000_000,
    ),
    Archive(
        "http://images.cocodataset.org/zips/val2017.zip",
        "md5:442b8da7639aecaf257c1dceb8ba8c80",
        815_585_330,
        "val2017",
        1_200_000_000,
    ),
)


class Settings(Section, tag_field="kind", tag="lvis_v1", kw_only=True):
    """Where LVIS v1 is, and what of it FASA adapts to.

    Args:
        path: the folder.
        adapt: the share of train's images that is cut out, see `importing.hold_out` for what a rare class
            loses; or "val", the paper's choice: then rows are reported on what they adapted to, and leaky.
        tune: the share of train's images that is cut out to choose settings on; None: no such part.
        seed: of the cuts.
        sample: images to take of each part, for a run of minutes on data that are checked in full; None: all.
        complete: whether the published numbers of images, classes and objects must be met.
        fetch: whether what is not there is downloaded, 20.6 GB, and unpacked, 22 GB.
    """

    path: str
    adapt: Annotated[float, Meta(gt=0, lt=1)] | Literal["val"] = 0.1
    tune: Annotated[float, Meta(gt=0, lt=1)] | None = None
    seed: Seed = 0
    sample: Positive | None = None
    complete: bool = True
    fetch: bool = False


def fetch(settings: Settings) -> None:
    """Download and unpack what is not in the folder; the zip files stay beside it.

    Raises:
        UserError: no network, no room, or other files than those published; the next call goes on.
    """
    folder = Path(settings.path)
    for archive in ARCHIVES:
        if not any((folder / where / archive.holds).exists() for where in ("", "annotations")):
            packed = folder / archive.url.rpartition("/")[2]
            fetching.fetch(archive.url, packed, archive.hash, archive.size)
            fetching.unpack(packed, archive.holds, folder, archive.unpacked)


def prepare(settings: Settings, out: str | Path) -> None:
    """Check LVIS v1 and leave its parts in `out`, printing what was left out, derived or cut.

    Raises:
        UserError: files that are missing, of another version, or contradict themselves; nothing is written.
    """
    if settings.fetch:
        fetch(settings)
    root = Path(settings.path).absolute()
    parts = {}
    for part, path in {part: _file(root, part) for part in ("train", "val")}.items():
        content = parts[part] = importing.read(path)
        refuse_others(path, part, content, settings.complete)
        importing.tidy(path, content, masks=True)
        content.pictures = locate(content.images, root, "", path)
    if settings.adapt == "val":
        parts["adapt"] = parts["val"]
    shares = dict(adapt=settings.adapt, tune=settings.tune)
    cuts = [Cut(part, share, 2) for part, share in shares.items() if isinstance(share, float)]
    parts |= importing.split(parts["train"], cuts, settings.seed)
    parts = importing.sample(parts, settings.sample, settings.seed)
    importing.write(out, "lvis_v1", root, parts, ["segm", "bbox"])


def _file(root: Path, part: str) -> Path:
    name = f"lvis_v1_{part}.json"
    for path in (root / name, root / "annotations" / name):
        if path.exists():
            return path
    raise UserError(
        f"{root / name}: is missing; data.path names the folder of LVIS v1, data.fetch downloads it"
    )


def refuse_others(path: Path, part: str, content: Part, complete: bool) -> None:
    """Refuse LVIS v0.5 and, where all must be there, other numbers than those published.

    Raises:
        UserError: says which number differs.
    """
    if len(content.categories) != CLASSES:
        version = "LVIS v0.5" if len(content.categories) == OF_V05 else "another set"
        raise UserError(
            f"{path}: has {len(content.categories)} classes, so it is {version}; v1 has {CLASSES}"
        )
    groups = {group: sum(one.frequency == group for one in content.categories) for group in GROUPS}
    found = dict(images=len(content.images), **groups)
    wanted = dict(images=IMAGES[part], **GROUPS)
    if part == "train":
        found["objects"], wanted["objects"] = len(content.annotations), OBJECTS
    differ = [f"{found[key]} {key} of {wanted[key]}" for key in wanted if found[key] != wanted[key]]
    if differ and complete:
        raise UserError(f"{path}: has {', '.join(differ)}; set data.complete: false for a part of LVIS v1")
    if differ:
        print(f"{path}: a part of LVIS v1: {', '.join(differ)}")
