"""An mmengine config, and what a profile of params.yaml has in place of its values."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from fasa.errors import UserError


def overridden(path: str | Path, changes: dict[str, Any], profile: str) -> Config:
    """A config, with what a profile has in place of its own values.

    Raises:
        UserError: what has no place there.
    """
    cfg = Config.fromfile(path)
    if unknown := changes.keys() - cfg.keys():
        raise UserError(f"params.yaml: {profile}.config.{min(unknown)} is not in {path}")
    try:
        cfg.merge_from_dict(alike(changes, cfg.to_dict()))
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise UserError(
            f"params.yaml: {profile}.config does not fit {path} ({' '.join(str(error).split())})"
        ) from None
    return cfg


def alike(value: Any, base: Any) -> Any:
    """A copy of plain data in which lists are tuples where `base` has tuples: YAML knows none.

    Args:
        value: nested as `base`; a list's entries may be named by their places, ``{"2": ...}``.
    """
    if isinstance(value, dict):
        inner = dict(enumerate(base)) if isinstance(base, list) else base if isinstance(base, dict) else {}
        return {
            str(key): alike(one, inner.get(int(key) if isinstance(base, list) else key))
            for key, one in value.items()
        }
    if isinstance(value, list):
        first = base[0] if isinstance(base, list | tuple) and base else None
        kind = tuple if isinstance(base, tuple) else list
        return kind(alike(one, first) for one in value)
    return value
