"""A job becomes a trained classifier and its metrics."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np

from fasa.classification.job import Job
from fasa.classification.training import train
from fasa.data.images import LongTailed


def run(job: Job, data: LongTailed, work_dir: Path) -> dict[str, Any]:
    """Train one row on one set, taking up what a killed run left in `work_dir`.

    Returns:
        Plain data, None where nothing was measured: metrics, accuracies in percent after the last epoch and
        what FASA did; per_class, counts and names of the classes; right, a bit for each of the tested images,
        whether it was, packed and in base 64; passes, a record of each adaptation pass; curve, of each epoch;
        leaky, whether the row adapted to the images that it is judged on; images_per_second, the one number
        that differs from run to run.
    """
    settings, schedule = job.settings, job.schedule
    amp = job.precision == "bfloat16"
    outcome = train(
        data, schedule, settings, job.seed, job.threads, work_dir, amp=amp, shots=tuple(job.shots)
    )
    metrics = dict(accuracy=outcome.accuracy, **outcome.shots)
    if settings.augmenter:
        iterations = schedule.epochs * -(-len(data.train.labels) // schedule.batch)
        metrics["virtual_per_iteration"] = sum(outcome.drawn) / iterations
        metrics["fasa_adaptations"] = len(outcome.history)
        if outcome.history:
            metrics["fasa_groups"] = max(outcome.history[-1]["group"]) + 1
    return dict(
        metrics={name: value for name, value in metrics.items() if value == value},
        per_class=[None if value != value else value for value in outcome.per_class.tolist()],
        counts=data.counts.tolist(),
        names=data.names,
        tested=len(outcome.right),
        right=b64encode(np.packbits(outcome.right)).decode(),
        passes=[{name: _plain(values) for name, values in one.items()} for one in outcome.history],
        curve=outcome.curve,
        leaky=bool(settings.augmenter) and settings.adapt_split == "test",
        images_per_second=outcome.images_per_second,
    )


def _plain(values: Any) -> Any:
    """Without NaN, which JSON does not have."""
    return [None if value != value else value for value in values] if isinstance(values, list) else values
