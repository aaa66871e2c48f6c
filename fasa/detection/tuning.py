"""A candidate of a tuning study is tried: its rows are trained and judged on images held out for that."""

import json
import time
from importlib import import_module
from pathlib import Path

from msgspec.structs import replace

from fasa import traits
from fasa.data.compact import annotations
from fasa.detection import worker
from fasa.detection.evaluate import Detected, detect_part, measured
from fasa.detection.experiment import augmenter_metrics, train_row, train_warmup
from fasa.detection.overridden import overridden
from fasa.detection.pretraining import train_backbone
from fasa.detection.resume import LAST
from fasa.evaluation import OLD, POOL, judge, tide
from fasa.files import replacing
from fasa.job import MODEL, Candidate, Job
from fasa.sections import read


def try_out(candidate: Candidate, warmup: Path, part: str, work: Path) -> dict[str, dict[str, float]]:
    """Train the rows of a candidate and judge them; what was interrupted goes on from where it was.

    Args:
        warmup: the profile's checkpoint, for a candidate that has none of its own.
        part: of the data, on which to judge.
        work: folder of unfinished work.

    Returns:
        Of each row: AP_Old, AP_Pool and TIDE's errors of masks and boxes, named as by `measured`; what its
        augmenter did; of a training that was not interrupted iteration_ms, with all that comes in between.
    """
    first = candidate.rows[0]
    own = dict(data=first.data)
    if candidate.data:
        own["data"] = str(work / "data")
        if not Path(own["data"]).exists():
            kind = import_module(candidate.data["module"])
            kind.prepare(read(kind.Settings, candidate.data["settings"]), own["data"])
    annotations(own["data"], part)  # before hours of training
    if candidate.pretrain:
        own["pretrained"] = str(work / "pretrain.pth")
        if not Path(own["pretrained"]).exists():
            cfg = overridden(Path(traits.CONFIGS, first.configs, f"{MODEL}.py"), first.config, first.profile)
            train_backbone(cfg.model, own["data"], candidate.pretrain, first.threads, Path(own["pretrained"]))
    if candidate.warmup:
        warmup = work / "warmup.pth"
        if not warmup.exists():
            shared = replace(candidate.warmup, **own)
            worker.run(train_warmup, shared, work_dir=work / "warmup", out=warmup)
    return {job.row: _metrics(replace(job, **own), warmup, part, work / job.row) for job in candidate.rows}


def _metrics(job: Job, warmup: Path, part: str, work: Path) -> dict[str, float]:
    path, checkpoint, did = work / "metrics.json", work / "model.pth", work / "history.json"
    if path.exists():
        return json.loads(path.read_text())
    start, whole = time.perf_counter(), not Path(work, LAST).exists()
    worker.run(train_row, job, warmup=warmup, work_dir=work, out=checkpoint, history=did)
    history = json.loads(did.read_text())
    milliseconds = 1000 * (time.perf_counter() - start) / history["iterations"]
    metrics = augmenter_metrics(history)
    if whole:  # an interrupted training has part of its time elsewhere
        metrics["iteration_ms"] = milliseconds
    worker.run(detect_part, job, checkpoint=checkpoint, part=part, out=work)
    detected = Detected.load(work, job, part)
    for kind, matches in detected.matches.items():
        for protocol in (OLD, POOL):
            metrics |= measured(kind, protocol.name, judge(matches, protocol).summary)
        errors = tide(f"{job.data}/annotations/{part}.json", detected.best[kind], kind)
        metrics |= measured(kind, "tide", errors.main | errors.special)
    with replacing(path, "w") as file:
        file.write(json.dumps(metrics))
    return metrics
