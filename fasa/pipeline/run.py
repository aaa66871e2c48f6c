"""Run a notebook as a stage: ``python -m fasa.pipeline.run NOTEBOOK -o EXECUTED [-p name=value ...]``.

Under DVC the notebook's cell tagged ``parameters`` is followed by exactly what the stage declares under
``params``, plus the -p values; by hand, by the -p values alone. EXECUTED is written only when all cells have
run and nothing that the stage depends on was edited meanwhile.

A notebook must have closed its files when its last cell ends: its kernel is killed then.
"""

import argparse
import ast
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from fasa.errors import UserError
from fasa.pipeline import strip
from fasa.pipeline.process import die_with_starter, sole_owner
from fasa.pipeline.project import parse_yaml, root
from fasa.pipeline.stage import Inputs, changes, read_inputs, variables

# the same in every run, so that what a notebook writes is too
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "0",
    # glibc gives large blocks back to the kernel and takes them again in every step: a fifth of its time
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
}


def run(source: Path, executed: Path, given: dict[str, Any]) -> None:
    """Execute a notebook with the parameters of its stage (``DVC_STAGE``) and those given.

    Raises:
        UserError: a parameter that the notebook does not have, a cell that failed, another run of the same
            stage, or an input that was edited during the run. EXECUTED is then as it was.
    """
    stage = os.environ.get("DVC_STAGE")
    before = _inputs(stage, source)
    notebook = strip.read(source)
    declared = variables(before.params) if before.params else {}
    parameters = _accepted(declared | given, notebook, source)
    work = _work_folder(stage or source.stem, before, given)
    _set_environment(work, declared | given if stage else None)
    sys.modules["rfc3987_syntax"] = None  # jsonschema does without: 0.3 s to import papermill, not 1.4 s
    from fasa.pipeline.execute import execute  # slow, so only after the checks

    with sole_owner(work):
        result = execute(notebook, parameters, source, partial=work / source.name)
        if edited := changes(before, _inputs(stage, source)):
            raise UserError(f"{', '.join(edited)} changed during the run: its result is discarded")
        strip.write(strip.normalise(result), executed)
        shutil.rmtree(work)  # or a forced run would resume from the end of this one


def _inputs(stage: str | None, source: Path) -> Inputs:
    inputs = read_inputs(stage) if stage else Inputs({}, {})
    if not source.is_file():
        raise UserError(f"{source}: no such notebook")
    inputs.files.setdefault(str(source), hashlib.sha256(source.read_bytes()).hexdigest())
    return inputs


def _accepted(parameters: dict[str, Any], notebook: dict[str, Any], source: Path) -> dict[str, Any]:
    """The parameters, all of which the notebook must have; ``profile`` only where it has it."""
    cells = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    try:
        nodes = [node for cell in cells for node in ast.walk(ast.parse("".join(cell["source"])))]
    except SyntaxError as error:
        raise UserError(f"{source}: its cell tagged 'parameters' is not plain Python: {error}") from None
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for name in sorted(parameters.keys() - names - {"profile"}):
        raise UserError(f"{source}: its cell tagged 'parameters' has no {name!r}: add it, or do not pass it")
    return {name: value for name, value in parameters.items() if name in names}


def _work_folder(name: str, inputs: Inputs, given: dict[str, Any]) -> Path:
    """Where unfinished work survives: in the user's checkout, also if the stage runs in a temporary copy.

    Keyed by the content of all inputs, so that changed code or settings never resume an older checkpoint.
    """
    content = json.dumps([*inputs, given], sort_keys=True, default=str)
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    checkout = Path(os.environ.get("DVC_ROOT") or root())
    return checkout / ".fasa" / name.replace("/", "_") / key


def _set_environment(work: Path, declared: dict[str, Any] | None) -> None:
    """What the kernel inherits; if ``declared`` is given, ``fasa.notebook.params`` reads nothing else."""
    os.environ.update(ENVIRONMENT, FASA_WORK_DIR=str(work))
    # in a temporary copy, the copy's modules and not the installed ones
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root()), os.environ.get("PYTHONPATH")]))
    if declared is not None:
        os.environ["FASA_PARAMS"] = json.dumps(declared, default=str)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fasa.pipeline.run", description=__doc__.split("\n\n")[1])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="EXECUTED")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", dest="given", help="as YAML")
    return parser.parse_args(argv)


def _named_value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if name.isidentifier() and equals:
            return name, parse_yaml(value)
    except YAMLError:
        pass
    raise UserError(f"-p {text}: expected name=value, the value in YAML")


def main(argv: list[str] | None = None) -> int:
    if "DVC_STAGE" in os.environ:  # by hand it may be meant to outlive its terminal
        die_with_starter()
    arguments = _arguments(argv)
    try:
        run(arguments.notebook, arguments.output, dict(map(_named_value, arguments.given)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"error: {arguments.notebook}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
