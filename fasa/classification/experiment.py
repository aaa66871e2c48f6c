"""A row of params.yaml becomes a trained classifier and its metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasa.classification.rows import Schedule, read_row
from fasa.data.classification import KINDS, load
from fasa.errors import UserError
from fasa.sections import at_least, is_number, known, strict


@dataclass(frozen=True)
class Set:
    """A data set and how to train on it.

    Args:
        kind: one of `fasa.data.classification.KINDS`.
        seed: of what is drawn; the same for all rows.
        data: settings of the kind; what is left out has its default.
        schedule: see `Schedule`.
        shots: few-shot classes have fewer images than the first, many-shot ones more than the second.
        threads: of the CPU.
        precision: of the network up to the embeddings.
    """

    kind: str
    seed: int = at_least(0)
    data: dict
    schedule: dict
    shots: list
    threads: int = at_least(1)
    precision: str = known(("float32", "bfloat16"))


def read_set(sets: dict[str, Any], name: str) -> tuple[Set, Schedule]:
    """The set `name` of the section `sets`, every key of it checked.

    Raises:
        UserError: there is no such set, or a key or a value of it that is not known.
    """
    if name not in sets:
        raise UserError(f"params.yaml: there is no set {name!r}; known: {', '.join(sorted(sets))}")
    chosen = strict(Set, sets[name], f"sets.{name}")
    if chosen.kind not in KINDS:
        raise UserError(f"params.yaml: sets.{name}.kind is {chosen.kind!r}; known: {', '.join(KINDS)}")
    strict(KINDS[chosen.kind].Settings, chosen.data, f"sets.{name}.data")
    if (
        len(chosen.shots) != 2
        or not all(map(is_number, chosen.shots))
        or chosen.shots != sorted(chosen.shots)
    ):
        raise UserError(
            f"params.yaml: sets.{name}.shots is {chosen.shots!r}, not two numbers, the smaller first"
        )
    return chosen, strict(Schedule, chosen.schedule, f"sets.{name}.schedule")


def run(section: dict[str, Any], set_name: str, row: str, seed: int, work_dir: Path) -> dict[str, Any]:
    """Train one row on one set, taking up what a killed run left in `work_dir`.

    Args:
        section: `classification` of params.yaml, with its `sets` and `rows`.

    Returns:
        Plain data, None where nothing was measured: metrics, accuracies in percent after the last epoch and
        what FASA did; per_class, counts and names of the classes; passes, a record of each adaptation pass;
        leaky, whether the row adapted to the images that it is judged on; images_per_second, the one number
        that differs from run to run.
    """
    from fasa.classification.training import train

    chosen, schedule = read_set(section["sets"], set_name)
    settings = read_row(section["rows"], row)
    data = load(chosen.kind, chosen.data, chosen.seed)
    amp = chosen.precision == "bfloat16"
    outcome = train(
        data, schedule, settings, seed, chosen.threads, work_dir, amp=amp, shots=tuple(chosen.shots)
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
        passes=[{name: _plain(values) for name, values in one.items()} for one in outcome.history],
        leaky=bool(settings.augmenter) and settings.adapt_split == "test",
        images_per_second=outcome.images_per_second,
    )


def _plain(values: Any) -> Any:
    """Without NaN, which JSON does not have."""
    return [None if value != value else value for value in values] if isinstance(values, list) else values
