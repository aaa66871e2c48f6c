"""Where the repository is, and what its params.yaml says for the active profile."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fasa.errors import UserError


def root() -> Path:
    """The repository's root: the nearest folder, from the current one upward, that holds dvc.yaml.

    Never taken from ``DVC_ROOT``: under ``dvc exp run --temp`` that names the user's checkout, not the copy
    in which the stage runs.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise UserError(f"no dvc.yaml in {here} or above it: call this from inside the repository")


def parse_yaml(text: str) -> Any:
    """A YAML 1.2 value, read as DVC reads it: ``1e-3`` is a number and ``no`` a string, unlike in PyYAML."""
    return YAML(typ="safe", pure=True).load(text)


def load_params() -> dict[str, Any]:
    """All of params.yaml, the active profile's section lifted to the top.

    Raises:
        UserError: params.yaml is missing or broken, or has no section for its ``profile``.
    """
    path = root() / "params.yaml"
    try:
        params = parse_yaml(path.read_text())
    except (OSError, YAMLError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    profile = params.get("profile")
    if not isinstance(params.get(profile), dict):
        raise UserError(f"{path}: profile is {profile!r}, but there is no section of that name")
    return lift(params, profile)


def lift(params: dict[str, Any], profile: str) -> dict[str, Any]:
    """For profile ``embedded``, ``{"seeds": s, "embedded": {"data": d}}`` is ``{"seeds": s, "data": d}``."""
    rest = {name: value for name, value in params.items() if name != profile}
    return rest | params.get(profile, {})
