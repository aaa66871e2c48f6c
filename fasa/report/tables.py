"""The appendix's tables in Markdown: ours with its spread, the paper's beside it, and what they say."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fasa.report.summary import gains, summarise

NAMES = dict(segm="mask", bbox="box")
FEW = 6  # comparisons that can be told one by one


class Scale(NamedTuple):
    """Where our numbers are from."""

    says: str  # such as "`embedded`, 60 classes in 1,500 training images"
    command: str  # that makes those of a row, which it calls ROW


@cache
def appendix_yaml() -> dict[str, Any]:
    """All of appendix.yaml."""
    return yaml.safe_load(Path(__file__).with_name("appendix.yaml").read_text())


def definition(name: str) -> dict:
    """A table of appendix.yaml: rows, columns, the paper's numbers, and what is compared to what."""
    return appendix_yaml()[name]


def words(row: str) -> str:
    """A row as a reader knows it: ``Mask R-CNN + RFS + FASA, drawn uniformly``."""
    known = definition("words")
    model = max((one for one in known["models"] if f"{row}_".startswith(f"{one}_")), key=len, default="")
    text = known["models"].get(model, "")
    for part in filter(None, row.removeprefix(model).split("_")):
        joint, name = (", ", known["variants"][part]) if part in known["variants"] else (" + ", part)
        text += (joint if text else "") + known["traits"].get(name, name)
    return text


def seeds(n: int) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n} seed{'' if n == 1 else 's'}"


def column_name(metric: str) -> str:
    """``segm_APr`` as a reader knows it: ``mask APr``; of TIDE the type alone, which its table explains."""
    if name := definition("words")["columns"].get(metric):
        return name
    if "_tide_" in metric:
        return metric.rpartition("_")[2]
    kind, _, rest = metric.partition("_")
    return f"{NAMES.get(kind, kind)} {rest}".replace("_", " ").rstrip()


def signed(value: float) -> str:
    """A difference to a tenth: ``+1.2``, ``-0.3``; what rounds to nothing has no sign."""
    text = f"{value:+.1f}"
    return text if float(text) else "0.0"


def cell(value: dict | None, number: Callable[[float], str] = "{:.1f}".format) -> str:
    """``12.3 ± 0.4``, without a spread for one run; a dash for what was not measured."""
    if value is None:
        return "-"
    return number(value["mean"]) + (f" ± {value['std']:.1f}" if value["std"] is not None else "")


def named(row: str, variant: str = "") -> str:
    """The first cell of a row's line: in words, and its name in params.yaml below."""
    return f"{words(row)}{', ' * bool(variant)}{variant}<br>`{row}`"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, columns aligned so that it reads well on a terminal too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def appendix(name: str, summary: dict, columns: list[str] | None = None, gains: dict | None = None) -> str:
    """A table of the appendix: our mean ± standard deviation over n seeds, then the paper's number.

    Args:
        name: its key in appendix.yaml.
        summary: as from `summary.summarise`; rows that it lacks have not run, which is said.
        columns: metrics to show instead of the table's own; the paper's numbers are then left out.
        gains: as from `summary.gains` over the table's `against`, shown for its first two columns.
    """
    table = definition(name)
    paper = table["paper"] if columns is None else {}
    columns = columns or table["columns"]
    body = []
    extra = [row for row in table.get("if_run", []) if row in summary]
    for row in [*table["rows"], *extra]:
        mine = summary.get(row, {})
        n = next(iter(mine.values()))["n"] if mine else 0
        cells = [cell(mine.get(column)) for column in columns]
        if not mine:
            cells[0] = "not run"
        if row in paper:
            pairs = zip(cells, paper[row], strict=True)
            cells = [ours if theirs is None else f"{ours} ({theirs})" for ours, theirs in pairs]
        body.append([named(row), *cells, str(n)])
        if gains is not None:
            gained = [gains.get(row, {}).get(column) for column in columns[:2]]
            body[-1] += [cell(gain, signed) for gain in gained]
            body[-1].append(words(table["against"][row]) if row in gains else "-")
    header = ["", *map(column_name, columns), "n"]
    if gains is not None:
        header += [*(f"gain, {column_name(column)}" for column in columns[:2]), "over"]
    return markdown(header, body)


