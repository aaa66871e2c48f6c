"""Spoils evaluator files at random and runs the command line on them: no crash, no traceback, no hang.

    python tests/evaluation/fuzz.py --cases 20000 --seed 1

Each case must end with status 0, or with 1 and one line that begins with "error: ". All run in one process of
bounded memory, the number of each printed before it: should that die or hang, the last number says where.
`--case N` runs one alone and keeps its files.
"""

import argparse
import contextlib
import copy
import faulthandler
import gzip
import io
import json
import random
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from worlds import world  # noqa: E402

from fasa.evaluation.__main__ import main as evaluate  # noqa: E402

MEMORY, SECONDS = 4 << 30, 20  # of the process, and of a case
NASTY = [
    *(float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e-308, 1e19, 1e9, 2.1e8, 70000.5, 0.5, 12.0),
    *(
        0,
        1,
        -1,
        2,
        3,
        39,
        41,
        65535,
        65536,
        2**31 - 1,
        2**31,
        2**32,
        2**63 - 1,
        2**63,
        2**64,
        10**30,
        -(2**63),
    ),
    *(True, False, None, "", "r", "few", "12", "\x00", "é", "😀", "PoS1", "o" * 40, "0" * 40),
    *([], {}, [[]], [[1, 2]], [[0, 0, 9, 9]], [[1] * 7], [1, 2, 3], {"size": [40, 40], "counts": ""}),
    {"size": [40, 40], "counts": [0, 1600]},
    {"size": [40, 40], "counts": [1600, 0, 0]},
    {"size": [40, 40], "counts": [2**32, -(2**32) + 1600]},
    [[-1e8, 0, 1e8, 0, 1e8, 1e8]],
    [[0, 0, 200, 0, 200, 200] * 900],
]
OPTIONS = [
    ["--iou", "segm"],
    ["--iou", "bbox"],
    ["--protocol", "pool", "fixed"],
    ["--tide"],
    ["--tide", "stock"],
]


def places(node, path=()):
    """The paths to everything in a document."""
    yield path
    for key, part in (
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        yield from places(part, (*path, key))


def spoil(rng: random.Random, document):
    """One random change somewhere in a document."""
    *path, last = rng.choice([one for one in places(document) if one] or [(None,)])
    if last is None:
        return copy.deepcopy(rng.choice(NASTY))
    node = document
    for key in path:
        node = node[key]
    value = node[last]
    match rng.randrange(6):
        case 0:
            del node[last]
        case 1 if isinstance(node, list):
            node.insert(last, copy.deepcopy(value))
        case 2 if isinstance(value, str) and value:
            at = rng.randrange(len(value))
            junk = "".join(chr(rng.randrange(1, 128)) for _ in range(rng.randrange(4)))
            node[last] = value[:at] + junk + value[at + rng.randrange(4) :]
        case 3 if isinstance(value, int | float):
            node[last] = value * rng.choice([-1, 1e3, 1e6, 1e12, 0.1, float("inf")])
        case 4:
            other = document
            for key in rng.choice(list(places(document))):
                other = other[key]
            node[last] = json.loads(json.dumps(other))
        case _:
            node[last] = copy.deepcopy(rng.choice(NASTY))
    return document


def spoil_text(rng: random.Random, text: bytes) -> bytes:
    """One random change to the bytes of a file."""
    at = rng.randrange(len(text) + 1)
    match rng.randrange(9):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + bytes(rng.randrange(256) for _ in range(3)) + text[at + 2 :]
        case 2:
            return gzip.compress(text)[: rng.choice([None, at])]
        case 3:
            return b"\xef\xbb\xbf" + text
        case 4:
            return text.decode(errors="replace").encode(rng.choice(["utf-16", "utf-32", "utf-8"]))
        case 5:
            return text + text[at:]
        case 6:
            return text[:at] + b"[" * 5000 + text[at:]
        case 7:
            return text.replace(b'"', b"'", rng.randrange(3)).replace(b"0", b"00", rng.randrange(2))
        case _:
            return (
                text[:at] + rng.choice([b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"\\ud800"]) + text[at:]
            )


def write(case: int, seed: int, folder: Path) -> list[str]:
    """The files of a case, and the command line for them."""
    rng = random.Random(f"{seed} {case}")
    documents = dict(zip(("gt", "dt"), world(), strict=True))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        name = rng.choice(["gt", "gt", "dt"])
        documents[name] = spoil(rng, documents[name])
    command = list(rng.choice(OPTIONS))
    for name, document in documents.items():
        text = json.dumps(document).encode()
        if rng.random() < 0.12:
            text = spoil_text(rng, text)
        (folder / f"{name}.json").write_bytes(text)
        command += [f"--{name}", str(folder / f"{name}.json")]
    return command


def fault(command: list[str]) -> str:
    """What is wrong with how the command ended; empty if nothing."""
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = evaluate(command)
    except (Exception, SystemExit):
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    said = [line for line in err.getvalue().splitlines() if "Warning" in line]
    fine = not said and (
        (status == 0 and not errors) or (status == 1 and len(errors) == 1 and not out.getvalue())
    )
    return "" if fine else f"status {status}\n{out.getvalue()}{err.getvalue()}"


def main() -> int:
    """Reads the command line, and runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one")
    args = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang may be in C, where no exception gets out
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    cases = range(args.cases) if args.case is None else [args.case]
    with contextlib.ExitStack() as stack:
        folder = (
            tempfile.mkdtemp()
            if args.case is not None
            else stack.enter_context(tempfile.TemporaryDirectory())
        )
        for case in cases:
            print(case, flush=True)
            if found := fault(write(case, args.seed, Path(folder))):
                print(found.encode(errors="backslashreplace").decode(), flush=True)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
