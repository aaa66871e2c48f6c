"""``python -m fasa.report``: show the main table and say where the results lie."""

import sys
from pathlib import Path

TABLE = Path("results", "main.md")


def main() -> int:
    """Print the table that the stage `table` wrote."""
    if not TABLE.exists():
        print(f"error: {TABLE}: no such file; run: dvc repro", file=sys.stderr)
        return 1
    print(TABLE.read_text())
    print("Figures and metrics lie in results/, the executed notebooks in executed/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