def section(name: str, found: dict, scale: Scale) -> str:
    """A table of the appendix, where its numbers are from, and a sentence of what they say.

    Args:
        found: as from `summary.metrics`.
        scale: of ours.
    """
    table = definition(name)
    errors = "_tide_" in table["columns"][0]
    gained, summary = gains(found, table["against"]), summarise(found)
    shown = appendix(name, summary, gains=None if errors else gained)
    read = costliest(name, summary, gained) if errors else reading(name, gained)
    return "\n\n".join([table.get("note", "").strip(), shown, read, source(name, scale)]).strip()


def source(name: str, scale: Scale) -> str:
    """What the numbers of a table are, where they are from, and the command that makes a row."""
    table = definition(name)
    theirs = ""
    if table["paper"]:
        set_name = table.get("paper_set", "LVIS v1")
        theirs = f" In brackets the paper's, on {set_name}: {definition('scales')[set_name]}."
    return ours(scale, theirs)


def ours(scale: Scale, theirs: str = "") -> str:
    """Where our numbers are from, and the command that makes a row; between them what the paper's are of."""
    return f"Ours: {scale.says}.{theirs} A row: `{scale.command}`."


def reading(name: str, gained: dict) -> str:
    """What the rows of a table gain over those that they are compared to, in a sentence each.

    Args:
        gained: as from `summary.gains` over the table's `against`.
    """
    table = definition(name)
    first, second = table["columns"][:2]
    told = {}
    for row, gain in gained.items():
        if by := [one for one in (first, second) if one in gain]:
            more = [f"{signed(gain[one]['mean'])} {column_name(one)}" for one in by]
            text = f"{words(row)} has {' and '.join(more)} over {words(table['against'][row])}"
            told[row] = f"{text} ({seeds(gain[by[0]]['n'])})"
    if not told:
        return "**Read:** nothing to compare yet."
    order = sorted(
        (row for row in told if second in gained[row]), key=lambda row: -gained[row][second]["mean"]
    )
    if len(order) > FEW:
        best, worst = (told[order[i]] for i in (0, -1))
        by = column_name(second)
        return f"**Read:** of {len(order)} comparisons the best by {by}: {best}; the worst: {worst}."
    if len(told) == 1:
        return f"**Read:** {told.popitem()[1]}."
    return "\n".join(["**Read:**", "", *(f"- {text}" for text in told.values())])


def costliest(name: str, summary: dict, gained: dict) -> str:
    """Which type of TIDE's errors costs each row of a table the most, and which fell and rose the most.

    Args:
        summary, gained: as from `summary.summarise`, `summary.gains`.
    """
    types = error_types(name)

    def points(values: dict) -> dict[str, float]:
        return {column_name(one): values[one]["mean"] for one in types if one in values}

    told = []
    for row in definition(name)["rows"]:
        if mine := points(summary.get(row, {})):
            worst = max(mine, key=mine.get)
            told.append(f"{words(row)} loses most AP50 by {worst}, {mine[worst]:.1f} points")
        if change := points(gained.get(row, {})):
            fell, rose = min(change, key=change.get), max(change, key=change.get)
            told[-1] += f" (of all types {fell} falls most, {signed(change[fell])}"
            told[-1] += f", and {rose} rises most, {signed(change[rose])})"
    return f"**Read:** {'; '.join(told) or 'nothing measured yet'}."


def error_types(name: str) -> list[str]:
    """The columns of a table of TIDE's errors that are a type, without the sums over all types."""
    return [column for column in definition(name)["columns"] if "_False" not in column]


def differences(intervals: dict[str, tuple]) -> str:
    """A paired bootstrap as a table.

    Args:
        intervals: ``{"segm_APr": (difference, low, high, share_not_better), ...}`` in points.
    """
    body = [
        [column_name(name), signed(difference), f"[{signed(low)}, {signed(high)}]", f"{100 * share:.1f}%"]
        for name, (difference, low, high, share) in intervals.items()
    ]
    return markdown(["metric", "difference", "95% interval", "resamples without gain"], body)
