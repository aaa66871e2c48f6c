"""What a profile's stages will take, before anyone pays for it: GPU hours, memory and disk.

    fasa plan --profile lvis --gpus 8

From parts that were measured for the models of ``configs/lvis``; for others from the seconds of a stage in
dvc.yaml. It is arithmetic: loading that a GPU waits for, and other GPUs, change it.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from fasa.data import lvis, lvis_v1
from fasa.errors import UserError
from fasa.job import Job, Schedule
from fasa.params import Params, Profile
from fasa.report.tables import markdown
from fasa.rows import compose, shared_warmup

RARELY = "rfs"  # the trait that repeats images


class Model(NamedTuple):
    """Median seconds of an iteration and peak GB of GPU memory, of 2 and of 8 images; GB of a checkpoint.

    Images of 800 x 1,333 pixels, 1,203 classes, FASA on; the checkpoint is the sum of its layers.
    """

    seconds: tuple[float, float]
    memory: tuple[float, float]
    checkpoint: float


# benchmarks/gpu/results.jsonl, parts `detectors` and `adaptation`: float32 with TF32 convolutions
GPU = "NVIDIA H200"
MODELS = {
    "mask_rcnn": Model((0.132, 0.330), (5.27, 19.02), 0.20),
    "mask_rcnn_r101": Model((0.141, 0.412), (7.18, 26.22), 0.28),
    "cascade_rcnn": Model((0.175, 0.642), (9.31, 32.75), 0.40),
}
PASS_IMAGE = 0.013  # seconds an image of an adaptation pass, of mask_rcnn
# Guessed, or arithmetic on what was measured at another size
DETECT_IMAGE = 0.2  # seconds: 2 passes, and some 500 masks written on a core at 0.3 ms each
DETECTIONS_IMAGE = 7.5e-5  # GB: 300 with a mask of 250 bytes
REGROUP = 10  # seconds of Mean-shift on 1,203 classes, which no GPU does; 5 to 12 on a core at other loads
REPORT = 60  # seconds of a core
HOST = 8  # GB of host memory to read all of train's annotations as the notebooks do; a tenth was measured
PREPARE_IMAGE = 0.005  # seconds of a core to check an image and its annotations
ANNOTATIONS_IMAGE = 2.4e-5  # GB, as JSON and in a compact form


class Images(msgspec.Struct):
    """Images of each part, and how many a pass over train has where rare classes are repeated."""

    train: int
    adapt: int
    val: int
    repeated: int


class Taken(NamedTuple):
    """What a stage takes: hours of a GPU and of a core, GB of GPU memory at its peak, GB that it leaves."""

    gpu: float = 0.0
    core: float = 0.0
    memory: float = 0.0
    disk: float = 0.0


class Head(msgspec.Struct):
    """The part of an annotation file that tells how many images and which classes there are."""

    images: list[msgspec.Raw]
    categories: list[lvis.Category]


def images(profile: str, scale: Profile, threshold: float) -> Images:
    """How many images there are: of the prepared data, or else those that LVIS v1 has published.

    Repeats are an upper bound: as if no image held two rare classes.

    Raises:
        UserError: of another kind that is not prepared.
    """
    folder, data = Path("data", profile, "annotations"), scale.data
    if (folder / "train.json").exists():
        heads = {part: lvis.decode(folder / f"{part}.json", Head) for part in ("train", "adapt", "val")}
        found = {part: len(head.images) for part, head in heads.items()}
        counts = [one.image_count for one in heads["train"].categories]
    elif data.get("kind") == "lvis_v1":
        settings = msgspec.convert(data, lvis_v1.Settings)
        train, val = lvis_v1.IMAGES["train"], lvis_v1.IMAGES["val"]
        adapt = val if settings.adapt == "val" else round(settings.adapt * train)
        found = dict(train=train - (settings.adapt != "val") * adapt, adapt=adapt, val=val)
        if settings.sample:
            found = {part: min(n, settings.sample) for part, n in found.items()}
        counts = None
    else:
        raise UserError(
            f"{folder}: is not prepared yet, so its size is not known; run: fasa run data@{profile}"
        )
    train = found["train"]
    if counts is None:
        more = lvis_v1.REPEATED * train
    else:
        more = sum(n * (math.ceil(max(1, math.sqrt(threshold * train / n))) - 1) for n in counts)
    return Images(**found, repeated=round(train + more))


def estimates(params: Params, profile: str, gpus: int) -> Iterator[tuple[str, Taken]]:
    """What each stage of a profile on the paper's models takes, by the name of its family."""
    scale, chosen = params.sections[profile], params.run
    hour = 3600
    there = images(profile, scale, scale.traits.get(RARELY, {}).get("threshold", 1e-3))
    all_images = there.train + there.adapt + there.val
    yield (
        "data",
        Taken(core=PREPARE_IMAGE * all_images / hour, disk=ANNOTATIONS_IMAGE * all_images),
    )
    for seed in chosen.seeds:
        if scale.warmup:
            yield "warmup", training(shared_warmup(params, profile, seed), scale.warmup, there, gpus)
    for row in chosen.rows:
        jobs = [compose(params, profile, row, seed) for seed in chosen.seeds]
        for job in jobs:
            parts = [training(job, job.train, there, gpus)]
            if job.own_warmup and scale.warmup:
                parts.append(training(job, scale.warmup, there, gpus))
            yield (
                "train",
                Taken(sum(one.gpu for one in parts), 0, max(one.memory for one in parts), parts[0].disk),
            )
            yield (
                "evaluate",
                Taken(
                    gpu=DETECT_IMAGE * there.val / hour,
                    memory=of_batch(model_of(job).memory, 2),
                    disk=DETECTIONS_IMAGE * there.val,
                ),
            )
        short = msgspec.structs.replace(
            jobs[0].train, iterations=scale.cost.iterations, epochs=None, steps=[], ramp=0, final=1.0
        )
        short = msgspec.structs.replace(short, batch=scale.cost.batch or short.batch)
        cost = training(msgspec.structs.replace(jobs[0], adapt_every=None), short, there, 1)
        once = PASS_IMAGE * there.adapt / hour if jobs[0].adapt_every is not None else 0
        yield "cost", Taken(cost.gpu + once, 0, cost.memory)
    yield "report", Taken(core=REPORT / hour)


