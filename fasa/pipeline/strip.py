"""Notebooks without what changes from run to run; plain JSON, because importing nbformat takes a second.

As a git filter:  ``git config filter.notebook.clean "python -m fasa.pipeline.strip -"``
"""

import copy
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from fasa.errors import UserError
from fasa.files import replacing

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("attachments", "cell_type", "id", "source")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in the repr of most objects


def strip(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without outputs, execution counts, and any metadata but the cells' tags."""
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or "cells" not in notebook:
        raise UserError("not a notebook of format 4: open it in JupyterLab and save it")
    cells = [_bare(cell, f"cell-{number}") for number, cell in enumerate(notebook["cells"])]
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def staged(notebook: dict[str, Any]) -> dict[str, Any]:
    """What a stage runs of a stripped notebook: all cells but those tagged ``by-hand``.

    Those draw in JupyterLab what the pipeline has left; they, and what they import, are no input of a stage.
    """
    cells = [cell for cell in notebook["cells"] if "by-hand" not in cell["metadata"].get("tags", [])]
    return notebook | {"cells": cells}


def normalise(executed: dict[str, Any]) -> dict[str, Any]:
    """An executed notebook without times, random ids and addresses: two equal runs give equal bytes.

    Standard error is dropped (warnings and progress bars: the terminal has shown them), and all output of
    cells tagged ``volatile`` (timings). Neighbouring pieces of standard output are joined: where they part is
    a matter of luck.
    """
    result = strip(executed)
    for cell, ran in zip(result["cells"], executed["cells"], strict=True):
        tags = cell["metadata"].get("tags", [])
        if "injected-parameters" in tags:
            cell["id"] = "injected-parameters"
        if cell["cell_type"] == "code":
            cell["execution_count"] = ran["execution_count"]
            cell["outputs"] = [] if "volatile" in tags else _joined(ran["outputs"])
    return result


def dumps(notebook: dict[str, Any]) -> str:
    """The notebook's text, laid out as nbformat and JupyterLab do."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def content_hash(path: Path) -> str:
    """The md5 of a file, as DVC has it; of a notebook what a stage runs of it."""
    content = dumps(staged(read(path))).encode() if path.suffix == ".ipynb" else path.read_bytes()
    return hashlib.md5(content).hexdigest()


def write(notebook: dict[str, Any], path: Path) -> None:
    """Write a notebook whole or not at all."""
    with replacing(path, "w") as file:
        file.write(dumps(notebook))


def read(path: Path) -> dict[str, Any]:
    """Read a notebook and strip it.

    Raises:
        UserError: there is no such file, or it is not a notebook.
    """
    try:
        return strip(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such notebook") from None
    except ValueError as error:  # JSON, UTF-8 and UserError are all ValueErrors
        raise UserError(f"{path}: {error}") from None


def _bare(cell: dict[str, Any], spare_id: str) -> dict[str, Any]:
    bare = {"id": spare_id} | {key: cell[key] for key in KEPT if key in cell}
    if isinstance(bare["source"], str):
        bare["source"] = bare["source"].splitlines(keepends=True)
    tags = cell["metadata"].get("tags")
    bare["metadata"] = {"tags": tags} if tags else {}
    if cell["cell_type"] == "code":
        bare |= {"execution_count": None, "outputs": []}
    return bare


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.get("name") == "stdout" and joined and joined[-1].get("name") == "stdout":
            joined[-1]["text"] += output["text"]
            continue
        joined.append(copy.deepcopy(output))
    for output in joined:
        if output["output_type"] == "stream":
            output["text"] = ADDRESS.sub("", output["text"])
        elif text := output.get("data", {}).get("text/plain"):
            output["data"]["text/plain"] = ADDRESS.sub("", text)
    return joined


def main() -> int:
    """Strip standard input, as a git filter does."""
    try:
        notebook = strip(json.loads(sys.stdin.buffer.read().decode()))
    except ValueError as error:  # JSON, UTF-8 and UserError are all ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(dumps(notebook).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
