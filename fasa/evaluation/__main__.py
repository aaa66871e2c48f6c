"""``fasa evaluate``: judge a results file by the appendix's instruments.

    fasa evaluate --gt lvis_v1_val.json --dt results.json --protocol old fixed pool --tide

Prints a table; ``--out`` also writes JSON: ``{"segm": {"old": {"AP": .., ..}, .., "tide": {"Cls": ..}}}``,
AP in percent, null where there is no object to measure it on. What else is asked for stands beside them:
``bootstrap`` and ``against`` (intervals, by protocol), ``classes`` and ``examples`` (lists of records).
"""

import argparse
import csv
import gc
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from fasa.command import command
from fasa.errors import UserError
from fasa.evaluation.bootstrap import bootstrap, paired_bootstrap
from fasa.evaluation.inputs import SHAPE_FIELD, Detections, GroundTruth, read_detections, read_ground_truth
from fasa.evaluation.instruments import Measured, measure
from fasa.evaluation.matches import match
from fasa.evaluation.protocols import OLD, PROTOCOLS
from fasa.evaluation.reading import called
from fasa.evaluation.tide import ERRORS, by_class, examples
from fasa.files import beside, readable_errors, replacing

RESAMPLES = 1000
SHORT = dict(  # heads of columns, for a terminal
    category_id="class", object_category_id="of", image_id="image", share_not_better="p", frequency="freq"
)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        prog="fasa evaluate",
        description="Judge detections on LVIS by AP_Old, AP_Fixed, AP_Pool, TIDE.",
    )
    add = parser.add_argument
    add("--gt", required=True, metavar="FILE", help="annotations in the format of LVIS v1")
    add("--dt", required=True, metavar="FILE", help="results in the format of LVIS")
    add("--iou", nargs="+", choices=SHAPE_FIELD, default=["segm"], help="masks (the default), boxes or both")
    add("--protocol", nargs="+", choices=PROTOCOLS, default=[OLD.name], help="default: old")
    add(
        "--tide",
        nargs="?",
        const="lvis",
        choices=["lvis", "stock"],
        help="say where AP50 was lost; stock: as tidecv would, for comparison with published numbers",
    )
    add("--examples", type=count, metavar="N", help="list the N costliest errors of each of TIDE's kinds")
    add("--classes", action="store_true", help="list AP of each class, by the first protocol, and its errors")
    add(
        "--bootstrap",
        nargs="?",
        type=count,
        const=RESAMPLES,
        metavar="RESAMPLES",
        help=f"95%% intervals of the APs over the choice of images (default: {RESAMPLES:,} resamples)",
    )
    add("--against", metavar="FILE", help="other results: how much better --dt is, with 95%% intervals")
    add(
        "--exhaustive",
        action="store_true",
        help="annotations as COCO's: each image searched for each class; frequency derived where missing",
    )
    add("--format", choices=WRITERS, default="text", help="of what is printed (default: text)")
    add("--out", metavar="FILE", type=Path, help="where to write the numbers as JSON")
    return parser


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1,000,000")
    return int(text)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run(parser().parse_args(arguments))


def run(args: argparse.Namespace) -> None:
    """Measure what is asked for, write it, print it."""
    if args.out:
        check_out(args.out, *filter(None, [args.gt, args.dt, args.against]))
    measured = {}
    for kind in dict.fromkeys(args.iou):
        start = time.perf_counter()
        _say(f"{kind}: reading {Path(called(args.gt)).name} and {Path(called(args.dt)).name}")
        gt = read_ground_truth(args.gt, kind, args.exhaustive)
        if args.exhaustive:
            groups = ", ".join(f"{(gt.frequency == group).sum():,} {group}" for group in "rcf")
            _say(f"{kind}: every class counts in every image; classes: {groups}")
        dt = read_detections(args.dt, gt)
        other = read_detections(args.against, gt) if args.against else None
        _say(f"{kind}: {len(dt.score):,} detections in {len(gt.image_ids):,} images")
        protocols = [PROTOCOLS[name] for name in dict.fromkeys(args.protocol)]
        found = measure(gt, dt, kind, protocols, args.tide, progress=True)
        measured[kind] = records(found)
        if args.bootstrap or args.against:
            n_resamples = args.bootstrap or RESAMPLES
            spreads = measured[kind]["bootstrap"] = {}
            for name, result in found.results.items():
                spreads[name] = _plain(bootstrap(result.matches, PROTOCOLS[name], n_resamples))
        if args.against:
            base = match(gt, other, kind, protocols)
            measured[kind]["against"] = {
                name: _plain(
                    paired_bootstrap([base], [result.matches], n_resamples, protocol=PROTOCOLS[name])
                )
                for name, result in found.results.items()
            }
        if args.classes:
            measured[kind]["classes"] = classes(gt, dt, found, kind)
        if args.examples:
            measured[kind]["examples"] = [one._asdict() for one in examples(gt, dt, args.examples, kind)]
        _say(f"{kind}: {time.perf_counter() - start:.1f} s")
    try:
        if args.out:
            write(measured, args.out)
    finally:  # what took so long is not lost where the disk is full
        print(WRITERS[args.format](measured))


