"""Everything that wants a GPU and a few minutes; each result is written as it comes.

    python -m benchmarks.gpu.run OUT_DIR [--only agreement costs detectors amp adaptation] [--minutes 5]
    python -m benchmarks.gpu.run OUT_DIR --device cpu --tiny        # the same at a tiny size, anywhere

OUT_DIR/results.jsonl gets a line of JSON a result; a part that fails leaves its traceback there, and the next
begins. Where mmcv comes without ops (mmcv-lite), those in --ops stand in, see mmcv_ops.py.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.gpu import agreement, detectors, mmcv_ops


def machine(device: torch.device) -> dict:
    """Device and versions."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return dict(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        python=platform.python_version(),
        cores=os.cpu_count(),
        commit=commit.stdout.strip(),
    )


def parts(device: torch.device, tiny: bool, ops: Path) -> dict[str, list[Callable[[], Iterator[dict]]]]:
    """What there is to do, under the names that --only takes; what needs no mmcv comes first."""
    size = detectors.TINY if tiny else detectors.Size()
    names = list(detectors.MODELS)
    many, few = (2, 2) if tiny else (14, 6)

    def rows(name: str, batch: int, count: int, amp: str | None = None) -> Callable[[], Iterator[dict]]:
        return lambda: detectors.iterations(name, batch, count, size, device, amp)

    def install() -> Iterator[dict]:
        yield dict(ops=mmcv_ops.install(ops, device.type == "cuda"))

    detection = {
        "detectors": [rows(name, 2, many) for name in names]
        + [rows(name, 8, few) for name in names] * (not tiny),
        "adaptation": [lambda: iter([detectors.adaptation(names[0], 2 if tiny else 10, size, device)])],
        "amp": [rows(names[0], 2, many, "float16"), rows(names[0], 8, few, "float16")]
        * (device.type == "cuda"),
    }
    return {
        "agreement": [lambda: agreement.agreements(device, tiny)],
        "costs": [lambda: agreement.costs(device, tiny)],
        "ops": [install],
    } | detection


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts; status 1 if one failed, was left out for want of time, or GPU and CPU disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="where results.jsonl goes")
    parser.add_argument("--only", nargs="+", help="names of parts")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="small enough for any CPU; the figures mean nothing"
    )
    parser.add_argument("--minutes", type=float, default=5, help="after which no further part begins")
    parser.add_argument(
        "--ops", type=Path, default=Path(".whl"), help="folder of mmcv_ops.so and its sources"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    device, start, fine = torch.device(options.device), time.monotonic(), True
    todo = parts(device, options.tiny, options.ops)
    chosen = options.only or list(todo)
    if unknown := set(chosen) - todo.keys():
        parser.error(f"no part {min(unknown)!r}; known: {', '.join(todo)}")
    if {"detectors", "adaptation", "amp"} & set(chosen):
        chosen = ["ops", *(name for name in chosen if name != "ops")]
    with open(options.out / "results.jsonl", "a", encoding="utf-8") as file:

        def write(part: str, **result) -> None:
            line = json.dumps(dict(part=part, at=round(time.monotonic() - start, 1)) | result)
            print(line, file=file, flush=True)
            print(line[:400], flush=True)

        write("machine", **machine(device))
        for part in sorted(chosen, key=list(todo).index):
            for work in todo[part]:
                if time.monotonic() - start > 60 * options.minutes:
                    write(part, skipped=f"{options.minutes} minutes are over")
                    fine = False
                    continue
                try:
                    for result in work():
                        write(part, **result)
                        fine &= result.get("agrees", True)
                except Exception:
                    write(part, failed=traceback.format_exc())
                    fine = False
                detectors._clear(device)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
