"""``python -m fasa.report``: show the main table and say where the results lie."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fasa.command import command
from fasa.errors import UserError

TABLE = Path("results", "main.md")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table that the stage `table` wrote."""
    argparse.ArgumentParser(prog="fasa report", description=__doc__.partition(": ")[2]).parse_args(argv)
    if not TABLE.exists():
        raise UserError(f"{TABLE}: no such file; make it: fasa run table")
    print(TABLE.read_text())
    print("Figures and metrics lie in results/, the executed notebooks in executed/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