def training(job: Job, schedule: Schedule, there: Images, gpus: int) -> Taken:
    """What one run of a model takes, with its adaptation passes."""
    model = model_of(job)
    per_epoch = -(-(there.repeated if RARELY in job.traits else there.train) // schedule.batch)
    iterations = schedule.iterations or schedule.epochs * per_epoch
    each = schedule.batch // gpus
    seconds = iterations * of_batch(model.seconds, each) * gpus
    if job.adapt_every is not None:
        passes = iterations / (job.adapt_every or per_epoch)
        slower = model.seconds[1] / MODELS["mask_rcnn"].seconds[1]
        seconds += passes * (PASS_IMAGE * slower * there.adapt + REGROUP * gpus)
    return Taken(seconds / 3600, 0, of_batch(model.memory, each), model.checkpoint)


def model_of(job: Job) -> Model:
    """What is known of a job's model.

    Raises:
        UserError: nothing.
    """
    if job.model not in MODELS:
        known = ", ".join(MODELS)
        raise UserError(f"params.yaml: rows.{job.row}.model: {job.model} was not measured, only {known} were")
    return MODELS[job.model]


def of_batch(measured: tuple[float, float], batch: float) -> float:
    """What a batch takes, on the line through what 2 and 8 images took."""
    two, eight = measured
    return two + (eight - two) / 6 * (batch - 2)


def by_seconds(planned: list[str]) -> Iterator[tuple[str, Taken]]:
    """What each stage takes as dvc.yaml has it: seconds of a core, at the embedded profile's scale."""
    written = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for name in planned:
        family = name.partition("@")[0]
        if family in written:
            stage = written[family]
            seconds = (stage.get("do") or stage).get("meta", {}).get("seconds", {})
            yield family, Taken(core=seconds.get("embedded", 0) / 3600)


def report(params: Params, profile: str, planned: list[str], gpus: int) -> str:
    """The table of a profile.

    Args:
        planned: the names of its stages.
        gpus: of a run.

    Raises:
        UserError: nothing is known of it.
    """
    scale = params.sections[profile]
    if scale.train.batch % gpus:
        raise UserError(f"--gpus: a batch of {scale.train.batch} cannot be shared out among {gpus}")
    on_gpu = (scale.configs or profile) == "lvis"
    found = estimates(params, profile, gpus) if on_gpu else by_seconds(planned)
    families: dict[str, list[Taken]] = {}
    for family, taken in found:
        families.setdefault(family, []).append(taken)
    body = []
    total = Taken(*(sum(sum(one[i] for one in many) for many in families.values()) for i in range(4)))
    for family, many in families.items():
        gpu, core, _, disk = map(sum, zip(*many, strict=True))
        memory = max(one.memory for one in many)
        body.append([family, str(len(many)), *map(cell, (gpu, core, memory, disk))])
    number = sum(map(len, families.values()))
    body.append(["in all", str(number), *map(cell, (total.gpu, total.core, 0, total.disk))])
    table = markdown(["stages", "n", "GPU hours", "core hours", "GPU GB", "disk GB"], body)
    return f"{table}\n\n{said(params, profile, gpus, on_gpu, total)}"


def said(params: Params, profile: str, gpus: int, on_gpu: bool, total: Taken) -> str:
    """What has to be known to trust the table."""
    if not on_gpu:
        return (
            "An estimate from the seconds in dvc.yaml, of a core at the embedded profile's scale; tuning "
            "studies are left out, and what takes seconds.\n"
            "Two stages side by side on two cores halve the time."
        )
    repeats = any(RARELY in params.rows[row].traits for row in params.run.rows)
    batch, each = params.sections[profile].train.batch, f"on {gpus} of them" if gpus > 1 else "on one"
    lines = [
        f"An estimate for {GPU}s, each run {each}, {batch // gpus} images on each: "
        f"{total.gpu / gpus:.0f} hours, one run after the other.",
        "Measured: seconds and memory of an iteration, its images in memory (benchmarks/gpu); FASA's passes.",
        f"Guessed: detection, {DETECT_IMAGE} s an image; disk; that loading keeps up"
        + ("; RFS at most, as if no image held two rare classes." if repeats else "."),
        f"Host memory: {HOST} GB where a notebook reads all annotations; ranks share theirs, 2 GB a host.",
        "Disk: what DVC's cache keeps, twice that where it copies (dvc config cache.type); LVIS itself takes "
        "21 GB zipped, 22 GB unpacked.",
    ]
    return "\n".join(lines)


def cell(value: float) -> str:
    """Two digits that count."""
    return "" if not value else f"{value:.0f}" if value >= 10 else f"{value:.2g}"
