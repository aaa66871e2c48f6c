"""The kinds of data sets by name; the plan alone reads them: a new kind runs no stage of another again."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from fasa.errors import UserError
from fasa.sections import Section, read

DETECTION = {
    "glyphs": "fasa.data.glyphs",
    "coco": "fasa.data.coco",
    "lvis_v1": "fasa.data.lvis_v1",
}
CLASSIFICATION = {
    "glyphs": "fasa.data.glyph_crops",
    "digits": "fasa.data.digits_lt",
    "cifar100": "fasa.data.cifar_lt",
    "folder": "fasa.data.folder",
}


def named(kinds: Mapping[str, str], section: Any, where: str) -> str:
    """Return the `kind` of a section.

    Raises:
        UserError: there is none, or it is unknown.
    """
    kind = section.get("kind") if isinstance(section, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"params.yaml: {where}.kind is {kind!r}; known: {', '.join(kinds)}")
    return kind


def find(kinds: Mapping[str, str], section: Any, where: str) -> tuple[ModuleType, Section]:
    """Return the module of a section's `kind`, and the section as its `Settings`.

    Args:
        kinds: `DETECTION` or `CLASSIFICATION`.
        section: of params.yaml, plain data.
        where: its dotted path there.

    Raises:
        UserError: an unknown kind, or a key or value that it does not take.
    """
    module = import_module(kinds[named(kinds, section, where)])
    return module, read(module.Settings, section, where)
