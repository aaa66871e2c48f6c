"""Sections of params.yaml as dataclasses: what is unknown, missing or of another type is refused."""

import dataclasses
from collections.abc import Collection
from typing import Any

from fasa.errors import UserError


def at_least(least: float, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field for numbers from `least` on."""
    return dataclasses.field(default=default, metadata=dict(least=least))


def known(values: tuple[str, ...], default: str | None = None) -> Any:
    """A dataclass field for one of `values`, the first where no `default` is named."""
    return dataclasses.field(default=default or values[0], metadata=dict(known=values))


def strict(kind: type, section: Any, where: str) -> Any:
    """Build the dataclass `kind` from a section of params.yaml; `where` names the section.

    Raises:
        UserError: on a key that is unknown, missing or of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    check_keys(section, fields, where)
    for name, field in fields.items():
        if name not in section:
            if field.default is field.default_factory is dataclasses.MISSING:
                raise UserError(f"params.yaml: {where}.{name} is missing")
            continue
        value, wanted = section[name], float | int if field.type is float else field.type
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, wanted):
            raise UserError(
                f"params.yaml: {where}.{name} is {value!r}, not {getattr(field.type, '__name__', wanted)}"
            )
        least = field.metadata.get("least")
        if least is not None and value is not None and value < least:
            raise UserError(f"params.yaml: {where}.{name} is {value!r}; it must be at least {least}")
        if value not in field.metadata.get("known", (value,)):
            known = ", ".join(field.metadata["known"])
            raise UserError(f"params.yaml: {where}.{name} is {value!r}; known: {known}")
    return kind(**section)


def check_keys(section: Any, known: Collection[str], where: str) -> None:
    """Refuse keys of a section of params.yaml that nothing would read."""
    if not isinstance(section, dict):
        raise UserError(f"params.yaml: {where} is {section!r}, not a section of keys and values")
    for key in section:
        if key not in known:
            raise UserError(f"params.yaml: {where}.{key} is unknown; known: {', '.join(sorted(known))}")


def is_number(value: Any) -> bool:
    """Whether it is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
