"""``fasa report``: show the report's first table and say where the whole lies."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fasa.command import command
from fasa.errors import UserError
from fasa.params import read_params
from fasa.pipeline.project import root
from fasa.report.page import section

FIRST = "In short: does it work here?"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print what the stage ``report@PROFILE`` wrote under its first heading with numbers."""
    argparse.ArgumentParser(prog="fasa report", description="Show the report's first table.").parse_args(argv)
    profile = read_params(root() / "params.yaml").profiles[0]
    results = Path("results", profile)
    page = root() / results / "report.md"
    if not page.exists():
        raise UserError(f"{page}: no such file; run: make repro")
    shown = section(page.read_text(), FIRST).splitlines()
    print("\n".join(line for line in shown if not line.startswith("![")))
    print(f"\nAll tables, figures and claims: {results}/report.html, or report.md beside it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
