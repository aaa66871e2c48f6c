"""``python -m fasa.evaluation``: judge a results file by the appendix's instruments.

    python -m fasa.evaluation --gt lvis_v1_val.json --dt results.json --protocol old fixed pool --tide

Prints a table; ``--out`` also writes JSON: ``{"segm": {"old": {"AP": .., ..}, .., "tide": {"Cls": ..}}}``,
AP in percent, null where there is no object to measure it on.
"""

import argparse
import gc
import json
import math
import os
import sys
import time
from pathlib import Path

from fasa.errors import UserError
from fasa.evaluation.inputs import SHAPE_FIELD, read_detections, read_ground_truth
from fasa.evaluation.instruments import instruments
from fasa.evaluation.protocols import OLD, PROTOCOLS
from fasa.evaluation.reading import called
from fasa.files import readable_errors, replacing


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        prog="python -m fasa.evaluation",
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
    add("--out", metavar="FILE", type=Path, help="where to write the numbers as JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 where the input is at fault."""
    args = parser().parse_args(arguments)
    try:
        run(args)
    except UserError as error:
        _say("error: " + " ".join(str(error).splitlines()))
        return 1
    except MemoryError:
        _say("error: the memory does not suffice; use a machine with more, or fewer images")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    """Measure what is asked for, write it, print it."""
    if args.out:
        check_out(args.out, args.gt, args.dt)
    measured = {}
    for kind in dict.fromkeys(args.iou):
        start = time.perf_counter()
        _say(f"{kind}: reading {called(args.gt)} and {called(args.dt)}")
        gt = read_ground_truth(args.gt, kind)
        dt = read_detections(args.dt, gt)
        _say(f"{kind}: {len(dt.score):,} detections in {len(gt.image_ids):,} images")
        protocols = [PROTOCOLS[name] for name in dict.fromkeys(args.protocol)]
        measured[kind] = instruments(gt, dt, kind, protocols, args.tide, progress=True)
        _say(f"{kind}: {time.perf_counter() - start:.1f} s")
    if args.out:
        write(measured, args.out)
    _print(table(measured))


def table(measured: dict[str, dict[str, dict[str, float]]]) -> str:
    """The numbers for a terminal: a block for each kind of IoU, in percent."""
    blocks = []
    for kind, values in measured.items():
        protocols = {f"AP_{name}": values[name] for name in PROTOCOLS if name in values}
        blocks.append(_block(f"{kind} [%]", protocols))
        if "tide" in values:
            blocks.append(_block(f"{kind} TIDE [points]", {"lost AP50": values["tide"]}))
    return "\n\n".join(blocks)


def _block(title: str, rows: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    width = max(map(len, [title, *rows]))
    head = f"{title:{width}}" + "".join(f"{column:>9}" for column in columns)
    body = [
        f"{name:{width}}"
        + "".join(
            f"{'-' if math.isnan(values[column]) else format(values[column], '.2f'):>9}" for column in columns
        )
        for name, values in rows.items()
    ]
    return "\n".join([head, *body])


def check_out(out: Path, *inputs: str) -> None:
    """Refuse an output that could not be written, or would overwrite an input, before any work."""
    where = f"--out {called(out)}"
    with readable_errors(out):
        if not out.parent.is_dir():
            raise UserError(f"{where}: there is no folder {called(out.parent)}")
        if out.exists() and not out.is_file():
            raise UserError(f"{where}: is not a regular file, but a folder or device; name a file")
        if not os.access(out.resolve().parent, os.W_OK):
            raise UserError(f"{where}: is in a folder that may not be written to; choose another")
        if out.exists() and any(Path(one).exists() and out.samefile(one) for one in inputs):
            raise UserError(f"{where}: is an input and would be lost; name another file")


def write(measured: dict, out: Path) -> None:
    """Write JSON, whole or not at all."""

    def plain(content):
        if isinstance(content, dict):
            return {key: plain(value) for key, value in content.items()}
        return None if math.isnan(content) else content

    with replacing(out, "w") as file:
        file.write(json.dumps(plain(measured), indent=1) + "\n")


def _print(text: str) -> None:
    """To standard output, which may be a full disk, or a pipe that nobody reads any more."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at exit
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"standard output: {error.strerror}") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.disable()  # looking for cycles, of which there are none, among millions of tuples takes a tenth
    sys.exit(main())
