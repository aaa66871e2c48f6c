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
        if args.out:
            check_out(args.out, args.gt, args.dt)
        measured = {}
        for kind in dict.fromkeys(args.iou):
            start = time.perf_counter()
            _say(f"{kind}: reading {args.gt} and {args.dt}")
            gt = read_ground_truth(args.gt, kind)
            dt = read_detections(args.dt, gt)
            _say(f"{kind}: {len(dt.score):,} detections in {len(gt.image_ids):,} images")
            protocols = [PROTOCOLS[name] for name in dict.fromkeys(args.protocol)]
            measured[kind] = instruments(gt, dt, kind, protocols, args.tide, progress=True)
            _say(f"{kind}: {time.perf_counter() - start:.1f} s")
        print(table(measured))
        if args.out:
            write(measured, args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


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
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out {out}: is a folder, or in one that may not be written to; name a file")
    if out.exists() and any(Path(one).exists() and out.samefile(one) for one in inputs):
        raise UserError(f"--out {out}: is an input and would be lost; name another file")


def write(measured: dict, out: Path) -> None:
    """Write JSON beside `out`, then rename it."""

    def plain(content):
        if isinstance(content, dict):
            return {key: plain(value) for key, value in content.items()}
        return None if math.isnan(content) else content

    part = out.with_name(out.name + ".part")
    part.write_text(json.dumps(plain(measured), indent=1) + "\n")
    os.replace(part, out)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.disable()  # looking for cycles, of which there are none, among millions of tuples takes a tenth
    sys.exit(main())