def records(found: Measured) -> dict:
    """The numbers of all instruments as plain data."""
    numbers = {name: result.summary for name, result in found.results.items()}
    if found.tide:
        numbers["tide"] = found.tide.main | found.tide.special
    return numbers


def classes(gt: GroundTruth, dt: Detections, found: Measured, kind: str) -> list[dict]:
    """A record for each class: AP by the first protocol, and how many errors of each of TIDE's kinds."""
    columns = dict(
        category_id=gt.category_ids.tolist(),
        category=gt.names,
        frequency=gt.frequency.tolist(),
        AP=next(iter(found.results.values())).per_class.tolist(),
    )
    columns |= {name: count.tolist() for name, count in by_class(gt, dt, kind).items()}
    return [dict(zip(columns, record, strict=True)) for record in zip(*columns.values(), strict=True)]


def tables(measured: dict) -> Iterator[tuple[str, list[str], list[list]]]:
    """What was measured as tables of a title, a head and rows; the first cells of a row are text."""
    for kind, values in measured.items():
        names = [name for name in PROTOCOLS if name in values]
        metrics = list(values[names[0]])
        head = [kind, *(f"AP_{name}" for name in names)]
        yield f"{kind} [%]", head, [[metric, *(values[name][metric] for name in names)] for metric in metrics]
        for part, title in (("bootstrap", "95% over images [%]"), ("against", "better by [points]")):
            for name, intervals in values.get(part, {}).items():
                head = [f"AP_{name}", *next(iter(intervals.values()))]
                rows = [[metric, *numbers.values()] for metric, numbers in intervals.items()]
                yield f"{kind} AP_{name}: {title}", head, rows
        if "tide" in values:
            rows = [[name, lost, ERRORS[name]] for name, lost in values["tide"].items()]
            yield f"{kind} TIDE: AP50 lost [points]", ["error", "points", "what it is"], rows
        for part in ("classes", "examples"):
            if values.get(part):
                rows = [list(record.values()) for record in values[part]]
                yield f"{kind} {part}", list(values[part][0]), rows


def text(measured: dict) -> str:
    """For a terminal of 80 columns."""
    return "\n\n".join(f"{title}\n{_aligned(head, rows)}" for title, head, rows in tables(measured))


def _aligned(head: list[str], rows: list[list]) -> str:
    cells = [[SHORT.get(name, name) for name in head], *([_shown(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    number = [any(isinstance(row[c], int | float) for row in rows) for c in range(len(head))]
    lines = []
    for row in cells:
        parts = [
            f"{cell:>{width}}" if right else f"{cell:{width}}"
            for cell, width, right in zip(row, widths, number, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(line if len(line) <= 80 else line[:79] + "…" for line in lines)


def _shown(value) -> str:
    if value is None or value != value:
        return "-"
    text = format(value, ".2f") if isinstance(value, float) else str(value)
    return text if text.isprintable() else repr(text)


def markdown(measured: dict) -> str:
    """Tables for a document."""
    blocks = []
    for title, head, rows in tables(measured):
        lines = [head, ["---"] * len(head), *([_shown(value) for value in row] for row in rows)]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        blocks.append(f"**{title}**\n\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def comma_separated(measured: dict) -> str:
    """A line for each number or record, in full precision, each table with a head of its own."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for title, head, rows in tables(measured):
        writer.writerow(["table", *head])
        writer.writerows(
            [title, *("" if value is None or value != value else value for value in row)] for row in rows
        )
    return file.getvalue().rstrip("\n")


def in_json(measured: dict) -> str:
    """What ``--out`` writes."""
    return json.dumps(_plain(measured), indent=1)


WRITERS = dict(text=text, csv=comma_separated, markdown=markdown, json=in_json)


def check_out(out: Path, *inputs: str) -> None:
    """Refuse an output that could not be written, or would overwrite an input, before any work."""
    where = f"--out {called(out)}"
    with readable_errors(out):
        if not out.parent.is_dir():
            raise UserError(f"{where}: there is no folder {called(out.parent)}")
        if out.absolute().parts[1] == "dev" or out.exists() and not out.is_file():
            raise UserError(f"{where}: is not a regular file, but a folder or device; name a file")
        with suppress(FileNotFoundError):
            os.lstat(beside(out))  # an error if its name is too long
        if not os.access(out.resolve().parent, os.W_OK):
            raise UserError(f"{where}: is in a folder that may not be written to; choose another")
        if out.exists() and any(Path(one).exists() and out.samefile(one) for one in inputs):
            raise UserError(f"{where}: is an input and would be lost; name another file")


def write(measured: dict, out: Path) -> None:
    """Write JSON, whole or not at all."""
    with replacing(out, "w") as file:
        file.write(in_json(measured) + "\n")


def _plain(content):
    """As JSON has it: records as dicts, null for NaN."""
    if hasattr(content, "_asdict"):
        content = content._asdict()
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.disable()  # looking for cycles, of which there are none, among millions of tuples takes a tenth
    sys.exit(main())
