"""Table 5: what each row costs."""

from collections.abc import Sequence

from fasa.report.tables import definition, markdown, named

Cost = dict[str, dict[str, dict[str, float]]]  # by row and variant, as from `fasa.detection.cost.measure`
TWO = ("mask_rcnn_rfs", "mask_rcnn_rfs_fasa")  # the rows of Table 5


def flat(cost: Cost) -> dict[str, dict[str, float]]:
    """What was measured, by the name of a variant; of most rows the one is the other."""
    return {name: one for row in cost.values() for name, one in row.items()}


def table(cost: Cost, rows: Sequence[str]) -> str:
    """Seconds of an iteration, memory and state of rows, the paper's on 8 V100s in brackets, in Markdown.

    Args:
        rows: which; "more" is than the first of them that was measured.
    """
    columns, paper = definition("table5")["columns"], definition("table5")["paper"]
    body, base = [], None
    for row in rows:
        for name, one in cost.get(row, {}).items():
            base = base or one["seconds"]
            time, memory = f"{one['seconds']:.3f} ± {one['seconds_std']:.3f}", f"{one['memory_gb']:.2f}"
            if name in paper:
                seconds, deviation, gigabytes = paper[name]
                time, memory = f"{time} ({seconds} ± {deviation})", f"{memory} ({gigabytes})"
            passes = f"{one['pass_seconds']:.1f}" if "pass_seconds" in one else "-"
            more, what = f"{100 * (one['seconds'] / base - 1):+.1f}%", name.partition(", ")[2]
            numbers = [time, more, memory, f"{one['growth']:+.1f}", f"{one['state']:.2f}", passes]
            body.append([named(row, what), *numbers])
        if row not in cost:
            there = paper.get(row)
            brackets = f"not run ({there[0]} ± {there[1]})" if there else "not run"
            memory = f"- ({there[2]})" if there else "-"
            body.append([named(row), brackets, "-", memory, "-", "-", "-"])
    return markdown(["", *columns], body)


def extremes(cost: Cost, rows: Sequence[str]) -> str:
    """Which of the rows take the most and the least time, in a sentence."""
    measured = {name: one["seconds"] for row in rows for name, one in cost.get(row, {}).items()}
    if len(measured) < 2:
        return "**Read:** nothing to compare yet."
    most, least = (pick(measured, key=measured.get) for pick in (max, min))
    return (
        f"**Read:** an iteration takes the most time with `{most}`, {measured[most]:.3f} s, and the least "
        f"with `{least}`, {measured[least]:.3f} s. One measurement a row."
    )


def reading(cost: Cost, every: int | None = None) -> str:
    """What FASA adds to an iteration, and its passes to a training, in sentences.

    Args:
        every: iterations from one adaptation pass to the next, if it is by iterations.
    """
    if not all(row in cost for row in TWO):
        return "**Read:** nothing yet, the two rows have not both been measured."
    (plain, fasa) = (next(iter(cost[row].values())) for row in TWO)
    time, memory = (100 * (fasa[name] / plain[name] - 1) for name in ("seconds", "memory_gb"))
    theirs = zip(*(definition("table5")["paper"][row] for row in TWO), strict=True)
    time_there, _, memory_there = (100 * (after / before - 1) for before, after in theirs)
    spread = 100 * plain["seconds_std"] / plain["seconds"]
    text = (
        f"**Read:** with FASA an iteration takes {time:+.1f}% time, where iterations of the same row differ "
        f"by {spread:.0f}%, and {memory:+.1f}% memory at its peak; the paper's {time_there:+.1f}% and "
        f"{memory_there:+.1f}%."
    )
    if every and "pass_seconds" in fasa:
        passes = 100 * fasa["pass_seconds"] / (every * fasa["seconds"])
        text += (
            f" The passes come on top, one in {every} iterations: {passes:+.1f}%. The paper has one an "
            "epoch, and does not say what it costs."
        )
    return text
