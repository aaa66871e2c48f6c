"""What a stage imports, found in its notebook, its configs and the modules of `fasa`."""

import ast
import re
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import grimp
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fasa.pipeline import strip

ROOT = "fasa"
PINS = Path("constraints.txt")
BESIDE = {"mmdet": ["mmcv"]}  # which it imports and does not ask for
# That requirements are read for: every machine must find the same.
MACHINE = default_environment() | dict(extra="", python_version="3.11", python_full_version="3.11.0")


@cache
def graph() -> grimp.ImportGraph:
    """All imports of modules of this checkout, those inside functions among them."""
    return grimp.build_graph(
        ROOT, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def imports(source: str) -> set[str]:
    """The modules that source imports, and those of `fasa` that its strings name (``custom_imports``)."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & graph().modules
    return found


def closure(roots: Iterable[str]) -> tuple[set[str], set[str]]:
    """Modules of `fasa`, and packages of others, that importing `roots` brings in.

    With a module comes the package it lies in, and with that all that it imports.
    """
    mine, others, todo = set(), set(), {ROOT, *roots}
    while todo:
        module = todo.pop()
        if module.partition(".")[0] != ROOT:
            others.add(module.partition(".")[0])
        elif module in graph().modules and module not in mine:
            mine.add(module)
            todo |= graph().find_modules_directly_imported_by(module)
            todo.add(module.rpartition(".")[0] or ROOT)
    return mine, others


def file_of(module: str) -> Path:
    """The file of a module of `fasa`, from the root of the checkout."""
    path = Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def data_files(modules: Iterable[str]) -> list[Path]:
    """What modules read from beside them: the report's tables, the source of the evaluator's core."""
    beside = {file_of(module): file_of(module).parent.iterdir() for module in modules}
    return [
        path
        for module, paths in beside.items()
        for path in paths
        if path.suffix in (".yaml", ".cpp") and path.name in module.read_text()
    ]


def config_files(path: Path) -> list[Path]:
    """A config of mmengine and the files of this checkout that it is based on."""
    found = [path]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "_base_":
            bases = ast.literal_eval(node.value)
            for base in [bases] if isinstance(bases, str) else bases:
                if "::" not in base:  # else another package's
                    found += config_files(Path(path.parent, base))
    return [Path(one).resolve().relative_to(Path.cwd()) for one in found]


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The files' contents as `fasa.pipeline.strip.content_hash`, by name."""
    return {path.as_posix(): content_hash(path) for path in sorted(set(paths))}


content_hash = cache(strip.content_hash)  # many stages have the same files


@cache
def pins() -> dict[str, str]:
    """The versions that set-up installs, by the names of the distributions in lower case."""
    lines = re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s;#]+)", PINS.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


@cache
def distributions() -> dict[str, list[str]]:
    """Of each package that can be imported here, the distributions that it comes from."""
    return metadata.packages_distributions()


@cache
def requirements(name: str) -> frozenset[str]:
    """The distributions that a distribution asks for, directly and through others, itself among them."""
    found, todo = set(), [name]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found.add(one)
        try:
            wanted = [Requirement(line) for line in metadata.requires(one) or []]
        except metadata.PackageNotFoundError:
            continue
        wanted = [one for one in wanted if one.marker is None or one.marker.evaluate(MACHINE)]
        todo += [canonicalize_name(one.name) for one in wanted]
    return frozenset(found)


def packages(names: Iterable[str]) -> dict[str, str]:
    """The pinned versions of all that some packages, named as they are imported, stand on."""
    names = {one for name in names for one in (name, *BESIDE.get(name, ()))}
    names -= {ROOT, "dvc"}  # dvc makes no result
    mine = {canonicalize_name(one) for name in names for one in distributions().get(name, [])}
    needed = set().union(*map(requirements, mine))
    return {name: pins()[name] for name in sorted(needed) if name in pins()}
