"""Sections of params.yaml as typed structs: what is unknown, missing or out of range is refused."""

import copy
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from fasa.errors import UserError

T = TypeVar("T")
Count = Annotated[int, Meta(ge=0)]  # 0, 1, 2 ...
Positive = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
NonNegative = Annotated[float, Meta(ge=0)]
Above0 = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*\Z")  # what may reach a shell
Name = Annotated[str, Meta(pattern=NAME.pattern)]
Text = Annotated[str, Meta(min_length=1)]
PLAIN = (str, int, float, type(None))


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of params.yaml: fields are its keys, their types say what is allowed.

    Ranges stand in the types above or in `msgspec.Meta`; what hangs on two fields at once is checked in
    ``__post_init__``, which raises a ValueError.
    """


def read(kind: type[T], value: Any, where: str = "") -> T:
    """A `Section`, or any type msgspec knows, from plain data.

    Args:
        where: dotted path of the value in params.yaml, as ``dvc exp run -S`` takes it.

    Raises:
        UserError: one line with the dotted path of what is wrong.
    """
    refuse_odd(value, where)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `")
        inner = re.sub(r"^\$\.?|`.*$", "", place.removeprefix("key` in `"))
        while "[...]" in inner:
            inner = inner.replace("[...]", _entry(kind, value, inner.partition("[...]")[0], str(error)), 1)
        path = ".".join(filter(None, [where, inner])) or "the file"
        if "matching regex" in message:
            message = f"{_no_name(value, inner)}is no name; letters, digits and _ make one, a letter first"
        raise UserError(f"params.yaml: {path}: {message}") from None


def _entry(kind: type, value: Any, path: str, message: str) -> str:
    """Which entry of the dict at a path msgspec speaks of, as ``.name``: the one that alone is refused so."""
    parts = [part for part in re.split(r"[.\[\]]", path) if part]
    for key in _at(value, parts):
        alone = copy.deepcopy(value)
        entries = _at(alone, parts)
        kept = entries[key]
        entries.clear()
        entries[key] = kept
        try:
            msgspec.convert(alone, kind)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return f".{key}"
    return ".?"


def _at(value: Any, parts: list[str]) -> Any:
    for part in parts:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _no_name(value: Any, path: str) -> str:
    """What should be a name, at a path of msgspec's, ``rows`` or ``run.rows[0]``, or is a key there."""
    try:
        value = _at(value, [part for part in re.split(r"[.\[\]]", path) if part])
        bad = value if isinstance(value, str) else next(key for key in value if not NAME.match(key))
    except (LookupError, TypeError, ValueError, StopIteration):  # behind an Ellipsis
        return ""
    return f"{bad!r} "


def refuse_odd(value: Any, where: str) -> None:
    """Refuse NaN, infinity, and what JSON has not, anywhere in plain data, by the path of the first."""
    if not isinstance(value, (*PLAIN, list, tuple, dict)):
        kind = type(value).__name__
        raise UserError(f"params.yaml: {where} is {str(value)!r}, a {kind}; put text into quotation marks")
    if isinstance(value, float) and value - value != 0:
        raise UserError(f"params.yaml: {where} is {value}; it must be a finite number")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if not isinstance(key, PLAIN):
            raise UserError(f"params.yaml: {where} has the key {key!r}; a key is text or a number")
        refuse_odd(part, f"{where}.{key}" if where else str(key))


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two nested dicts as one, the values of `above` where both have one; a None there leaves it out."""
    both = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(below.get(key), dict)
        both[key] = merged(below[key], value) if nested else value
    return {key: value for key, value in both.items() if value is not None}


def resolved(sections: dict[str, Any], name: str) -> dict[str, Any]:
    """A profile's section of params.yaml with what it takes from the one that its `like` names.

    Key by key, but for schedules and data of another kind, which stand for themselves; null takes nothing.

    Raises:
        UserError: there is no such section, or it is itself like another.
    """
    section = sections[name]
    if not isinstance(section, dict) or "like" not in section:
        return section
    other = sections.get(section["like"]) if isinstance(section["like"], str) else None
    if not isinstance(other, dict) or "like" in other or not isinstance(other.get("data"), dict):
        raise UserError(
            f"params.yaml: {name}.like is {section['like']!r}; it must be a profile that is like no other"
        )
    above = {key: value for key, value in section.items() if key != "like"}
    whole = {"train", "warmup", "pretrain"} & above.keys()
    data = above.get("data", {})
    if isinstance(data, dict) and data.get("kind", other["data"].get("kind")) != other["data"].get("kind"):
        whole |= {"data"}  # of another kind, which has nothing in common
    below = {key: value for key, value in other.items() if key not in whole}
    return merged(dict(configs=section["like"]) | below, above)


def is_number(value: Any) -> bool:
    """Whether it is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
