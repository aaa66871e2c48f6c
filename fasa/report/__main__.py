"""``fasa report``: show the main table and say where the results lie."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fasa.command import command
from fasa.errors import UserError
from fasa.params import read_params
from fasa.pipeline.project import root


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table that the stage ``report@PROFILE-main`` wrote."""
    argparse.ArgumentParser(prog="fasa report", description="Show the main table.").parse_args(argv)
    profile = read_params(root() / "params.yaml").profiles[0]
    results = Path("results", profile)
    table = root() / results / "main" / "table.md"
    if not table.exists():
        raise UserError(f"{table}: no such file; run: make repro")
    print(table.read_text())
    print(f"Figures and metrics lie in {results}/, the executed notebooks in executed/{profile}/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
