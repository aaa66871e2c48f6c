"""Two rows side by side, from what is kept of their runs: bootstrap, gains by class, the main table."""

from collections.abc import Iterable, Sequence
from statistics import mean

import numpy as np

from fasa.evaluation import Interval, interval
from fasa.record import Record
from fasa.report import tables
from fasa.report.figures import FREQUENCY
from fasa.report.summary import Records, metrics, spread, summarise

MAIN = tuple(f"{kind}_{name}" for kind in ("segm", "bbox") for name in ("AP", "APr", "APc", "APf"))


def compare(a: Sequence[Record], b: Sequence[Record], names: Iterable[str] = MAIN) -> dict[str, Interval]:
    """Row b minus row a over the images of val, as `fasa.evaluation.paired_bootstrap` has it.

    Args:
        a, b: the runs of a row, one for each of the same seeds, on the same images and resamples.
        names: of metrics; those that a run lacks are left out.
    """
    there = [name for name in names if all(name in run.replicates for run in (*a, *b))]
    return {name: interval(*difference(a, b, name)) for name in there}


def difference(a: Sequence[Record], b: Sequence[Record], name: str) -> tuple[float, np.ndarray]:
    """Mean of b minus mean of a in one metric: on the images as they are, and on each resample, (R,)."""
    actual = mean(run.metrics[name] for run in b) - mean(run.metrics[name] for run in a)
    resampled = np.mean([run.replicates[name] for run in b], 0) - np.mean(
        [run.replicates[name] for run in a], 0
    )
    # rounded: equal means that were summed in another order are not a difference
    return round(actual, 9), np.round(resampled, 9)


def class_gains(records: Records, against: dict[str, str], kind: str = "segm") -> dict[str, np.ndarray]:
    """What each class of a row has above another row's: by a title, mean over the seeds that both have, (K,).

    Args:
        against: each row's other row; pairs without a common seed are left out.
        kind: "segm" or "bbox"; runs of boxes alone are left out of the first.
    """
    found = {}
    for row, base in against.items():
        mine, theirs = records.get(row, {}), records.get(base, {})
        seeds = sorted(mine.keys() & theirs.keys())
        if seeds and all(kind in side[seed].class_ap for side in (mine, theirs) for seed in seeds):
            each = [mine[seed].class_ap[kind] - theirs[seed].class_ap[kind] for seed in seeds]
            found[f"{tables.words(row)}\nover {tables.words(base)}"] = np.mean(each, axis=0)
    return found


def gainers(gains: dict[str, np.ndarray], frequency: Sequence[str]) -> str:
    """How many classes of each group gain, in a sentence for each pair of rows.

    Args:
        gains: as from `class_gains`.
        frequency: the group of each class, K.
    """
    told = []
    for title, gain in gains.items():
        groups = {name: gain[[one == letter for one in frequency]] for letter, name in FREQUENCY.items()}
        counts = [
            f"{(mine > 0).sum()} of {np.isfinite(mine).sum()} {name} classes"
            for name, mine in groups.items()
            if np.isfinite(mine).any()
        ]
        told.append(f"- {' '.join(title.split())}: {', '.join(counts)} gain")
    return "\n".join(["**Read:**", "", *told]) if told else "**Read:** nothing to compare yet."


def adapted(histories: Sequence[Sequence[dict]], frequency: Sequence[str]) -> str:
    """Between which values the mean probability of each group lay over the adaptation passes, in a sentence.

    Args:
        histories: of each seed records with probability (K,), as `figures.adaptation` takes them.
        frequency: the group of each class, K.
    """
    passes = np.array([one["probability"] for history in histories for one in history], dtype=float)
    if not len(passes):
        return "**Read:** nothing yet, no row adapted."
    told = []
    for letter, name in FREQUENCY.items():
        if any(mine := [one == letter for one in frequency]):
            means = passes[:, mine].mean(axis=1)
            told.append(f"{means.min():.2g} and {means.max():.2g} for {name} classes")
    return f"**Read:** over all passes and seeds the mean probability lay between {', '.join(told)}."


def report(records: Records, scale: tables.Scale) -> str:
    """Masks and boxes of the two main rows, how much they differ, and what bounds that, in Markdown."""
    found = metrics(records)
    parts = [tables.section("main", found, scale), adaptation(found), optimizer(found)]
    boxes = [column.replace("segm", "bbox") for column in tables.definition("main")["columns"]]
    parts += ["Of boxes:", tables.appendix("main", summarise(found), boxes)]
    rows = tables.definition("main")["rows"]
    seeds = sorted(set.intersection(*(set(found.get(row, {})) for row in rows)))
    if seeds:
        intervals = compare(*([records[row][seed] for seed in seeds] for row in rows))
        resamples = len(next(iter(records[rows[0]][seeds[0]].replicates.values()), ()))
        parts += [
            f"The second minus the first, in points; 95% intervals by {resamples:,} resamples of the images "
            "of val, the same for both rows and all seeds. They say what other images would have shown of "
            "these networks, not what other seeds would have:",
            tables.differences(intervals),
        ]
    return "\n\n".join(filter(None, parts))


def adaptation(found: dict[str, dict[int, dict[str, float]]]) -> str:
    """What adaptation adds to virtual features, in a sentence; nothing if no row has gone without it.

    Args:
        found: as from `summary.metrics`.
    """
    n, means = _means(found, "mask_rcnn_fasa_unadapted", "mask_rcnn_fasa")
    told = [f"{name} is {without:.1f}, with it {with_it:.1f}" for name, (without, with_it) in means.items()]
    return (
        "**What the adaptation adds.** With FASA's probabilities as they begin, by inverse frequency, "
        f"{'; '.join(told)} ({tables.seeds(n)}). See [what it did](#what-the-adaptation-did), with RFS too."
        if told
        else ""
    )


def optimizer(found: dict[str, dict[int, dict[str, float]]]) -> str:
    """What the main rows come to where AdamW trains all parameters, in a sentence; nothing if it has not run.

    Args:
        found: as from `summary.metrics`.
    """
    n, means = _means(found, "mask_rcnn", "mask_rcnn_adamw", "mask_rcnn_fasa_adamw")
    told = [
        f"{name} is {alone:.1f} ({tables.signed(alone - plain)}), and FASA adds {tables.signed(fasa - alone)}"
        for name, (plain, alone, fasa) in means.items()
    ]
    return (
        "**What the optimizer does by itself.** With AdamW for all parameters, without FASA, "
        f"{'; '.join(told)} ({tables.seeds(n)}). See [beyond the paper](#beyond-the-paper), with "
        "RFS too; what a cosine classifier does alone: [other methods](#fasa-on-top-of-other-methods)."
        if told
        else ""
    )


def _means(found: dict[str, dict[int, dict[str, float]]], *rows: str) -> tuple[int, dict[str, list[float]]]:
    """How many seeds all rows have, and over these the rows' means of mask AP and APr, by their names."""
    there = [found.get(row, {}) for row in rows]
    if not (seeds := sorted(set.intersection(*map(set, there)))):
        return 0, {}
    spreads = [spread([row[seed] for seed in seeds]) for row in there]
    return len(seeds), {
        tables.column_name(one): [each[one]["mean"] for each in spreads]
        for one in tables.definition("main")["columns"][:2]
        if all(one in each for each in spreads)
    }
