"""The appendix's tables in Markdown: ours with its spread, the paper's beside it."""

from pathlib import Path

import yaml

from fasa.report.summary import gains

NAMES = dict(segm="mask", bbox="box")


def definition(name: str) -> dict:
    """A table of appendix.yaml: title, rows, columns and the paper's numbers."""
    return yaml.safe_load(Path(__file__).with_name("appendix.yaml").read_text())[name]


def column_name(metric: str) -> str:
    """``segm_APr`` as a reader knows it: ``mask APr``; of TIDE the type alone, which its table explains."""
    if "_tide_" in metric:
        return metric.rpartition("_")[2]
    kind, _, rest = metric.partition("_")
    return f"{NAMES.get(kind, kind)} {rest}".replace("_", " ").rstrip()


def cell(value: dict | None) -> str:
    """``12.3 ± 0.4``, without a spread for one run; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value['mean']:.1f}" + (f" ± {value['std']:.1f}" if value["std"] is not None else "")


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
    for row in table["rows"]:
        mine = summary.get(row, {})
        n = next(iter(mine.values()))["n"] if mine else 0
        cells = [cell(mine.get(column)) for column in columns]
        if not mine:
            cells[0] = "not run"
        if row in paper:
            pairs = zip(cells, paper[row], strict=True)
            cells = [ours if theirs is None else f"{ours} ({theirs})" for ours, theirs in pairs]
        body.append([f"`{row}`", *cells, str(n)])
        if gains is not None:
            gained = [gains.get(row, {}).get(column) for column in columns[:2]]
            body[-1] += ["-" if gain is None else f"{gain:+.1f}" for gain in gained]
            body[-1].append(f"`{table['against'][row]}`" if row in gains else "-")
    header = ["row", *map(column_name, columns), "n"]
    if gains is not None:
        header += [*(f"gain in {column_name(column)}" for column in columns[:2]), "over"]
    return markdown(header, body)


def section(name: str, summary: dict, found: dict | None = None) -> str:
    """A table of the appendix under its title, as a file of its own.

    Args:
        summary: as `appendix`'s.
        found: as from `summary.metrics`, of a table that says what each of its rows gains against another.
    """
    table = definition(name)
    gained = gains(found, table["against"]) if found is not None else None
    note = "Mean ± standard deviation over n seeds"
    if table["paper"]:
        note += f"; in brackets the paper's on {table.get('paper_set', 'LVIS v1')}"
    if gained is not None:
        note += ". A gain is the mean over the seeds that both rows have"
    note = f"{note}. {table.get('note', '')}".rstrip()
    return f"## {table['title']}\n\n{note}\n\n{appendix(name, summary, gains=gained)}\n"


def differences(intervals: dict[str, tuple]) -> str:
    """A paired bootstrap as a table.

    Args:
        intervals: ``{"segm_APr": (difference, low, high, share_not_better), ...}`` in points.
    """
    body = [
        [column_name(name), f"{difference:+.1f}", f"[{low:+.1f}, {high:+.1f}]", f"{100 * share:.0f}%"]
        for name, (difference, low, high, share) in intervals.items()
    ]
    return markdown(["metric", "difference", "95% interval", "resamples without gain"], body)
