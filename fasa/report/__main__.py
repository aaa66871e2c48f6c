"""``python -m fasa.report``: show the main table and say where the results lie."""

import sys
from pathlib import Path

from fasa.params import read_params
from fasa.pipeline.project import root


def main(argv: list[str] | None = None) -> int:
    """Print the table that the stage ``report@PROFILE-main`` wrote."""
    profile = read_params(root() / "params.yaml").profiles[0]
    table = Path("results", profile, "main", "table.md")
    if not table.exists():
        print(f"error: {table}: no such file; run: make repro", file=sys.stderr)
        return 1
    print(table.read_text())
    print(f"Figures and metrics lie in results/{profile}/, the executed notebooks in executed/{profile}/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
