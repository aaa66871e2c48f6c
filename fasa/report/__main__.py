"""``python -m fasa.report``: show the main table and say where the results lie."""

import sys
from pathlib import Path

from fasa.errors import UserError

TABLE = Path("results", "main.md")


def main() -> int:
    """Print the table that the stage `table` wrote."""
    try:
        if not TABLE.exists():
            raise UserError(f"{TABLE}: no such file; run: dvc repro")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(TABLE.read_text())
    print("Figures and metrics lie in results/, the executed notebooks in executed/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
